"""`expint convert`: a checkpoint as safetensors, or a list of what is in it."""

from pathlib import Path

import click

from diffusion_adapters.checkpoints.conversion import convert_checkpoint
from diffusion_adapters.checkpoints.pickles import read_checkpoint
from diffusion_adapters.checkpoints.state_dicts import contents
from diffusion_adapters.cli.options import option

_KEY = "What to take, such as ema or model.state_dict; may be repeated."


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument(
    "target", metavar="[OUT.safetensors]", required=False, type=click.Path(path_type=Path)
)
@option("--key NAME", _KEY, multiple=True)
@option("--trust", "Allow IN to execute code. Only for files whose origin you trust.")
def convert(source: Path, target: Path | None, key: tuple[str, ...], trust: bool) -> None:
    """Write the tensors of a checkpoint as safetensors; without OUT, list what is in it.

    Files of torch.save (.pt, .pth) with tensors in plain containers are read without executing
    anything. Pickles (.pkl) and files of torch.save with other objects execute code when they are
    read: they are refused without --trust, with a list of what they would import.
    """
    if target is None:
        if key:
            raise ValueError("--key says what to write: name the new file, OUT.safetensors.")
        for line in contents(read_checkpoint(source, trust)):
            click.echo(line)
        return
    done = convert_checkpoint(source, target, key, trust)
    what = f"{' and '.join(key)} of {source.name}" if key else source.name
    click.echo(f"{what}: {done.tensors} tensors, {done.numbers:,} numbers, in {target}")
    if done.left_out:
        names = ", ".join(done.left_out)
        click.echo(f"left out, being neither tensors nor plain values: {names}", err=True)
