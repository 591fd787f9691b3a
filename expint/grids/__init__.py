"""Time grids: where the steps of a sampler lie, from the noise end to the data end.

Every builder `grid(schedule, steps, ..., start=None, stop=None, final="denoise")` returns a float64
tensor of steps + 1 times, from `start` to `stop`: times inside the schedule's sampling range, whose
ends they are by default. With `final="denoise"` the last step goes on to σ = 0, where the exact
first-order step returns αD, so that no noise is left in the sample; with `final="none"` all steps
lie between the two and the sample keeps the noise of the data end.

Where a grid starts at σ = ∞, those that are equal steps of a time (or of an angle) simply start
there. Those laid out in σ or λ put their first point at σ = ∞ and the others from `first_sigma` (80
by default) down to the data end.
"""

from functools import partial

from expint.grids.edm_table import edm_iddpm, edm_ve, edm_vp, karras
from expint.grids.layout import FINALS, FIRST_SIGMA, GridBuilder, check
from expint.grids.published import AYS_TABLES, NAMED, ays, kl_optimal, polyexponential
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
from expint.registry import Registry

__all__ = [
    "AYS_TABLES", "FINALS", "FIRST_SIGMA", "SPACINGS", "GridBuilder", "ays", "beta", "check",
    "cosine", "discrete", "edm_iddpm", "edm_ve", "edm_vp", "exponential", "get", "karras",
    "kl_optimal", "names", "polyexponential", "quadratic", "register", "shifted", "sigmoid",
    "uniform_lambda", "uniform_time",
]  # fmt: skip

_GRIDS = Registry[GridBuilder]("grid", ", or give the times themselves")
get = _GRIDS.get
"""The grid registered under a name; a ValueError gives the nearest names."""
names = _GRIDS.names
"""Names of all registered grids, sorted."""
register = _GRIDS.register
"""`register(name)` is a decorator that makes a grid builder available as `get(name)`."""
for _builder in (
    beta, cosine, discrete, edm_iddpm, edm_vp, karras, quadratic, shifted, sigmoid, uniform_lambda,
    uniform_time,
):  # fmt: skip
    _GRIDS.add(_builder.__name__, _builder)
for _name, _builder in {"edm_ve": edm_ve, "exponential": exponential, **NAMED}.items():
    _GRIDS.add(_name, _builder)
for _spacing in SPACINGS:
    _GRIDS.add(_spacing, partial(discrete, spacing=_spacing))
