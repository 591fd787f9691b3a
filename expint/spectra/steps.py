"""How stiff the non-linear part of the reverse SDE is: the spectrum of its Jacobian along the path
of a plan, times the step, in each form, beside the linear part; and the same for equal steps in
each clock.

Every form's F is affine in the denoiser D, so that one spectrum serves them all: with g an
eigenvalue of α ∂D/∂x, p = 1 + ℓ² and c_skip = σd²/(σ² + σd²),

    form       linear part A dt                  eigenvalue of b ∂F/∂x dt
    data       d log α − p dλ                    p g dλ
    noise      d log α                           −p (1 − g) dλ
    precond    d log α − p (1 − c_skip) dλ       p (g − c_skip) dλ
    explicit   0                                 d log α − p (1 − g) dλ

For the exact denoiser α ∂D/∂x is the posterior covariance of the data over σ², so that g ≥ 0. A
clock c changes none of these numbers for small steps: it decides where N equal steps are long. At σ
they are as long as (c_N − c_0)/N · dλ/dc in λ.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint import runs
from expint.equations import reverse_sde
from expint.equations.sde import value_and_rate
from expint.noise import initial_state, per_sample
from expint.numerics.float64 import is_whole
from expint.plans import Plan
from expint.registry import unknown
from expint.runs import describe
from expint.runs.start import start_state
from expint.sampling import arguments_for, plan_sampling
from expint.schedules import Schedule
from expint.spectra.krylov import spectrum
from expint.spectra.studies import StepStiffness, StiffnessStudy

# Each is a function of (schedule, sigma_data), and of the time.
_CLOCKS: dict[str, Callable[[Schedule, float, Tensor], Tensor]] = {
    "lambda": lambda schedule, scale, t: schedule.lam(t),
    "time": lambda schedule, scale, t: -t,
    "sigma": lambda schedule, scale, t: -torch.exp(-schedule.lam(t)),
    "arctan": lambda schedule, scale, t: -torch.arctan(torch.exp(-schedule.lam(t)) / scale),
}
CLOCKS = ("plan", *_CLOCKS, "own")
"""Steps by name: "plan", those of the plan; otherwise as many equal steps in a clock: λ, t, σ,
arctan(σ/σd) or the form's own."""


def stiffness(
    model: Any,
    plan: Any = None,
    *,
    forms: Sequence[str] | None = None,
    clocks: Sequence[str] = CLOCKS,
    ell: float | None = None,
    sigma_data: float | None = None,
    states: int | Tensor = 8,
    shape: Sequence[int] | None = None,
    krylov: int = 12,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    progress: bool = False,
) -> StiffnessStudy:
    """Stiffness of the non-linear part of the reverse SDE along the path of a plan: the range of
    the eigenvalues of b ∂F/∂x in each form, times the step, beside the linear part's; and the same
    for as many equal steps in each clock.

    Args:
        model: as for `expint.sample`.
        plan: a `Plan`, or the grid: a name, a builder or the times. Default: 20 steps of the
            default solver on the default grid. Its states are those at which the Jacobian is
            looked at, and its steps those that the rates are multiplied by.
        forms: names as for `reverse_sde`; default: "data", "noise", "precond" where sigma_data is
            known, and "log-sigma", with all of the drift in F.
        clocks: some of `CLOCKS`; tables by noise level and the figure show the first.
        ell: stochasticity ℓ ≥ 0; default: the plan's.
        sigma_data: of the preconditioned form and the clock "arctan"; default: the model's, or 1
            for the clock alone.
        states: how many samples are followed, or their states at the first time, (n, *event).
        shape: of one sample, for a number of states; default: the model's.
        krylov: Jacobian-vector products per state and step.
        seed: the run whose samples are followed; the Krylov spaces begin with normals of the next.
        dtype: of the states, float32 by default.
        progress: show a progress bar.

    Returns:
        The study. Its extremes are Ritz values from `krylov` steps of Arnoldi's method with
        Jacobian-vector products in forward mode, or central differences for a model without them:
        exact to rounding if `krylov` reaches the dimension, otherwise at most (symmetric
        Jacobians) or about as large as the true ones, the outer ones being the most accurate. It
        costs 1 + 2 `krylov` evaluations of all states per step, roughly.

    Raises:
        TypeError, ValueError: before the first evaluation, for anything that does not fit.
        FloatingPointError: if a state or a derivative becomes NaN or infinite.

    Source: Saad, Numerical Methods for Large Eigenvalue Problems (2011), chapter 6.2 (Arnoldi);
        Hutchinson (1990) for the trace; the table above for the forms.

    Example:
        >>> from expint import schedules, targets
        >>> target = targets.Gaussian([0.0, 0.0], [1.0, 0.01], schedules.EDM())
        >>> study = stiffness(target, "karras", sigma_data=0.5)
        >>> least = study.least()
        >>> least.form, least.clock, round(least.peak, 2)
        ('precond', 'arctan', 0.39)
    """
    about = describe(model)
    schedule = about.schedule
    given = isinstance(states, Tensor)
    for name, value in (("states", 1 if given else states), ("krylov", krylov)):
        if not is_whole(value) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    event = about.shape if shape is None else tuple(shape)
    if event is None and not given:
        raise ValueError("The model does not say the shape of its samples: give shape=(…).")
    own = about.sigma_data if sigma_data is None else sigma_data
    if forms is None:
        forms = ["data", "noise", *(["precond"] if own is not None else []), "log-sigma"]
    for name, listed in (("forms", forms), ("clocks", clocks)):
        if isinstance(listed, str) or not listed:
            raise ValueError(f"{name} is a sequence of names, got {listed!r}.")
    for clock in clocks:
        if clock not in CLOCKS:
            raise unknown("clock", clock, CLOCKS)
    options = {"plan" if isinstance(plan, Plan) else "grid": "default" if plan is None else plan}
    made = plan_sampling(schedule, **arguments_for(about, None, options))
    assert made.sde.diffusion
    level = made.sde.diffusion.ell if ell is None else ell
    if level is None:
        raise ValueError("The plan has a noise scale in place of ell: give ell=… for the forms.")
    scales = {form: own if form == "precond" else None for form in forms}
    sdes = {form: reverse_sde(schedule, form, level, sigma_data=scales[form]) for form in forms}
    finite = torch.isfinite(schedule.lam(made.grid))
    kept = torch.nonzero(finite[:-1] & finite[1:]).flatten().tolist()
    if not kept:
        raise ValueError("The grid has no step between finite noise levels.")

    batch = states if isinstance(states, Tensor) else (states, *(event or ()))
    begin = start_state(about, batch, made, partial(per_sample, seed), None, dtype, None)
    n, *event = begin[0].shape
    with torch.no_grad(), tqdm(total=len(kept), disable=not progress, unit="step") as bar:
        path = [begin[0]]
        runs.execute(made, model, *begin, lambda step, nfe, t, x, denoised: path.append(x))
        found = []
        for k in kept:
            starts = per_sample(seed + 1, n, start=k * n)
            v = initial_state(starts, event, torch.float64, path[k].device)
            found.append(spectrum(model, path[k], made.grid[k], v, krylov))
            bar.update(1)
    ritz, means = (torch.stack(values) for values in zip(*found, strict=True))
    g, grid = ritz.flatten(1), made.grid[[*kept, kept[-1] + 1]]
    parts = tuple(
        _part(sdes[form], clock, grid, g, 1.0 if own is None else own)
        for form in forms
        for clock in clocks
    )
    lam = schedule.lam(grid)
    columns = (grid[:-1], torch.exp(-lam[:-1]), lam.diff(), g.real.amin(1), g.real.amax(1))
    rest = (g.imag.abs().amax(1), means.mean(1))
    return StiffnessStudy(
        type(model).__name__,
        f"ell={level:g}, {len(kept)} steps, {n} states, {min(krylov, math.prod(event))} "
        f"Krylov vectors, {schedule}",
        *(tuple(column.tolist()) for column in (*columns, *rest)),
        parts=parts,
    )


def _part(sde: Any, clock: str, grid: Tensor, g: Tensor, scale: float) -> StepStiffness:
    """Rates in t, (A, b ∂F/∂x), over dλ/dt, times the step in λ.

    Args:
        grid: times, the last one where the last step ends; shape (steps + 1,).
        g: shape (steps, any).
    """
    diffusion, schedule = sde.diffusion, sde.diffusion.schedule
    times, count = grid[:-1], len(grid) - 1
    lam, fall = value_and_rate(schedule.lam, times, sde)
    linear, b, _ = sde.coefficients_at(times)
    (on_x, on_data), _ = diffusion.conversions("data", diffusion.prediction, times, None)
    eigenvalues = b[:, None] * (on_x[:, None] + (on_data / schedule.alpha(times))[:, None] * g)
    planned = schedule.lam(grid[1:]) - lam
    step = planned
    if clock != "plan":
        own = sde.clock if clock == "own" else partial(_CLOCKS[clock], schedule, scale)
        step = (own(grid[-1]) - own(grid[0])) / count * fall / value_and_rate(own, times, sde)[1]
    ideal = float((planned / fall * eigenvalues.abs().amax(1)).abs().mean())
    found = (step / fall)[:, None] * eigenvalues
    columns = (step / fall * linear, found.real.amin(1), found.real.amax(1), found.abs().amax(1))
    lists = tuple(tuple(each.tolist()) for each in columns)
    return StepStiffness(diffusion.form, clock, *lists, ideal=ideal)
