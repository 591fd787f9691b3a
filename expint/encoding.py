"""From data to noise along the ODE, with the solver of a plan on its grid reversed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack, cast

import torch
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.equations.sde import Clock
from expint.fixed_points import rms, solve
from expint.guards.finite import check_state
from expint.guards.training import warn_in_training
from expint.plans import Plan, compile_plan
from expint.runs import Description, Reparametrized, Run, describe, drive, execute
from expint.runs.model import Counted
from expint.sampling import SamplingOptions, arguments_for, plan_sampling
from expint.solvers import Method
from expint.solvers.registry import Solver

_NEAR = {torch.float64: 1e-12, torch.float32: 1e-5}
"""How near a run must come to x0 in root mean square, over that of x0 if it is above 1."""


def encode(
    model: Any,
    x0: Tensor,
    solver: Solver | None = None,
    *,
    refine: bool = False,
    **options: Unpack[SamplingOptions],
) -> Tensor:
    """The initial state from which the ODE leads to given samples: `expint.sample(model, x,
    plan=plan)` returns x0, as nearly as the steps are fine, or with `refine` to rounding. Under
    another condition of the model it returns an edit of x0.

    The plan's solver goes along its grid in the other direction, from data to noise.

    Args:
        model: as for `expint.sample`.
        x0: the samples, shape (batch, *event), float32 or float64: states at the plan's last time.
        solver, options: as for `expint.sample`, at ell=0; by default "seeds-ab4" on the grid
            "karras". The grid ends at the schedule's smallest σ (`final="none"`), since a last step
            to σ = 0 gives a denoised estimate, from which there is no way back.
        refine: repeat it with what a run of the plan misses, until that run returns x0 to rounding:
            for each sample to a root mean square of at most 1e-5 in float32, 1e-12 in float64, and
            a tenth of these where it can be. A round takes the evaluations of two runs; the coarser
            the steps, the more rounds.

    Returns:
        The state at the plan's first time, of the shape and dtype of x0.

    Raises:
        TypeError, ValueError: before the first evaluation for anything that does not fit, and for a
            plan with noise or a last step to σ = 0.
        RuntimeError: if `refine` does not come to an end.

    Source: the inversion of DDIM, arXiv 2010.02502, section 4.3, for any solver of the ODE.

    Example:
        >>> import expint, torch
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
        >>> x0 = torch.tensor([[0.5, -1.0], [2.0, -2.5]])
        >>> plan = expint.plan_sampling(target.schedule, "seeds-2", ell=0, steps=20, final="none")
        >>> x = encode(target, x0, plan=plan, refine=True)
        >>> again = expint.sample(target, x, plan=plan, progress=False)
        >>> torch.allclose(again, x0, atol=1e-5)
        True
    """
    about = describe(model)
    warn_in_training(model)
    check_state(x0)
    if x0.dtype not in _NEAR:
        raise TypeError(f"Samples to encode are float32 or float64, got {x0.dtype}.")
    plan = ode_plan(about, solver, options, usual=("seeds-ab4", "karras"))
    back = mirrored(plan, about.round_time)
    with torch.no_grad():
        find = _refined if refine else _to_noise
        return find(plan, back, model, about, x0)


def one_step_back(
    plan: Plan, model: Any, about: Description, x: Tensor, start: float, end: float
) -> Tensor:
    """The state at the time `start` from which one step of the plan's method without noise leads
    about to x at the time `end`."""
    method = replace(_in_clock(plan.method), operations=())
    back = compile_plan(_mirrored(plan.sde), method, [end, start])
    return _along(plan, back, model, about, x)


def ode_plan(
    about: Description, solver: Solver | None, options: SamplingOptions, usual: tuple[str, str]
) -> Plan:
    """The plan of the ODE for these settings; where they are not chosen the `usual` solver and
    grid.

    Raises:
        ValueError: for a plan with noise, or a last step to σ = 0.
    """
    if options.get("plan") is None:
        solver, given = solver or usual[0], {k: v for k, v in options.items() if v is not None}
        quiet = {} if {"noise_scale", "eta"} & given.keys() else {"ell": 0.0}
        grid = {} if {"grid"} & given.keys() else {"grid": usual[1]}
        options = cast(SamplingOptions, {"final": "none", **quiet, **grid, **given})
    plan = plan_sampling(about.schedule, **arguments_for(about, solver, options))
    if plan.run:
        raise ValueError(
            f"{plan.solver!r} on {plan.sde} adds noise, and here the way is that of the ODE: take "
            "ell=0, with a solver that adds no noise of its own."
        )
    if about.schedule.lam(plan.grid[-1]) == math.inf:
        raise ValueError(
            "The grid ends with a step to sigma = 0, whose result is a denoised estimate: the "
            "given samples are states at sigma > 0. Let the grid end there, with final='none'."
        )
    return plan


def mirrored(plan: Plan, round_time: Any = None) -> Plan:
    """The plan of the same solver on the reversed grid, from data to the first finite noise level;
    its model is F itself, by `rule_of_f`."""
    times = plan.grid[plan.sde.diffusion is not None and _starts_at_infinity(plan) :].flip(0)
    if len(times) < 2:
        raise ValueError("The grid has no step between finite noise levels.")
    return compile_plan(_mirrored(plan.sde), _in_clock(plan.method), times, round_time=round_time)


def rule_of_f(plan: Plan, about: Description) -> Callable[[Tensor, Tensor], Sequence[Tensor]]:
    """(on_x, on_output) at time t, in the dtype of x: F = on_x · x + on_output · model(x, t)."""
    diffusion = plan.sde.diffusion
    assert diffusion

    def rule(x: Tensor, t: Tensor) -> Sequence[Tensor]:
        own, at = about.prediction, t.reshape(1).cpu()
        found, _ = diffusion.conversions(own, diffusion.prediction, at, about.sigma_data)
        return [value.to(x) for value in found]

    return rule


def _mirrored(sde: SemiLinearSDE) -> SemiLinearSDE:
    """κ ∫ e^{ρμ} F dμ from high to low μ is −κ ∫ e^{−ρν} F dν, ν = −μ, from low to high ν."""
    own = sde.clock
    clock = Clock(lambda t: -own.mu(t), lambda nu: own.time(-nu), -own.rho, -own.kappa)
    return replace(sde, clock=clock, noise=None, diffusion=None, name=f"{sde.name}, to noise")


def _in_clock(method: Method) -> Method:
    """With polynomials in the clock in place of σ, which an equation without a schedule lacks."""
    tableaus = (method.tableau, *method.start_up)
    known = [t.variable if t.variable == "time" else "clock" for t in tableaus]
    first, *rest = (replace(t, variable=v) for t, v in zip(tableaus, known, strict=True))
    return replace(method, tableau=first, start_up=tuple(rest))


def _starts_at_infinity(plan: Plan) -> bool:
    assert plan.sde.diffusion
    return plan.sde.diffusion.schedule.lam(plan.grid[0].item()) == -math.inf


def _to_noise(plan: Plan, back: Plan, model: Any, about: Description, x: Tensor) -> Tensor:
    x = _along(plan, back, model, about, x)
    if _starts_at_infinity(plan):  # x_s = σ̄_s ε, the limit of every form
        noise = Reparametrized(model, "noise")(x, plan.grid[1])
        x = (about.schedule.std(plan.grid[0].item()) * noise).to(x.dtype)
    return x


def _along(plan: Plan, back: Plan, model: Any, about: Description, x: Tensor) -> Tensor:
    rule = rule_of_f(plan, about)

    def f(x: Tensor, t: Tensor) -> Tensor:
        on_x, on_output = rule(x, t)
        return on_x * x + on_output * model(x, t)

    return execute(back, f, x)


def _refined(plan: Plan, back: Plan, model: Any, about: Description, x0: Tensor) -> Tensor:
    """The way back from the y whose run ends at x0."""

    def missing(y: Tensor) -> Tensor:
        x = _to_noise(plan, back, model, about, y)
        run = Run(plan, Counted(about, None, None), x, rates=True)
        drive(run, model)
        return x0 - run.result()

    y, reached = solve(missing, x0, _NEAR[x0.dtype] * rms(x0).clamp(min=1.0))
    if not reached:
        raise RuntimeError(
            f"No state was found whose run with {plan.steps} steps of {plan.solver!r} returns the "
            "samples: steps that are too long bring different states together. Take more steps, "
            "the grid 'karras', or another solver, for example 'seeds-ab4'."
        )
    return _to_noise(plan, back, model, about, y)
