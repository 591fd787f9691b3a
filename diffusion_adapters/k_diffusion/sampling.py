"""The solvers of expint as sampling functions of k-diffusion, whose contract ComfyUI and other
programs share.

    sample(model, x, sigmas, extra_args=None, callback=None, disable=None, *, eta, s_noise,
    noise_sampler)

The model returns the denoised image, model(x, sigma, **extra_args) with sigma of shape (batch,).
The state is x₀ + σ ε (α = 1), or for rectified flow (ComfyUI's CONST) (1 − σ) x₀ + σ ε with σ the
time in [0, 1].

`eta` is ℓ², as in these libraries' exponential solvers: in the data form x₀ + σ ε keeps the share
e^{−(1+η)h} of the start of a step of length h in λ = −log σ, and gains noise of variance σ_t² (1 −
e^{−2ηh}). η = 0 is the ODE, η = 1 the reverse SDE.

Nothing here depends on k-diffusion or ComfyUI, and none of their code is used.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffusion_adapters.k_diffusion.given_plans import given_plan
from diffusion_adapters.k_diffusion.noise import RESOLUTION, SampledNoise, seeds_of
from diffusion_adapters.k_diffusion.unsampling import distinct_levels, unsample
from expint import defaults, grids, solvers
from expint.equations.given_ell import asked_noise, root_of
from expint.guards.arguments import checked
from expint.guards.finite import check_state
from expint.noise import BrownianPath, Gaussian, NoiseSource
from expint.numerics.devices import usable_device
from expint.plans import Plan
from expint.plans.plan_files import PlanLike
from expint.registry import check_choice
from expint.runs import Run, drive
from expint.sampling import Solver, plan_sampling
from expint.schedules import EDM, Flow, Schedule
from expint.solvers import Method
from expint.soundness import warn_of

Arguments = Mapping[str, Any] | None
NOISES = ("fresh", "path")
_NEAR_ONE = 1e-6  # tables in float32 come this near to the time 1 of pure noise, where they mean it
_RISING = "noise would have to be added: sort them, or sample each falling part by itself"


class KDiffusionModel:
    """A model of k-diffusion as a model for `expint.sample`: model(x, t) with schedule and
    prediction "data".

    Args:
        model: model(x, sigma, **extra_args) → denoised, sigma of shape (batch,) in the dtype of x.
        extra_args: keyword arguments of every call.
        flow: whether the state is (1 − σ) x₀ + σ ε (schedule `Flow()`) and not x₀ + σ ε (schedule
            `EDM()`). Default: `is_flow`.
    """

    prediction = "data"

    @checked
    def __init__(
        self, model: Callable[..., Tensor], extra_args: Arguments = None, flow: bool | None = None
    ) -> None:
        self.model, self.extra_args = model, dict(extra_args or {})
        self.schedule: Schedule = Flow() if (is_flow(model) if flow is None else flow) else EDM()

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The denoised estimate of states x, shape (batch, *event), at time t (a number or
        0-dimensional tensor).
        """
        return self.model(x, x.new_ones(x.shape[0]) * t, **self.extra_args)


def is_flow(model: Any) -> bool:
    """Whether a model of ComfyUI is one of rectified flow: its `model_sampling` is of the kind
    CONST.

    It is looked for along `model.inner_model.inner_model…`, in the patchers of models too, and
    known by its name: ComfyUI is not imported. Any other model is not a flow model.
    """
    layer = model
    while layer is not None:
        find = getattr(getattr(layer, "model_patcher", layer), "get_model_object", None)
        own = getattr(layer, "model_sampling", None)
        sampling = find("model_sampling") if callable(find) else own
        if sampling is not None:
            return any(kind.__name__ == "CONST" for kind in type(sampling).__mro__)
        layer = getattr(layer, "inner_model", None)
    return False


@checked
def sample_expint(
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Tensor | Sequence[float] | None,
    extra_args: Arguments = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    disable: bool | None = None,
    *,
    solver: Solver | None = None,
    eta: float | Sequence[float] | Callable[[Any], Any] | None = None,
    s_noise: float = 1.0,
    noise_sampler: Callable[..., Tensor] | NoiseSource | None = None,
    flow: bool | None = None,
    form: str | None = None,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    noise: str = "fresh",
    noise_device: torch.device | str | None = None,
    plan: PlanLike | None = None,
    **options: Any,
) -> Tensor:
    """Sample with any solver of expint through the contract of k-diffusion's samplers.

    Args:
        model: model(x, sigma, **extra_args) → denoised image; sigma has shape (batch,) and the
            dtype of x.
        x: state at the level sigmas[0], shape (batch, *event), any floating dtype, on any device;
            see the module for its scale.
        sigmas: noise levels, shape (steps + 1,), falling, ending at 0 or not; on any device, of any
            floating dtype. A repeated level is a step in which nothing happens. With fewer than two
            there is nothing to do, and x is returned. Rising levels lead from an image to its noise
            along the ODE (`diffusion_adapters.k_diffusion.unsampling`), whatever eta is.
        extra_args: keyword arguments for the model. A "seed" among them, an integer or a
            list with one for each sample, is used here too if neither `seed` nor `seeds` is given.
        callback: called once per step, after the evaluation at its start, with {"x", "i", "sigma",
            "sigma_hat", "denoised"}: the state at the start of step i, which has the level
            sigma_hat (sigma itself, but for solvers that add noise first).
        disable: whether to hide the progress bar; None hides it where there is no terminal.
        solver: a registered name (`expint.solvers.names()`), a method or a tableau. Default: that
            of `expint.defaults` for as many steps.
        eta: ℓ² (see the module): a number, `math.inf` among them, one for each step between
            different levels above 0, or a function of σ/α; default: the solver's own, which is 1
            for SEEDS and 0 for ODE solvers. A solver that has an eta of its own (the ancestral
            ones) is given this one.
        s_noise: factor of the noise.
        noise_sampler: noise_sampler(sigma, sigma_next) → standard normals of the shape of x for the
            interval between two levels, 0-dimensional tensors. It is asked for the intervals
            between the solver's nodes one after the other. Or a noise source of expint, such as
            `expint.noise.BrownianPath(seeds)`.
        flow: whether x = (1 − σ) x₀ + σ ε. Default: `is_flow(model)`.
        form: "data", "noise", …: see `expint.reverse_sde`. Default: the solver's own, for SEEDS
            "data".
        seed, seeds, start: as for `expint.sample`: one integer, or one for each sample; without
            either, torch's global generator decides.
        noise: without a noise_sampler, "fresh" normals, or "path": the Brownian path of the seed,
            the same whatever the sigmas, so that a run that is split into two equals the whole.
        noise_device: where noise is drawn, for example "cpu" for the same numbers everywhere.
            Default: the device of x.
        plan: a plan on `EDM()` or `Flow()`, the path of its file (`expint.Plan.save`), its text or
            its content, in place of solver, eta, s_noise, form and options. The sigmas are then
            those of its grid, or None.
        options: arguments of the solver's builder, such as c=0.3 for "seeds-2".

    Returns:
        The state at the last level, in the shape, dtype and on the device of x.

    Raises:
        TypeError, ValueError: before the first evaluation, for anything that does not fit.
        FloatingPointError: if the state became NaN or infinite, with the step.

    Warns:
        expint.PlanWarning: as `expint.sample` does.

    Example:
        >>> import torch
        >>> sigmas = torch.tensor([10.0, 1.0, 0.1, 0.0])
        >>> sample_expint(
        ...     lambda x, sigma: x / (1 + sigma[:, None] ** 2), torch.ones(2, 3), sigmas, seed=0
        ... ).shape
        torch.Size([2, 3])
    """
    noise_device = None if noise_device is None else usable_device(noise_device)
    denoiser = KDiffusionModel(model, extra_args, flow)
    fixed = {"solver": solver, "eta": eta, "form": form, **options}
    made, sigmas = given_plan(plan, denoiser.schedule, sigmas, s_noise, fixed)
    places, given = distinct_levels(sigmas)
    if len(given) < 2:
        return x
    check_state(x)
    noisy = (noise_sampler is not None or noise == "path" or None) if eta is None else None
    solver = solver or defaults.solver(len(given) - 1, stochastic=asked_noise([noisy, eta]))
    if bool((given.diff() > 0).all()):
        own = {"solver": solver, "form": form, "disable": disable, **options}
        return unsample(sample_expint, denoiser, x, given, callback, **own)
    if made is None:
        method, ell = _method(solver, eta, s_noise, options)
        levels = _levels(given, denoiser.schedule)
        made = plan_sampling(denoiser.schedule, method, grid=levels, form=form, ell=ell)
    warn_of(made)
    check_choice("noise", noise, NOISES)
    source = None
    if made.run:
        if seed is None and seeds is None:
            own = denoiser.extra_args.get("seed")
            seed, seeds = (None, own) if isinstance(own, Sequence) else (own, None)
        source = _source(made, x, given, noise_sampler, (seed, seeds, start), noise, noise_device)
    run = Run(made, denoiser, x, source)
    with torch.no_grad(), tqdm(total=made.steps, disable=disable) as bar:
        reporting = _Reporting(run, denoiser, given, places, callback, bar)
        drive(run, reporting, reporting.stepped)
        return run.result()


class _Reporting:
    """The denoiser of a run, which also calls the user's callback: once per step, with the state at
    its start and what was denoised there."""

    def __init__(
        self, run: Run, denoiser: Any, sigmas: Tensor, places: Any, callback: Any, bar: Any
    ) -> None:
        self._run, self._denoiser, self._sigmas, self._places = run, denoiser, sigmas, places
        self._callback, self._bar = callback, bar
        # The row that begins each step: rows that only add noise have no weights.
        rows = list(enumerate(run.plan.rows))
        self._first = {row.step: i for i, row in reversed(rows) if row.weights}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        i, denoised = self._run.row, self._denoiser(x, t)
        row = self._run.plan.rows[i]
        if i == self._first[row.step]:
            self._report(row.step, float(row.time), x, denoised)
        return denoised

    def stepped(self, step: int, nfe: int, t: float, x: Tensor, denoised: Tensor) -> None:
        """After a step: the next may begin with the evaluation that was made at its end."""
        self._bar.update(1)
        if step in self._first and not self._run.plan.rows[self._first[step]].evaluates:
            self._report(step, t, x, denoised)

    def _report(self, step: int, time: float, x: Tensor, denoised: Tensor) -> None:
        if self._callback is None:
            return
        sigma, i = self._sigmas[step], self._places[step]
        hat = sigma if time == float(sigma) else sigma.new_tensor(time)
        self._callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": hat, "denoised": denoised})


def _levels(sigmas: Tensor, schedule: Schedule) -> Tensor:
    """The sigmas as float64 times of the schedule, after checking that they fall."""
    levels = sigmas.to(device="cpu", dtype=torch.float64, copy=True)
    flow = isinstance(schedule, Flow)
    if flow and abs(levels[0].item() - 1.0) <= _NEAR_ONE:
        levels[0] = 1.0
    for i, (before, level) in enumerate(pairwise([math.inf, *levels.tolist()])):
        if not 0.0 <= level < math.inf:
            raise ValueError(f"sigmas are finite and >= 0, got sigmas[{i}] = {level:.9g}.")
        if not level < before:
            pair = f"sigmas[{i - 1}] = {before:.9g} is followed by {level:.9g}"
            raise ValueError(f"sigmas fall, but {pair}, {_RISING}.")
    if flow and levels[0] > 1.0:
        raise ValueError(
            f"For a flow model sigma is the time in [0, 1], got sigmas[0] = {levels[0]:.9g}: give "
            "its own sigmas, or flow=False if the state is x0 + sigma eps."
        )
    return levels


def _method(
    solver: Solver, eta: Any, s_noise: float, options: Mapping[str, Any]
) -> tuple[Method, Any]:
    """The method with its noise scale factor, and its ℓ (None: its own)."""
    own = solvers.entry(solver).parameters if isinstance(solver, str) else []
    strange = sorted(set(options) - set(own))
    if strange:
        name = getattr(solver, "name", solver)
        raise TypeError(f"{name!r} has no option {strange[0]!r}: it has {sorted(own)}.")
    shared = {"eta": eta, "s_noise": s_noise}
    taken = {name: value for name, value in shared.items() if name in own and value is not None}
    method = solvers.get(solver, **options, **taken)
    if s_noise != 1.0 and "s_noise" not in own:
        method = replace(method, operations=(*method.operations, solvers.noise_factor(s_noise)))
    return method, None if "eta" in own else root_of(eta)


def _source(
    plan: Plan, x: Tensor, sigmas: Tensor, sampler: Any, seeding: Any, noise: str, device: Any
) -> NoiseSource:
    """Where the noise of a run comes from."""
    if isinstance(sampler, NoiseSource):
        return sampler
    if callable(sampler):
        return SampledNoise(sampler, plan, sigmas)
    if sampler is not None:
        raise TypeError(f"noise_sampler must be callable or a noise source, got {sampler!r}.")
    kind = partial(BrownianPath, resolution=RESOLUTION) if noise == "path" else Gaussian
    return kind(seeds_of(*seeding, batch=len(x)), device=device)


@checked
def uniform_lambda_sigmas(
    steps: int,
    sigma_min: float,
    sigma_max: float,
    *,
    flow: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Noise levels with equal steps in λ, half the log signal-to-noise ratio, and the last one to
    0: shape (steps + 1,).

    Args:
        steps: ≥ 2, that to 0 included.
        sigma_min, sigma_max: ends, 0 < sigma_min < sigma_max; for a flow model times in (0, 1],
            where from 1, pure noise, one step leads to the first finite λ.
        flow: whether σ is the time of rectified flow.
        device, dtype: of the result.

    Raises:
        ValueError: for ends or a number of steps that are not allowed.

    Source: DPM-Solver, arXiv 2206.00927, section 3.4.
    """
    schedule = (Flow if flow else EDM)(float(sigma_min), float(sigma_max))
    return grids.uniform_lambda(schedule, steps).to(device=device, dtype=dtype)


SAMPLERS: dict[str, Callable[..., Tensor]] = {}
"""The named samplers `sample_seeds_1`, `sample_seeds_2`, … under their names without `sample_`."""


def named(solver: str, eta: float | None, about: str, name: str = "") -> Callable[..., Tensor]:
    """`sample_expint` for one solver, also entered in `SAMPLERS`.

    Args:
        solver: registered name.
        eta: its default; None for the solver's own.
        about: what the solver is, for the docstring.
        name: of the sampler, without `sample_`; default: the solver's.
    """
    name = name or solver.replace("-", "_")
    sample = partial(sample_expint, solver=solver, eta=eta)
    doc = f"{about}: `sample_expint` with solver={solver!r}, whose arguments it takes."
    vars(sample).update(__name__=f"sample_{name}", __doc__=doc)
    SAMPLERS[name] = sample
    return sample
