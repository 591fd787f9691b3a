"""The option --labels: the classes of the samples of a run."""

from pathlib import Path

from diffusion_adapters.cli import options
from diffusion_adapters.cli.options import option
from expint.registry import check_choice

_LABELS = (
    "Classes, with commas, repeated in turn for all samples; 'none' for no class; or a file with "
    "one class in a line for each sample."
)
LABELS = option("--labels LIST", _LABELS, usual="all classes of a class-conditional network")


def classes_of(
    labels: str | None, name: str, label_dim: int, num: int, start: int
) -> list[int] | None:
    """One class per sample, in turn from the first of the run, or None for no classes.

    Raises:
        ValueError: for classes that the network does not have, or more of them than samples; for a
            file of another number of them.
    """
    if labels is None:
        return [i % label_dim for i in range(start, start + num)] if label_dim else None
    if labels.strip().lower() == "none":
        return None
    if not label_dim:
        raise ValueError(f"The network {name!r} has no classes: leave out --labels.")
    what = f"none, or classes 0 to {label_dim - 1}"
    in_file = Path(labels).is_file()
    text = ",".join(Path(labels).read_text().split()) if in_file else labels
    chosen = options.listed("--labels", text, int, what=what)
    for label in set(chosen):
        check_choice("--labels", label, range(label_dim))
    if in_file:
        if len(chosen) != num:
            raise ValueError(f"{len(chosen)} labels in {labels} for {num} samples: give one each.")
        return chosen
    if (came := len(chosen)) > start + num:
        raise ValueError(f"{came} labels for {num} samples: give fewer labels, or --num {came}.")
    return [chosen[i % len(chosen)] for i in range(start, start + num)]
