"""Sample a diffusion model."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint import grids
from expint.equations.forms import reverse_sde
from expint.equations.noise_scales import noise_scale_from_eta
from expint.equations.predictions import check as check_prediction
from expint.noise import Gaussian, NoiseSource, initial_state
from expint.noise.source import check_seeds
from expint.numerics.float64 import is_whole
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.runs.run import Callback, check_state, execute
from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP
from expint.solvers import Operation, Tableau, get

__all__ = ["plan_sampling", "sample", "start_state"]


class SamplingOptions(TypedDict, total=False):
    """How far to resolve and what to integrate: the options that `sample`, `plan_sampling`,
    comparisons, the command line and the drop-ins for other libraries share; see `sample`."""

    steps: int | None
    nfe: int | None
    grid: "str | Sequence[float] | Tensor | None"
    form: str | None
    ell: float | None
    noise_scale: Any
    eta: "float | Sequence[float] | None"
    operations: "Sequence[Operation]"
    final: str


DEFAULT_GRID = "uniform_lambda"
DEFAULT_STEPS = 20


def sample(
    model: Any,
    shape: Sequence[int] | Tensor,
    solver: str | Tableau = "seeds-3",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Sequence[float] | Tensor | None = None,
    form: str | None = None,
    ell: float | None = None,
    noise_scale: Any = None,
    eta: float | Sequence[float] | None = None,
    operations: Sequence[Operation] = (),
    final: str = "denoise",
    seed: int | Sequence[int] = 0,
    noise: NoiseSource | None = None,
    callback: Callback | None = None,
    progress: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    compile: bool | str = False,
) -> Tensor:
    """Draw samples from a diffusion model by integrating its reverse SDE.

    Args:
        model: model(x, t) with attributes `schedule` and `prediction`: an adapter, an analytic
            target, or your own.
        shape: (batch, *event) of the samples; or the initial state itself, a tensor at the first
            time of the grid.
        solver: registered name (`expint.solvers.names()`) or a tableau.
        steps, nfe, grid: how far to resolve. `steps` counts grid intervals, the final denoising
            step included; `nfe` takes the most steps that need no more network evaluations. `grid`
            names a grid (`expint.grids.names()`) or lists the times. Default: 20 steps, uniform in
            λ (uniform in t for a schedule that starts at infinite σ, entries of the table for a
            network that is called on its table only).
        form: "data", "noise", "precond", …: see `reverse_sde`. Default: the solver's own.
        ell: stochasticity ℓ ≥ 0: 0 the probability-flow ODE, 1 the reverse SDE. Default: the
            solver's own.
        noise_scale: a noise-scale function in place of ell, for the data form (see `reverse_sde`
            and `expint.equations.noise_scales`).
        eta: DDIM's η in place of ell, for the data form: one number, or one for each step between
            finite noise levels.
        operations: what is done around each step besides the solver's own operations:
            `expint.solvers.Churn`, `Ancestral`, ….
        final: "denoise" ends with one evaluation that takes σ to 0, "none" leaves the noise of the
            last σ in the sample.
        seed: a seed per sample, or one integer n for the seeds n, n+1, …: a sample depends on its
            own seed only.
        noise: a noise source instead of fresh Gaussians from the seeds (which still give the
            initial state).
        callback: callback(step, nfe, t, x, denoised) after every step.
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
        FloatingPointError: if the state became NaN or infinite, with step and time.

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
        >>> expint.sample(target, (3, 2), steps=10, progress=False).shape
        torch.Size([3, 2])
    """
    schedule = model_schedule(model)
    plan = plan_sampling(
        schedule,
        solver,
        steps=steps,
        nfe=nfe,
        grid=grid,
        form=form,
        ell=ell,
        noise_scale=noise_scale,
        eta=eta,
        operations=operations,
        final=final,
        sigma_data=getattr(model, "sigma_data", None),
        round_time=getattr(model, "round_time", None),
    )
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback is called as callback(step, nfe, t, x, denoised), got {callback!r}."
        )
    x, source = start_state(model, shape, plan, seed, noise, dtype, device)
    call = (
        model
        if not compile
        else torch.compile(model, backend="inductor" if compile is True else compile, dynamic=False)
    )
    with (
        torch.inference_mode(),
        tqdm(total=plan.nfe, disable=not progress, unit="NFE", desc=plan.solver) as bar,
    ):
        result = execute(plan, _Counted(model, call, bar), x, source, callback)
    return result.clone()  # outside inference mode: an ordinary tensor


def plan_sampling(
    schedule: Schedule,
    solver: str | Tableau = "seeds-3",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Sequence[float] | Tensor | None = None,
    form: str | None = None,
    ell: float | None = None,
    noise_scale: Any = None,
    eta: float | Sequence[float] | None = None,
    operations: Sequence[Operation] = (),
    final: str = "denoise",
    sigma_data: float | None = None,
    round_time: Any = None,
) -> Plan:
    """The plan that `sample` runs for these settings; the arguments are those of `sample`."""
    tableau = get(solver)
    given = [
        name
        for name, value in (("ell", ell), ("noise_scale", noise_scale), ("eta", eta))
        if value is not None
    ]
    if len(given) > 1:
        names = " and ".join(given)
        raise ValueError(
            "ell, noise_scale and eta each say how much noise is added: give one of them, got "
            f"{names}."
        )
    if grid is None and round_time is not None and isinstance(schedule, TabulatedVP):
        grid = "discrete"
    times = _times(schedule, tableau, steps, nfe, grid, final, operations)
    if eta is not None:
        noise_scale = noise_scale_from_eta(schedule, times, eta)
    elif not given:
        noise_scale = tableau.noise_scale
    if noise_scale is not None:
        sde = reverse_sde(schedule, form or "data", noise_scale=noise_scale, sigma_data=sigma_data)
    else:
        sde = reverse_sde(
            schedule,
            form or tableau.form,
            tableau.ell if ell is None else ell,
            sigma_data=sigma_data,
        )
    return compile_plan(sde, tableau, times, round_time=round_time, operations=operations)


def model_schedule(model: Any) -> Schedule:
    """The model's schedule, after checking that the model says what it is."""
    schedule, prediction = getattr(model, "schedule", None), getattr(model, "prediction", None)
    if not callable(model) or not isinstance(schedule, Schedule) or prediction is None:
        raise TypeError(
            "A model is a callable model(x, t) with attributes `schedule` (an "
            f"expint.schedules.Schedule) and `prediction`, got {type(model).__name__} with "
            f"schedule {schedule!r} and prediction {prediction!r}. Wrap a network in an adapter, "
            "for example diffusion_adapters.EDMAdapter(net)."
        )
    check_prediction(prediction, getattr(model, "sigma_data", None))
    return schedule


def _times(
    schedule: Schedule,
    tableau: Tableau,
    steps: int | None,
    nfe: int | None,
    grid: str | Sequence[float] | Tensor | None,
    final: str,
    operations: Sequence[Operation],
) -> Tensor:
    given = [name for name, value in (("steps", steps), ("nfe", nfe)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"Give either steps or nfe, not both: got steps={steps} and nfe={nfe}.")
    if grid is not None and not isinstance(grid, str):
        if given:
            raise ValueError(f"A grid of times fixes the number of steps: leave out {given[0]}.")
        return grids.check(schedule, grid)
    infinite = schedule.lam(schedule.sampling_range[0]) == -float("inf")
    name = grid or ("uniform_time" if infinite else DEFAULT_GRID)
    if nfe is not None:
        steps = _steps_for(tableau, nfe, final, infinite, operations)
    return grids.get(name)(schedule, DEFAULT_STEPS if steps is None else steps, final=final)


def _steps_for(
    tableau: Tableau, nfe: int, final: str, infinite: bool, operations: Sequence[Operation]
) -> int:
    """The most steps for at most `nfe` evaluations; first-order end steps take one evaluation
    each.
    """
    if not is_whole(nfe):
        raise ValueError(f"nfe must be an integer, got {nfe!r}.")
    extra = sum(len(operation.langevin) for operation in operations)
    single = int(final == "denoise") + int(infinite)

    def cost(steps: int) -> int:
        return tableau.evaluations_in(
            steps, from_infinity=infinite, to_zero=final == "denoise"
        ) + extra * (steps - single)

    least = single + 1
    if cost(least) > nfe:
        full = cost(least) - single
        raise ValueError(
            f"nfe={nfe} is too small for {tableau.name!r}: one step takes {full} evaluations"
            + (f" and the end steps {single}" if single else "")
            + f", so nfe must be at least {cost(least)}. Use a solver with fewer stages, for example 'seeds-1'."
        )
    low, high = least, int(nfe) + single + 1  # at least one evaluation per step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= nfe else (low, middle)
    return low


def start_state(
    model: Any,
    shape: Sequence[int] | Tensor,
    plan: Plan,
    seed: int | Sequence[int],
    noise: NoiseSource | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> tuple[Tensor, NoiseSource]:
    """The initial state and the noise source; a given state is taken as it is, otherwise it is σ̄
    times normals.
    """
    if noise is not None and not isinstance(noise, NoiseSource):
        raise TypeError(
            f"noise is a noise source such as expint.noise.Gaussian(seeds), got {noise!r}."
        )
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype is a torch.dtype such as torch.float32, got {dtype!r}.")
    if isinstance(shape, np.ndarray) and shape.ndim > 1:
        shape = torch.as_tensor(shape)
    if isinstance(shape, Tensor):
        check_state(shape)
        x = shape.detach().to(dtype=dtype or shape.dtype, device=device or shape.device)
        seeds = _seeds(seed, x.shape[0])
        return x, noise or Gaussian(seeds)
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    if not sizes or not all(is_whole(n) and n > 0 for n in sizes):
        raise ValueError(
            f"shape is (batch, *event) in positive integers, or an initial state; got {shape!r}."
        )
    sizes = tuple(int(n) for n in sizes)
    kind = dtype or torch.float32
    if not kind.is_floating_point:
        raise TypeError(f"dtype must be a floating-point type, got {kind}.")
    where = torch.device(device) if device is not None else _device_of(model)
    seeds = _seeds(seed, sizes[0])
    schedule = plan.sde.schedule
    assert schedule is not None
    std = float(schedule.std(plan.grid[0].item()))
    x = initial_state(seeds, sizes[1:], kind, where).mul_(std)
    return x, noise or Gaussian(seeds)


def _device_of(model: Any) -> torch.device:
    device = getattr(model, "device", None)
    if device is None and isinstance(model, torch.nn.Module):
        device = next((value.device for value in chain(model.parameters(), model.buffers())), None)
    return torch.device("cpu") if device is None else torch.device(device)


def _seeds(seed: int | Sequence[int], batch: int) -> Sequence[int]:
    seeds = check_seeds(seed)
    if np.ndim(seed) == 0:
        return range(seeds[0], seeds[0] + batch)
    if len(seeds) != batch:
        raise ValueError(
            f"There is one seed per sample, but {len(seeds)} seeds came for a batch of {batch}."
        )
    return seeds


class _Counted:
    """A model that moves a progress bar at every evaluation."""

    def __init__(self, model: Any, call: Any, bar: Any) -> None:
        self.schedule, self.prediction = model.schedule, model.prediction
        self.sigma_data = getattr(model, "sigma_data", None)
        self._call, self._bar = call, bar

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        output = self._call(x, t)
        self._bar.update(1)
        return output
