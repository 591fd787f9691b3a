"""Sample a diffusion model."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack, cast

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint import defaults, grids
from expint.adaptive import Adaptive
from expint.equations.given_ell import Ell, asked_noise, check_for_adaptive, varying_ell
from expint.equations.step_scales import noise_scale_from_eta
from expint.frames import Frame, in_frames
from expint.grids.layout import MOST_STEPS
from expint.guards.start import check_callback
from expint.guards.training import warn_in_training
from expint.model_plans import own_plan, title
from expint.noise import NoiseSource, per_sample
from expint.numerics.float64 import as_float64, is_whole
from expint.plans import Plan, compile_plan
from expint.plans.plan_files import PlanLike, fitting_plan
from expint.runs import Callback, Description, Run, describe, drive
from expint.runs.model import Counted, attributes
from expint.runs.start import start_state
from expint.schedules.base import Schedule, check_schedule
from expint.solvers import Method, Operation, get
from expint.solvers.registry import Solver
from expint.soundness import warn_of

_SCALES = ("ell", "noise_scale", "eta")


class SamplingOptions(TypedDict, total=False):
    """How far to resolve and what to integrate: the options that `sample`, `plan_sampling`,
    comparisons, the command line and the drop-ins for other libraries share; see `sample`."""

    steps: int | None
    nfe: int | None
    grid: str | Sequence[float] | Tensor | grids.GridBuilder | None
    form: str | None
    ell: Ell | None
    noise_scale: Any
    eta: float | Sequence[float] | None
    operations: Sequence[Operation]
    final: str
    plan: PlanLike | None


class _AnySteps(SamplingOptions, total=False):
    steps: "int | Adaptive | None"  # pyright: ignore[reportIncompatibleVariableOverride]


def sample(
    model: Any,
    shape: Sequence[int] | Tensor,
    solver: Solver | None = None,
    *,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    noise: NoiseSource | None = None,
    callback: Callback | None = None,
    frame: Frame | None = None,
    progress: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    compile: bool | str = False,
    **options: Unpack[_AnySteps],
) -> Tensor:
    """Draw samples from a diffusion model by integrating its reverse SDE.

    Args:
        model: model(x, t) with attributes `schedule` and `prediction`: an adapter, an analytic
            target, or your own. A model that has a `sampler`, such as `CLDAdapter`, in whose state
            there is a velocity beside the image, takes some of the options only.
        shape: (batch, *event) of the samples; or the initial state itself, a tensor at the first
            time of the grid.
        solver: registered name (`expint.solvers.names()`), a method or a tableau. Default: by the
            number of evaluations and whether noise is asked for, `expint.defaults.solver`; unless
            the model brings a plan of its own (`plan_for`) and nothing but `nfe` is chosen.
        steps, nfe, grid: how far to resolve. `steps` counts grid intervals, the final denoising
            step included; `nfe` takes the most steps that need no more network evaluations. `grid`
            names a grid (`expint.grids.names()`), is a builder like those, or lists the times.
            Default: 20 steps on the grid `expint.defaults.grid`, also named "default".
            `steps=expint.Adaptive(rtol, atol)` chooses the steps by an estimate of their error.
        form: "data", "noise", "precond", …: see `reverse_sde`. Default: the solver's own.
        ell: stochasticity ℓ ≥ 0: 0 the probability-flow ODE, 1 the reverse SDE. Default: the
            solver's own. In the data form also `math.inf`, where each row is x = α D + σ̄ z; a
            sequence, one for each step between finite noise levels; or a function ℓ(σ), whose mean
            square over a step in λ is taken.
        noise_scale: a noise-scale function in place of ell, for the data form (see `reverse_sde`
            and `expint.equations.noise_scales`).
        eta: DDIM's η in place of ell, for the data form: one number, or one for each step between
            finite noise levels.
        operations: what is done around each step besides the solver's own operations:
            `expint.solvers.churn(...)`, `ancestral(...)`, ….
        final: "denoise" ends with one evaluation that takes σ to 0, "none" leaves the noise of the
            last σ in the sample.
        plan: a `Plan`, the path of a file that `Plan.save` wrote, or its content, in place of the
            solver and of all options above.
        seed: one integer n, the run: sample i is a function of (n, i), and neighbouring integers
            share nothing. Default 0.
        seeds: in place of a run, a list or range with a seed for each sample, which is a function
            of its own seed only.
        start: place in the run of the first sample: (k, *event) with start=i are its samples i to
            i + k − 1, bit for bit, if the model gives the same for each sample in any batch.
        noise: a noise source instead of fresh normals from the seeds (which still give the initial
            state).
        callback: callback(step, nfe, t, x, denoised) after every step.
        frame: frame(step, x) gives the state that each step begins with in place of x, for solvers
            without a history: for example `expint.RandomFrames(seeds)`, centred coordinates in
            random orientations. A callback then sees the state in the frame of the next step.
        progress: show a progress bar.
        dtype: of the state, float32 by default (or that of the given state).
        device: where to sample; default: that of the given state, or of the model's first
            parameter, else the CPU.
        compile: pass the model through `torch.compile` (True, or the name of a backend).

    Returns:
        Samples, shape (batch, *event).

    Raises:
        ValueError, TypeError: before the first network evaluation for anything that does not fit,
            saying what is allowed.
        FloatingPointError: if the state became NaN or infinite, with step, time and samples; at
            the latest one step later.

    Warns:
        expint.PlanWarning: for a plan that makes nonsense of Gaussian data, such as too few steps
            for the solver and form.
        UserWarning: for a given state whose size is far from that of the states at the first time,
            and for a network in train mode.

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
        >>> expint.sample(target, (3, 2), steps=10, progress=False).shape
        torch.Size([3, 2])
    """
    own = attributes(model).get("sampler")
    about = describe(model, Schedule if own is None else object)
    warn_in_training(model)
    check_callback(callback)
    seeding = partial(per_sample, seed, seeds=seeds, start=start)
    backend = compile if isinstance(compile, str) else "inductor"
    call = torch.compile(model, backend=backend, dynamic=False) if compile else model
    if own is not None:
        return own(
            about, call, shape, solver, options, seeding=seeding, noise=noise, frame=frame,
            callback=callback, progress=progress, dtype=dtype, device=device,
        )  # fmt: skip
    steps = options.get("steps")
    if isinstance(steps, Adaptive) and options.get("plan") is None:
        if frame is not None:
            raise TypeError("Adaptive steps have no frames: give a number of steps.")
        check_options(options | {"steps": None})
        check_for_adaptive(options.get("ell"))
        return steps.sample(
            about, call, shape, solver or defaults.ADAPTIVE, options, seeding=seeding, noise=noise,
            callback=callback, progress=progress, dtype=dtype, device=device,
        )  # fmt: skip
    plan = plan_sampling(about.schedule, **arguments_for(about, solver, options, noise))
    warn_of(plan)
    bar = tqdm(total=plan.nfe, disable=not progress, unit="NFE", desc=title(plan))
    counted = Counted(about, call, bar)
    with torch.no_grad(), bar:
        # Not by `execute`, whose caller would hold the initial state to the end.
        begin = start_state(about, shape, plan, seeding, noise, dtype, device)
        x, see = (begin[0], None) if frame is None else in_frames(plan, frame, begin[0])
        run = Run(plan, counted, x, begin[1], see, rates=True)
        del begin, x
        drive(run, counted, callback)
        return run.result()


def plan_sampling(
    schedule: Schedule,
    solver: Solver | None = None,
    *,
    sigma_data: float | None = None,
    round_time: Any = None,
    **options: Unpack[SamplingOptions],
) -> Plan:
    """The plan that `sample` runs for these settings.

    Args:
        schedule: the model's noise schedule.
        solver, options: as for `sample`.
        sigma_data: the model's, for the preconditioned form.
        round_time: maps times to those that the model can be called at, if it is called at those
            only.
    """
    if (made := options.get("plan")) is not None:
        return fitting_plan(made, schedule, round_time, {"solver": solver, **options, "plan": None})
    check_options(options)
    check_schedule(schedule)
    scales = {name: options.get(name) for name in _SCALES}
    given = [name for name, value in scales.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            "ell, noise_scale and eta each say how much noise is added: give one of them, got "
            f"{' and '.join(given)}."
        )
    method = get(cast(Solver, _chosen(solver, options)))
    times = _times(schedule, method, options, table=round_time is not None)
    ell, scale, eta = scales.values()
    if eta is not None:
        scale = noise_scale_from_eta(schedule, times, eta)
    if (varying := varying_ell(schedule, times, ell)) is not None:
        ell, scale = None, varying
    sde = method.equation(schedule, options.get("form"), ell, scale, sigma_data)
    operations = options.get("operations", ())
    return compile_plan(sde, method, times, round_time=round_time, operations=operations)


def check_options(options: Any) -> None:
    """Refuse an option of sampling that does not exist.

    Raises:
        TypeError: naming it, and those that there are.
    """
    strange = [name for name in options if name not in SamplingOptions.__optional_keys__]
    if strange:
        known = sorted(SamplingOptions.__optional_keys__)
        raise TypeError(f"Unknown option {strange[0]!r} of sampling: there are {known}.")
    if isinstance(options.get("steps"), Adaptive):
        raise TypeError(
            "Adaptive steps become known in the run, so that there is no plan before it: use "
            "expint.sample(..., steps=expint.Adaptive(...)), or give a number of steps."
        )


def arguments_for(
    model: Description, solver: Solver | None, options: Mapping[str, Any], noise: Any = None
) -> dict[str, Any]:
    """Arguments of `plan_sampling` for a model: its own plan where it has one and nothing but
    `nfe` is chosen, no noise source either; else what is asked for.

    Raises:
        TypeError: for an unknown option.
        ValueError: if the model's own plan does not fit the model, or takes more evaluations.
    """
    check_options({**options, "steps": None})
    own = own_plan(model, {**options, "solver": solver, "noise": noise})
    asked = {**options, "solver": _chosen(solver, options, noise)} if own is None else {"plan": own}
    return {"sigma_data": model.sigma_data, "round_time": model.round_time, **asked}


def _chosen(solver: Solver | None, options: Mapping[str, Any], noise: Any = None) -> Solver | None:
    """The solver; without one the default for the evaluations or steps, and the noise, that are
    asked for, or None where a plan says it."""
    if solver is not None or options.get("plan") is not None:
        return solver
    grid, asked = options.get("grid"), asked_noise(options.get(name) for name in _SCALES)
    listed = None if isinstance(grid, str | Callable | None) else as_float64(grid).numel() - 1
    counts = (options.get("nfe"), options.get("steps"), listed, defaults.STEPS)
    stochastic = asked if noise is None else asked is not False
    count, shared = cast(int, next(filter(is_whole, counts))), is_whole(options.get("nfe"))
    return defaults.solver(count, shared=shared, stochastic=stochastic)


def _times(schedule: Schedule, method: Method, options: SamplingOptions, *, table: bool) -> Tensor:
    counts = {name: options.get(name) for name in ("steps", "nfe")}
    given = [name for name, value in counts.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            f"Give either steps or nfe, not both: got steps={counts['steps']} and "
            f"nfe={counts['nfe']}."
        )
    grid, final = options.get("grid"), options.get("final", "denoise")
    if not isinstance(grid, str | Callable | None):
        if given:
            raise ValueError(f"A grid of times fixes the number of steps: leave out {given[0]}.")
        return grids.check(schedule, grid)
    steps = defaults.STEPS if counts["steps"] is None else counts["steps"]
    if counts["nfe"] is not None:
        infinite = schedule.lam(schedule.sampling_range[0]) == -float("inf")
        extra = sum(len(operation.langevin) for operation in options.get("operations", ()))
        steps = _steps_for(method, counts["nfe"], final, infinite, extra)
    if grid not in (None, "default"):
        return (grid if callable(grid) else grids.get(grid))(schedule, steps, final=final)
    return defaults.grid(schedule, steps, method, table=table, final=final)


def _steps_for(method: Method, nfe: int, final: str, infinite: bool, extra: int) -> int:
    """The most steps for at most `nfe` evaluations; first-order end steps take one evaluation each,
    the others `extra` ones."""
    if not is_whole(nfe):
        raise ValueError(f"nfe must be an integer, got {nfe!r}.")
    if nfe > MOST_STEPS:
        raise ValueError(f"nfe must be at most {MOST_STEPS}, got {nfe!r}.")
    single = int(final == "denoise") + int(infinite)

    def cost(steps: int) -> int:
        own = method.evaluations_in(steps, from_infinity=infinite, to_zero=final == "denoise")
        return own + extra * (steps - single)

    least = single + 1
    if cost(least) > nfe:
        ends = f" and the end steps {single}" if single else ""
        raise ValueError(
            f"nfe={nfe} is too small for {method.name!r}: one step takes {cost(least) - single} "
            f"evaluations{ends}, so nfe must be at least {cost(least)}. Use a solver with fewer "
            "stages, for example 'seeds-1'."
        )
    low, high = least, int(nfe) + single + 1  # at least one evaluation per step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= nfe else (low, middle)
    return low
