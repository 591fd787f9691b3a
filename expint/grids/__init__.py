"""Time grids: where the steps of a sampler lie, from the noise end to the data end.

Every builder `grid(schedule, steps, ..., final=...)` returns a float64 tensor of steps + 1 times.
With `final="denoise"` (the default) the last step goes to σ = 0, where the exact first-order step
returns αD, so that no noise is left in the sample; with `final="none"` all steps lie inside the
schedule's sampling range and the sample keeps the noise of its data end.

Where the sampling range starts at σ = ∞, grids that are equal steps of a time (or of an angle)
simply start there. Those laid out in σ or λ put their first point at σ = ∞ and the others from
`first_sigma` (80 unless told otherwise) down to the data end.
"""

from expint.grids.edm_table import edm_iddpm, edm_ve, edm_vp, karras
from expint.grids.layout import FINALS, FIRST_SIGMA, GridBuilder, check, default
from expint.grids.registry import get, names, register
from expint.grids.spread import (
    beta,
    cosine,
    exponential,
    quadratic,
    shifted,
    sigmoid,
    uniform_lambda,
    uniform_time,
)
from expint.grids.training_table import SPACINGS, discrete

__all__ = [
    "FINALS",
    "FIRST_SIGMA",
    "SPACINGS",
    "GridBuilder",
    "beta",
    "check",
    "cosine",
    "discrete",
    "edm_iddpm",
    "edm_ve",
    "edm_vp",
    "exponential",
    "get",
    "karras",
    "names",
    "quadratic",
    "register",
    "shifted",
    "sigmoid",
    "uniform_lambda",
    "uniform_time",
]
