"""Checkpoints as safetensors: read once, with trust if need be, and never executed again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from diffusion_adapters.checkpoints.pickles import CheckpointError, read_checkpoint
from diffusion_adapters.checkpoints.state_dicts import contents, entries, flat_tensors, select
from expint.files import replacing
from expint.guards.arguments import checked

# What a pickled network says of itself, and load_edm compares with the network that gets the
# weights.
RECORDED = ("sigma_min", "sigma_max", "sigma_data", "label_dim", "img_resolution", "img_channels")


@dataclass(frozen=True)
class Conversion:
    """What `convert_checkpoint` wrote.

    Args:
        tensors: the number of tensors.
        numbers: the number of entries in all of them.
        metadata: the text beside them: the name of the source, the keys, and plain values found
            between the tensors.
        left_out: names of objects that are neither tensors nor plain values.
    """

    tensors: int
    numbers: int
    metadata: Mapping[str, str]
    left_out: Sequence[str]


@checked
def convert_checkpoint(
    source: str | Path, target: str | Path, keys: Sequence[str] = (), trust: bool = False
) -> Conversion:
    """Write the tensors of a checkpoint, with their names, shapes and dtypes, as safetensors.

    Args:
        source: a file of torch.save, a pickle (needs `trust`), or safetensors.
        target: the new file, NAME.safetensors. It is written under another name first, and put in
            place whole or not at all.
        keys: what to take of a nested checkpoint, with dots between the levels. One key gives the
            names below it; of several, each name begins with its key. None: the whole, which must
            be one state dict.
        trust: allow the source to execute code.

    Returns:
        What was written.

    Raises:
        UntrustedPickleError: if reading would execute code and `trust` is False.
        CheckpointError: if the source cannot be read, holds several things and no key says which,
            or has no tensors there; or if the target cannot be written. An older target is then
            unchanged.
        ValueError: if the target is not named .safetensors, or is the source.
    """
    origin, goal = Path(source), Path(target)
    if goal.suffix != ".safetensors":
        raise ValueError(f"The new file must be named NAME.safetensors, got {str(goal)!r}.")
    if goal.exists() and origin.exists() and goal.samefile(origin):
        raise ValueError(f"{str(goal)!r} is the source itself: choose another name.")
    state = read_checkpoint(origin, trust)
    chosen = {key: select(state, key, origin) for key in keys}
    tensors: dict[str, Tensor] = {}
    metadata = {"format": "pt", "source": origin.name}
    if keys:
        metadata["keys"] = json.dumps(list(keys))
    left_out: list[str] = []
    if not keys and not any(isinstance(value, Tensor) for _, value in entries(state)):
        held = "; ".join(contents(state))
        raise CheckpointError(f"{str(origin)!r} is not a state dict: give --key. It holds {held}.")
    for key, part in (chosen or {"": state}).items():
        prefix = f"{key}." if len(chosen) > 1 else ""
        # What lies at a key may be one tensor, which has no name of its own.
        below, values, others = flat_tensors({key: part} if isinstance(part, Tensor) else part)
        tensors |= {prefix + name: value for name, value in below.items()}
        metadata |= {prefix + name: json.dumps(value) for name, value in values.items()}
        found = {name: getattr(part, name, None) for name in RECORDED}
        metadata |= {n: repr(float(v)) for n, v in found.items() if isinstance(v, int | float)}
        left_out += [prefix + name for name in others]
    if not tensors:
        where = f"{', '.join(keys) or 'the top'} of {str(origin)!r}"
        raise CheckpointError(f"There are no tensors at {where}: {contents(state)}.")
    # Safetensors takes no views and no shared memory; names that share a tensor get a copy each.
    whole = {name: value.contiguous().clone() for name, value in tensors.items()}
    try:
        with replacing(goal) as part:
            safetensors.torch.save_file(whole, part, metadata)
    except (OSError, ValueError, RuntimeError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"Cannot write {str(goal)!r} ({error}).") from error
    numbers = sum(value.numel() for value in tensors.values())
    return Conversion(len(tensors), numbers, metadata, left_out)
