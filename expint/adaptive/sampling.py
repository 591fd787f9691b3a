"""Sample with steps that an error estimate chooses: embedded pairs, one Brownian path, one step
size for the whole batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.adaptive.control import StepControl
from expint.adaptive.one_step_plans import clock_at, next_time, pair_plan, place
from expint.adaptive.pairs import EmbeddedPair, get_pair
from expint.equations.forms import reverse_sde
from expint.equations.sde import SemiLinearSDE
from expint.grids.layout import FIRST_SIGMA, count_points, finish
from expint.noise import BrownianPath, Gaussian, NoiseSource, UnionPath
from expint.noise.source import ChecksRuns, NoiseStream
from expint.numerics.float64 import as_float64, is_whole
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.runs.run import Callback, Run
from expint.sampling import model_schedule, start_state

__all__ = ["AdaptiveResult", "sample_adaptive"]

RESOLUTION = 2**10
"""Leaves per e-fold of the noise clock of the path that is made from seeds: for some thousand steps
in the data or noise form.
"""


@dataclass(frozen=True, eq=False)
class AdaptiveResult:
    """Samples, and how they came about.

    Attributes:
        samples: shape (batch, *event).
        times: the accepted times from noise to data, float64, shape (n,): a grid on which
            `expint.sample` with the pair's high scheme, the same path and the same initial state
            gives the same samples.
        errors: E of the accepted steps, in units of the tolerance. Of no such step are the step
            from σ = ∞ and the final denoising one, which are in `times`.
        rejected: number of rejected steps.
        nfe: number of network evaluations, those of rejected steps included.
    """

    samples: Tensor
    times: Tensor
    errors: tuple[float, ...]
    rejected: int
    nfe: int

    @property
    def accepted(self) -> int:
        """Number of accepted steps."""
        return len(self.errors)


def sample_adaptive(
    model: Any,
    shape: Sequence[int] | Tensor,
    solver: str | EmbeddedPair = "seeds-23",
    *,
    rtol: float | None = None,
    atol: float | None = None,
    form: str | None = None,
    ell: float | None = None,
    first_step: float | None = None,
    safety: float | None = None,
    limits: tuple[float, float] | None = None,
    norm: float | None = None,
    final: str = "denoise",
    seed: int | Sequence[int] = 0,
    noise: NoiseSource | None = None,
    max_nfe: int = 10_000,
    callback: Callback | None = None,
    progress: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> AdaptiveResult:
    """Draw samples from a diffusion model with steps whose size follows from an estimate of their
    error.

    A step makes two results from the same evaluations and noise and is accepted if their difference
    is within the tolerance for every sample of the batch (see `StepControl`); otherwise it is made
    again, shorter, on the same Brownian path. Its noise is not drawn again: the noise of the steps
    that pass would then have another law. The first evaluation of a rejected step is kept. Through
    the steps a sample depends on the batch that it is in.

    Args:
        model: model(x, t) with attributes `schedule` and `prediction`: an adapter, an analytic
            target, or your own.
        shape: (batch, *event) of the samples; or the initial state itself, a tensor at the noise
            end of the schedule's range.
        solver: name of an embedded pair (`expint.adaptive.embedded_pairs()`), or an `EmbeddedPair`.
        rtol, atol, first_step, safety, limits, norm: see `StepControl`; default: those of the pair.
            From σ = ∞ a first-order step goes to a finite σ before the first trial.
        form: "data", "noise", "precond", …: see `reverse_sde`. Default: the pair's own.
        ell: stochasticity ℓ ≥ 0: 0 the probability-flow ODE, 1 the reverse SDE. Default: the pair's
            own.
        final: "denoise" ends with one evaluation that takes σ to 0, "none" leaves the noise of the
            last σ in the sample.
        seed: a seed per sample, or one integer n for the seeds n, n+1, ….
        noise: a path that can be asked at any time, such as `BrownianPath`; default: one from the
            seeds, with 1024 leaves per e-fold of the noise clock. Steps much shorter than a leaf
            need a finer one.
        max_nfe: most network evaluations.
        callback: callback(step, nfe, t, x, denoised) after every accepted step.
        progress: show a progress bar, which counts evaluations.
        dtype: of the state, float32 by default (or that of the given state).
        device: where to sample; default: that of the given state, or of the model's first
            parameter, else the CPU.

    Raises:
        ValueError, TypeError: before the first network evaluation for anything that does not fit,
            saying what is allowed.
        FloatingPointError: if the state became NaN or infinite, with the time where it did.
        RuntimeError: if `max_nfe` is used up, or the tolerance asks for steps below the rounding of
            the clock.

    Source: error and control: Jolicoeur-Martineau et al., arXiv 2105.14080, algorithm 1;
    DPM-Solver, arXiv 2206.00927, appendix C; the bridged path: Gaines & Lyons, SIAM J. Appl. Math.
    57 (1997).

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.VP())
        >>> result = expint.sample_adaptive(target, (3, 2), rtol=0.01, atol=0.01, progress=False)
        >>> result.samples.shape, result.accepted == len(result.times) - 2
        (torch.Size([3, 2]), True)
    """
    schedule = model_schedule(model)
    pair = get_pair(solver)
    settings = {
        "rtol": rtol,
        "atol": atol,
        "first_step": first_step,
        "safety": safety,
        "limits": limits,
        "norm": norm,
    }
    control = replace(
        pair.control, **{name: value for name, value in settings.items() if value is not None}
    )
    if not is_whole(max_nfe) or max_nfe < 1:
        raise ValueError(
            f"max_nfe is the most network evaluations, an integer >= 1, got {max_nfe!r}."
        )
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback is called as callback(step, nfe, t, x, denoised), got {callback!r}."
        )
    if getattr(model, "round_time", None) is not None:
        raise ValueError(
            "The model is called at the times of its training table only, but adaptive steps go to "
            "any time: build the adapter with timesteps='interpolate', or use expint.sample."
        )
    sde = reverse_sde(
        schedule,
        form or pair.high.form,
        pair.high.ell if ell is None else ell,
        sigma_data=getattr(model, "sigma_data", None),
    )
    lead, start, end, tail = _ends(sde, pair, final, control.rtol)
    first = lead or pair_plan(sde, pair, start, next_time(sde, start, end, control.first_step))
    x, source = start_state(model, shape, first, seed, noise, dtype, device)
    path = _opened(sde, first.grid[0], end, x, source, given=noise is not None)
    for plan in (lead, first, tail):  # what does not fit is refused now
        if plan is not None:
            Run(plan, model, x, path)
    with torch.no_grad(), tqdm(disable=not progress, unit="NFE", desc=pair.name) as bar:
        walk = _Walk(sde, pair, control, model, path, max_nfe, callback, bar)
        if lead is not None:
            x = walk.single(lead, x)
        x = walk.through(x, start, end)
        if tail is not None:
            x = walk.single(tail, x)
    times = as_float64([*first.grid[:1].tolist(), *walk.times])
    return AdaptiveResult(x, times, tuple(walk.errors), walk.rejected, walk.nfe)


class _Attempt(NamedTuple):
    """A trial step: its result, x_high − x_low, the model's output at its start, and what the
    callback is told.
    """

    high: Tensor
    difference: Tensor
    output: Tensor
    told: tuple[Any, ...]


class _Walk:
    """The run: counts, accepted times and errors."""

    def __init__(
        self,
        sde: SemiLinearSDE,
        pair: EmbeddedPair,
        control: StepControl,
        model: Any,
        path: "_Opened | None",
        max_nfe: int,
        callback: Callback | None,
        bar: Any,
    ) -> None:
        self._sde, self._pair, self._control, self._model, self._path = (
            sde,
            pair,
            control,
            model,
            path,
        )
        self._max_nfe, self._callback, self._bar = max_nfe, callback, bar
        self.times: list[float] = []
        self.errors: list[float] = []
        self.rejected = self.nfe = 0

    def through(self, x: Tensor, start: float, end: float) -> Tensor:
        """From state `x` at time `start` to `end`."""
        sde, control, power = self._sde, self._control, self._pair.power(self._sde.is_stochastic)
        h, s, memory, low_before = control.first_step, start, 1.0, x
        output: Tensor | None = None
        while s != end:
            t = next_time(sde, s, end, h)
            trial = self._attempt(x, s, t, output)
            low = trial.high - trial.difference
            worst, finite = torch.stack(
                [
                    control.error(trial.difference, low, low_before),
                    torch.isfinite(trial.high).all().to(torch.float32),
                ]
            ).tolist()  # the one host synchronisation of the step
            if not finite or not math.isfinite(worst):
                raise FloatingPointError(
                    f"The state became NaN or infinite in a step from {place(sde, s)} to "
                    f"{place(sde, t)}. Likely causes: a network that overflows there (half "
                    "precision, or a time outside its training range), or a long first_step."
                )
            h = clock_at(sde, t) - clock_at(sde, s)
            h *= control.factor(worst, memory, power)
            if worst > 1.0:
                self.rejected += 1
                output = trial.output
                continue
            self.errors.append(worst)
            x, s, memory, low_before, output = trial.high, t, worst, low, None
            self._arrive(t, trial.told)
        return x

    def single(self, plan: Plan, x: Tensor) -> Tensor:
        """A step of one evaluation, whose error is not estimated: from σ = ∞, or to σ = 0."""
        self._spend(1, plan.grid[0].item())
        run, told = Run(plan, self._model, x, self._path, checked=True), []
        run.feed(self._evaluate(run), self._listener(told))
        self._arrive(plan.grid[-1].item(), told[0] if told else ())
        return run.result()

    def _attempt(self, x: Tensor, s: float, t: float, output: Tensor | None) -> _Attempt:
        """One trial step; `output` is what the model said at its start, if that is known."""
        self._spend(self._pair.evaluations - (output is not None), s)
        plan, made, told = pair_plan(self._sde, self._pair, s, t), {}, []
        run = Run(plan, self._model, x, self._path, made.__setitem__, checked=True)
        first = output = self._evaluate(run) if output is None else output
        while True:
            run.feed(output, self._listener(told))
            if run.done:
                return _Attempt(run.x, made[len(plan.rows) - 2], first, told[0] if told else ())
            output = self._evaluate(run)

    def _evaluate(self, run: Run) -> Tensor:
        self.nfe += 1
        self._bar.update(1)
        return self._model(run.x, run.time)

    def _spend(self, count: int, s: float) -> None:
        if self.nfe + count > self._max_nfe:
            raise RuntimeError(
                f"max_nfe={self._max_nfe} network evaluations do not suffice: {len(self.errors)} "
                f"steps were accepted and {self.rejected} rejected up to {place(self._sde, s)}. "
                "Loosen rtol and atol, or raise max_nfe."
            )

    def _listener(self, told: list[Any]) -> Callback | None:
        return None if self._callback is None else lambda *news: told.append(news)

    def _arrive(self, t: float, told: tuple[Any, ...]) -> None:
        self.times.append(t)
        if self._callback is not None:
            _, _, _, x, denoised = told
            self._callback(len(self.times), self.nfe, t, x, denoised)


class _Opened:
    """A source whose stream is opened once: all trial steps ask one and the same path."""

    memoryless = False

    def __init__(self, stream: NoiseStream) -> None:
        self._stream = stream

    def stream(self, like: Tensor, intervals: int | None = None) -> NoiseStream:
        return self._stream


def _opened(
    sde: SemiLinearSDE, start: Tensor, end: float, x: Tensor, source: NoiseSource, *, given: bool
) -> _Opened | None:
    """The path for the times between `start` and `end`; None for the ODE."""
    if not sde.is_stochastic:
        return None
    if not given and isinstance(source, Gaussian):
        source = BrownianPath(source.seeds, RESOLUTION)
    if source.memoryless or isinstance(source, UnionPath):
        raise ValueError(
            f"{type(source).__name__} noise cannot serve adaptive steps with ell > 0. A rejected "
            "step is made again on part of its interval and must meet the noise that it had: drawn "
            "anew, it would bias the law of the samples, and a path for given times does not know "
            "the new ones. Use expint.noise.BrownianPath(seeds), or leave out noise."
        )
    taus = sde.noise_clock(torch.stack([start, as_float64(end)]))
    if not torch.isfinite(taus).all():
        raise ValueError(
            f"A path has no value where the noise clock of {sde} is {taus[0].item()}, at sigma = "
            "infinity: use form='data', or a schedule whose sampling range starts at a finite "
            "sigma."
        )
    if isinstance(source, ChecksRuns):
        source.check_run(x, [(taus, False)])
    return _Opened(source.stream(x))


def _ends(
    sde: SemiLinearSDE, pair: EmbeddedPair, final: str, rtol: float
) -> tuple[Plan | None, float, float, Plan | None]:
    """The plan of the step from σ = ∞, the times between which steps are controlled, and the plan
    of the step to σ = 0.

    The step from σ = ∞ leaves a relative error of var(data)/σ² (see `FIRST_SIGMA`): σ is such that
    it is below rtol for data of unit variance.
    """
    schedule = sde.schedule
    assert schedule is not None
    count_points(2, final)
    ends = as_float64(schedule.sampling_range)
    times = finish(schedule, ends, final)
    start, end = ends.tolist()
    least = float(schedule.sigma(end))
    if least == 0.0:
        raise ValueError(
            f"The sampling range of {schedule} ends at sigma = 0, which no controlled step "
            "reaches: let it end before."
        )
    tail = compile_plan(sde, pair.high, times[1:]) if final == "denoise" else None
    if schedule.lam(start) > -math.inf:
        return None, start, end, tail
    after = float(schedule.t_of_sigma(max(FIRST_SIGMA, max(rtol, 1e-12) ** -0.5, 2.0 * least)))
    return compile_plan(sde, pair.high, [start, after]), after, end, tail
