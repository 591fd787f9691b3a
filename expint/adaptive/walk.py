"""Steps that an error estimate chooses: embedded pairs, one Brownian path, one step size for the
whole batch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.adaptive.control import StepControl
from expint.adaptive.pairs import EmbeddedPair, get_pair
from expint.adaptive.steps import clock_at, end_plans, next_time, pair_plan
from expint.equations import SemiLinearSDE
from expint.guards.finite import bad_samples, check_result
from expint.noise import BrownianPath, Gaussian, NoiseSource, SubstepNoise, UnionPath
from expint.noise.paths.path import PathSource, Shared
from expint.numerics.float64 import as_float64, is_whole
from expint.plans import Plan
from expint.runs import Callback, Description, Run, drive
from expint.runs.model import Counted
from expint.runs.start import start_state

RESOLUTION = 2**14
"""Leaves per e-fold of the noise clock of the path that is made from seeds: so many that of some
hundred steps in the data or noise form hardly two end in one leaf."""

_SETTINGS = ("rtol", "atol", "first_step", "safety", "limits", "norm")


@dataclass(frozen=True, eq=False)
class AdaptiveReport:
    """How samples came about.

    Attributes:
        times: the accepted times from noise to data, float64, shape (n,): a grid on which
            `expint.sample` with the pair's high scheme, `noise` and the same initial state gives
            the same samples.
        errors: E of the accepted steps, in units of the tolerance. Of no such step are the step
            from σ = ∞ and the final denoising one, which are in `times`.
        rejected: number of rejected steps.
        nfe: number of network evaluations, those of rejected steps included.
        noise: the path that the steps saw, a `BrownianPath` with its resolution; None for the ODE.
    """

    times: Tensor
    errors: tuple[float, ...]
    rejected: int
    nfe: int
    noise: NoiseSource | None

    @property
    def accepted(self) -> int:
        """Number of accepted steps."""
        return len(self.errors)


@dataclass(eq=False)
class Adaptive:
    """Steps whose size follows from an estimate of their error: `sample(..., steps=Adaptive())`.

    A step makes two results from the same evaluations and noise and is accepted if their difference
    is within the tolerance for every sample of the batch (see `StepControl`); otherwise it is made
    again, shorter, on the same Brownian path. Its noise is not drawn again: the noise of the steps
    that pass would then have another law. The first evaluation of a rejected step is kept. Through
    the steps a sample depends on the batch that it is in.

    The solver is the name of an embedded pair (`expint.adaptive.embedded_pairs()`) or of the high
    scheme of one ("seeds-3" is "seeds-23"), or an `EmbeddedPair`. A `noise` source must be a path
    that can be asked at any time, such as `BrownianPath`, which without a stated resolution has
    `RESOLUTION` leaves per e-fold of the noise clock; without a source, such a path is made from
    the seeds, without integrals.
    Its law is exact for steps of any size. Where an accepted and a rejected step end in one leaf,
    the path depends on the rejected step.

    Args:
        rtol, atol, first_step, safety, limits, norm: see `StepControl`; default: those of the pair.
            From σ = ∞ a first-order step goes to a finite σ before the first trial.
        max_nfe: most network evaluations.

    Attributes:
        report: of the latest run, None before it and if it failed.

    Raises:
        ValueError: when a run begins, for a value outside its range, or options that fix the grid.
        RuntimeError: if `max_nfe` is used up, or the tolerance asks for steps below the rounding of
            the clock.

    Source: error and control: Jolicoeur-Martineau et al., arXiv 2105.14080, algorithm 1;
    DPM-Solver, arXiv 2206.00927, appendix C; the bridged path: Gaines & Lyons, SIAM J. Appl. Math.
    57 (1997).

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.VP())
        >>> steps = expint.Adaptive(rtol=0.01, atol=0.01)
        >>> expint.sample(target, (3, 2), "seeds-23", steps=steps, progress=False).shape
        torch.Size([3, 2])
        >>> steps.report.accepted == len(steps.report.times) - 2
        True
    """

    rtol: float | None = None
    atol: float | None = None
    first_step: float | None = None
    safety: float | None = None
    limits: tuple[float, float] | None = None
    norm: float | None = None
    max_nfe: int = 10_000
    report: AdaptiveReport | None = None

    def sample(
        self,
        about: Description,
        call: Any,
        shape: Sequence[int] | Tensor,
        solver: Any,
        options: Mapping[str, Any],
        *,
        seeding: Callable[[int], Sequence[int]],
        noise: NoiseSource | None,
        callback: Callback | None,
        progress: bool,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> Tensor:
        """What `expint.sample` does with these steps; its arguments, with what the model says of
        itself; seeding(batch) gives one seed per sample."""
        self.report = None
        given = {**options, "operations": options.get("operations") or None}
        allowed = ("steps", "form", "ell", "final")
        strange = [n for n, value in given.items() if n not in allowed and value is not None]
        if strange:
            raise ValueError(
                f"Adaptive steps choose the grid and have no operations: leave out {strange[0]}, "
                "or give a number of steps."
            )
        pair = get_pair(solver)
        own = {name: getattr(self, name) for name in _SETTINGS if getattr(self, name) is not None}
        control = replace(pair.control, **own)
        if not is_whole(self.max_nfe) or self.max_nfe < 1:
            raise ValueError(
                f"max_nfe is the most network evaluations, an integer >= 1, got {self.max_nfe!r}."
            )
        if about.round_time is not None:
            raise ValueError(
                "The model is called at the times of its training table only, but adaptive steps "
                "go to any time: build the adapter with timesteps='interpolate', or give a number "
                "of steps."
            )
        sde = pair.high.equation(
            about.schedule, options.get("form"), options.get("ell"), None, about.sigma_data
        )
        assert sde.diffusion
        final = options.get("final", "denoise")
        lead, start, end, tail = end_plans(sde, sde.diffusion, pair, final, control.rtol)
        first = lead or pair_plan(sde, pair, start, next_time(sde, start, end, control.first_step))
        x, source = start_state(about, shape, first, seeding, noise, dtype, device)
        kind, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
        seen = _path(sde, first.grid[0], end, x, source, given=noise is not None)
        path = seen and Shared(seen.stream(x, []))  # asked at times that nobody knows yet
        with torch.no_grad(), tqdm(disable=not progress, unit="NFE", desc=pair.name) as bar:
            model = Counted(about, call, bar)
            for plan in filter(None, (lead, first, tail)):  # what does not fit is refused now
                Run(plan, model, x, path)
            walk = _Walk(sde, pair, control, model, kind, path, self.max_nfe, callback)
            x = walk.single(lead, x) if lead else x
            x = walk.through(x, start, end)
            x = walk.single(tail, x) if tail else x
        times = as_float64([*first.grid[:1].tolist(), *walk.times])
        self.report = AdaptiveReport(times, tuple(walk.errors), walk.rejected, walk.nfe, seen)
        return check_result(x.to(kind))


class _Step(NamedTuple):
    """A step that was made: its run, what its rows made, the model's output at its start, and the
    arguments of the callback."""

    run: Run
    made: dict[int, Tensor]
    output: Tensor
    news: list[tuple[Any, ...]]


@dataclass
class _Walk:
    """The run: counts, accepted times and errors."""

    sde: SemiLinearSDE
    pair: EmbeddedPair
    control: StepControl
    model: Any
    dtype: torch.dtype
    path: NoiseSource | None
    max_nfe: int
    callback: Callback | None
    times: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    rejected: int = 0
    nfe: int = 0

    def through(self, x: Tensor, start: float, end: float) -> Tensor:
        """From state `x` at time `start` to `end`."""
        sde, control = self.sde, self.control
        power = self.pair.power(sde.is_stochastic)
        h, s, memory, low_before = control.first_step, start, 1.0, x
        output: Tensor | None = None
        while s != end:
            t = next_time(sde, s, end, h)
            step = self._make(pair_plan(sde, self.pair, s, t), x, output)
            high, difference = step.run.x, step.made[max(step.made) - 1]
            low = high - difference
            error = control.error(difference, low, low_before)
            worst = self._finite(high, s, t, error)
            h = clock_at(sde, t) - clock_at(sde, s)
            h *= control.factor(worst, memory, power)
            if worst > 1.0:
                self.rejected += 1
                output = step.output
                continue
            self.errors.append(worst)
            x, s, memory, low_before, output = high, t, worst, low, None
            self._arrive(t, step.news)
        return x

    def single(self, plan: Plan, x: Tensor) -> Tensor:
        """A step of one evaluation, whose error is not estimated: from σ = ∞, or to σ = 0."""
        step = self._make(plan, x)
        s, t = plan.grid.tolist()
        self._finite(step.run.x, s, t, torch.zeros((), device=x.device))
        self._arrive(t, step.news)
        return step.run.x

    def _finite(self, state: Tensor, s: float, t: float, error: Tensor) -> float:
        """The error of a step as a number, after a look at the state: the one host synchronisation
        of the step."""
        finite = torch.isfinite(state).reshape(len(state), -1).all(1)
        worst, fine = torch.stack([error, finite.all().to(error.dtype)]).tolist()
        if not fine or not math.isfinite(worst):
            what = "error estimate" if fine else f"state, in {bad_samples(finite)},"
            raise FloatingPointError(
                f"The {what} became NaN or infinite in a step from {self.sde.place(s)} to "
                f"{self.sde.place(t)}. Likely causes: a network that overflows there (half "
                "precision, or a time outside its training range), or a long first_step."
            )
        return worst

    def _make(self, plan: Plan, x: Tensor, output: Tensor | None = None) -> _Step:
        """Make a step; `output` is what the model gave at its start, if that is known."""
        count = plan.nfe - (output is not None)
        if self.nfe + count > self.max_nfe:
            raise RuntimeError(
                f"max_nfe={self.max_nfe} network evaluations do not suffice: {len(self.errors)} "
                f"steps were accepted and {self.rejected} rejected up to "
                f"{self.sde.place(plan.grid[0].item())}. Loosen rtol and atol, or raise max_nfe."
            )
        self.nfe += count
        made, news = {}, []
        run = Run(plan, self.model, x, self.path, made.__setitem__, dtype=self.dtype, checked=False)
        first = self._fresh(run.x.to(self.dtype), run.time) if output is None else output
        known = [first]
        keep = None if self.callback is None else lambda *arguments: news.append(arguments)
        drive(run, lambda x, t: known.pop() if known else self._fresh(x, t), keep)
        return _Step(run, made, first, news)

    def _fresh(self, x: Tensor, t: Tensor) -> Tensor:
        """The model's output in memory of its own, for a copy of the state: it may be used again
        after a rejected step."""
        output = self.model(x.clone(), t)
        return output.clone() if isinstance(output, Tensor) else output

    def _arrive(self, t: float, news: list[tuple[Any, ...]]) -> None:
        self.times.append(t)
        if self.callback is not None:
            *_, x, denoised = news[0]
            self.callback(len(self.times), self.nfe, t, x, denoised)


def _path(
    sde: SemiLinearSDE, start: Tensor, end: float, x: Tensor, source: NoiseSource, *, given: bool
) -> PathSource | None:
    """The path for the times between `start` and `end`; None for the ODE."""
    if sde.noise is None:
        return None
    if not given and isinstance(source, Gaussian):
        source = BrownianPath(source.seeds, RESOLUTION, integral=False)
    if not isinstance(source, PathSource) or isinstance(source, UnionPath):
        raise ValueError(
            f"{type(source).__name__} noise cannot serve adaptive steps with ell > 0. A rejected "
            "step is made again on part of its interval and must meet the noise that it had: drawn "
            "anew, it would bias the law of the samples, and a path for given times does not know "
            "the new ones. Use expint.noise.BrownianPath(seeds), or leave out noise."
        )
    taus = sde.noise(torch.stack([start, as_float64(end)]))
    if not torch.isfinite(taus).all():
        raise ValueError(
            f"A path has no value where the noise clock of {sde} is {taus[0].item()}, at sigma = "
            "infinity: use form='data', or a schedule whose sampling range starts at a finite "
            "sigma."
        )
    source.check(x, SubstepNoise(1, False, taus))
    # A run on the accepted times would choose other leaves than this one.
    if isinstance(source, BrownianPath) and source.resolution is None:
        return replace(source, resolution=RESOLUTION)
    return source
