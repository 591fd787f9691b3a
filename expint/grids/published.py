"""Grids that others have published as a formula in log σ or as a table of noise levels."""

import math
from collections.abc import Callable
from functools import partial
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from expint.grids.layout import GridBuilder, SigmaEnds, count_points, evenly, finish, in_sigma
from expint.grids.spread import cosine
from expint.numerics.float64 import are_numbers
from expint.registry import check_choice
from expint.schedules.base import Schedule

AYS_TABLES = {
    "sd15": (
        14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
        0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582,
    ),
    "sdxl": (
        14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141,
        0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582,
    ),
    "deepfloyd": (160.41, 8.081, 3.315, 1.885, 1.207, 0.785, 0.553, 0.293, 0.186, 0.030, 0.006),
    "svd": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}  # fmt: skip
"""The noise levels σ of 10 steps that Align Your Steps found for Stable Diffusion 1.5, Stable
Diffusion XL, the first stage of DeepFloyd-IF and Stable Video Diffusion. Source: arXiv 2404.14507,
table 3, the first two as entries of Stable Diffusion's table as in its authors' quick guide,
https://research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html."""


def all_in_sigma(
    schedule: Schedule,
    steps: int,
    log_sigma: Callable[[float, float, int], Tensor],
    **ends: Unpack[SigmaEnds],
) -> Tensor:
    """`in_sigma` with all steps laid between the ends: for final="denoise" the last of them goes on
    to σ = 0 in place of the data end, so that no evaluation is spent there.
    """
    final = ends.get("final", "denoise")
    count_points(steps, final)
    times = in_sigma(schedule, steps, log_sigma, **ends | {"final": "none"})
    return finish(schedule, times[: len(times) - (final == "denoise")], final)


def ays(schedule: Schedule, steps: int, table: str = "sd15", **ends: Unpack[SigmaEnds]) -> Tensor:
    """The noise levels of Align Your Steps, log σ interpolated linearly in the step for other
    numbers of steps than 10.

    All steps lie between the ends; with final="denoise" the last goes to σ = 0 in place of the data
    end. On a schedule of other ends than the table's, log σ is stretched to them.

    Raises:
        ValueError: for an unknown table.

    Source: Sabour, Fidler & Kreis, arXiv 2404.14507, table 3 and section 3.3.
    """
    check_choice("The table of Align Your Steps", table, AYS_TABLES)
    levels = np.log(AYS_TABLES[table])
    part = (levels - levels[-1]) / (levels[0] - levels[-1])

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        at = np.interp(np.linspace(0.0, 1.0, count), np.linspace(0.0, 1.0, len(part)), part)
        return last + (first - last) * torch.from_numpy(at)

    return all_in_sigma(schedule, steps, log_sigma, **ends)


def polyexponential(
    schedule: Schedule, steps: int, rho: float = 1.0, **ends: Unpack[SigmaEnds]
) -> Tensor:
    """log σ along the power rho of equal steps from 1 to 0; rho = 1 is `exponential`.

    Raises:
        ValueError: if rho is not positive and finite.

    Source: `get_sigmas_polyexponential` of k-diffusion.
    """
    if not (are_numbers(rho) and 0 < rho < math.inf):
        raise ValueError(f"The grid 'polyexponential' needs rho > 0, got {rho!r}.")

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        return last + (first - last) * evenly(1.0, 0.0, count) ** rho

    return in_sigma(schedule, steps, log_sigma, **ends)


kl_optimal = cosine
"""Equal steps of arctan(σ/std): the grid `cosine` under the name that other libraries use."""

NAMED: dict[str, GridBuilder] = {
    "kl_optimal": kl_optimal,
    "polyexponential": polyexponential,
    **{f"ays_{table}": partial(ays, table=table) for table in AYS_TABLES},
}
"""By the names under which they are registered."""
