"""Grids on the spacings that schedulers of diffusers name, and near them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from expint import defaults, grids
from expint.schedules import Schedule

_LIKE = "like_"
SPACED = (*grids.SPACINGS, *(_LIKE + spacing for spacing in grids.SPACINGS))


def spaced(
    config: Mapping[str, Any], schedule: Schedule, steps: int, usual: Any, **ends: Any
) -> Tensor:
    """Times for a number of steps, float64, shape (steps + 1,): entries of the spacing; or for
    "like_…" the default grid, each level but the first moved as little as brings it within half a
    step of the spacing's, so that a run that begins in the middle, with an image's `strength`,
    begins at about the noise level at which it did.

    Args:
        config: with steps_offset, and grid, one of `SPACED`.
        schedule: a table.
        usual: method and table of `expint.defaults.grid`.
        ends: start, stop and final, as for every grid.

    Raises:
        ValueError: as these grids do.
    """
    spacing = config["grid"].removeprefix(_LIKE)
    offset = config["steps_offset"] if spacing == "leading" else 0
    theirs = grids.discrete(schedule, steps, spacing, offset=offset, **ends)
    if spacing == config["grid"]:
        return theirs
    own = defaults.grid(schedule, steps, **usual, **ends)
    count = steps + (ends["final"] == "none")
    gaps = -theirs[:count].diff(append=2.0 * theirs[count - 1 : count] - theirs[count - 2])
    half = ((gaps - 2.0) // 2.0).clamp(min=0.0)  # also of levels that are not rounded to entries
    near = torch.clamp(own[:count], theirs[:count] - half, theirs[:count] + half)
    return torch.cat([own[:1], near[1:], own[count:]])
