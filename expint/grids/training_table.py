"""Sub-grids of the table that a discrete-time network was trained on."""

import numpy as np
import torch
from torch import Tensor

from expint.grids.layout import count_points, ends_of, finish
from expint.schedules.base import Schedule
from expint.schedules.discrete import TabulatedVP

SPACINGS = ("linspace", "leading", "trailing")


def discrete(
    schedule: Schedule,
    steps: int,
    spacing: str = "linspace",
    *,
    offset: int = 0,
    start: float | None = None,
    stop: float | None = None,
    final: str = "denoise",
) -> Tensor:
    """Evenly spread entries of the table that a discrete-time network was trained on.

    Args:
        schedule: a tabulated one (`Discrete`, `IDDPM`).
        steps: the number n of entries taken, plus one if final="none".
        spacing: of the M entries from start to stop, counted from stop, "linspace" takes
            round(i (M−1)/(n−1)), both ends included; "leading" i·⌊M/n⌋ + offset, which leaves out
            the noise end; "trailing" round(M − i M/n) − 1, which leaves out the data end.
        offset: of "leading" only (`steps_offset` in diffusers; 1 for Stable Diffusion).
        start, stop: entries, or times that are rounded to them; None for the ends of the table.
        final: "denoise" or "none".

    Raises:
        ValueError: if the schedule has no table, or fewer entries than the grid needs.

    Source: Lin et al., arXiv 2305.08891, table 2 (the names are those of diffusers).
    """
    count = count_points(steps, final)
    if not isinstance(schedule, TabulatedVP):
        raise ValueError(
            f"The grid 'discrete' needs a tabulated schedule (Discrete, IDDPM), got {schedule}."
        )
    first, last = (round(t) for t in ends_of(schedule, start, stop))
    size = first - last + 1
    if count > size:
        raise ValueError(
            f"The grid 'discrete' needs {count} entries, but {schedule} has {size} from {first} to "
            f"{last}."
        )
    if offset and spacing != "leading":
        raise ValueError(f"offset={offset} belongs to spacing='leading', got spacing={spacing!r}.")
    if spacing == "linspace":
        entries = np.linspace(0, size - 1, count).round()
    elif spacing == "leading":
        entries = np.arange(count) * (size // count) + float(offset)
        if not 0 <= entries[0] <= entries[-1] <= size - 1:
            raise ValueError(
                f"offset={offset} moves entries out of the table: {entries[0]:g} ... "
                f"{entries[-1]:g} of {size}."
            )
    elif spacing == "trailing":
        entries = np.arange(size, 0, -size / count)[:count][::-1].round() - 1.0
    else:
        raise ValueError(f"Unknown spacing={spacing!r}: choose one of {SPACINGS}.")
    return finish(schedule, torch.as_tensor(entries[::-1] + last), final)
