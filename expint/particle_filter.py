"""Sequential Monte Carlo along a plan: particles that are weighted and resampled by a potential."""

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.guards.finite import check_state
from expint.guards.training import warn_in_training
from expint.model_plans import title
from expint.noise import per_sample
from expint.noise.source import fill_normals, generators
from expint.numerics.float64 import are_numbers, is_whole
from expint.plans import Plan
from expint.runs import Run, describe, drive
from expint.runs.model import Counted
from expint.runs.start import start_state
from expint.sampling import SamplingOptions, arguments_for, plan_sampling
from expint.solvers.registry import Solver
from expint.soundness import warn_of

# Where resampling is decided shares no numbers with the particles.
_RESAMPLING_STREAM = 0x3C6EF372

Potential = Callable[[int, float, Tensor, Tensor], Tensor]
"""potential(step, t, x, denoised) → (n,): of the state x after `step` steps, at time t, with the
latest denoised estimate, both (n, *event)."""


@dataclass(frozen=True, eq=False)
class Particles:
    """Weighted samples of p(x) exp(potential of the last state).

    Attributes:
        plan: what was run.
        samples: the particles, shape (n, *event).
        log_weights: of the particles, float64, shape (n,); their exponentials add up to 1.
        log_evidence: estimate of log E exp(potential) under the sampler without it; its
            exponential is without bias.
        effective: effective number of particles, 1/Σ w², after each step, before resampling.
        resampled: the steps after which it was.
        ancestors: of each particle its place at the first time, shape (n,).
    """

    plan: Plan
    samples: Tensor
    log_weights: Tensor
    log_evidence: float
    effective: tuple[float, ...]
    resampled: tuple[int, ...]
    ancestors: Tensor

    @property
    def weights(self) -> Tensor:
        """They add up to 1, float64, shape (n,)."""
        return self.log_weights.exp()


def particles(
    model: Any,
    shape: Sequence[int] | Tensor,
    potential: Potential,
    solver: Solver | None = None,
    *,
    threshold: float = 0.5,
    batch: int | None = None,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    progress: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **options: Unpack[SamplingOptions],
) -> Particles:
    """Sample p(x) exp(potential(x)) by sequential Monte Carlo: particles of a stochastic plan,
    weighted after every step, and resampled where their weights have become unequal.

    The weights change by the differences of the potential, which add up to its last value: the
    target is that of the potential after the last step, and those before it only say which
    particles are worth going on with.

    Args:
        model: as for `expint.sample`.
        shape: (n, *event) for n particles; or their initial states.
        potential: potential(step, t, x, denoised) → log-potential of each particle, shape (n,),
            after each of the plan's steps, 1 to `plan.steps`; −∞ for a particle that is out of the
            question. `denoised` is the estimate of the step's last evaluation.
        solver, seed, seeds, start, progress, dtype, device, options: as for `expint.sample`;
            without a solver, a stochastic one by the number of evaluations. Particle i of a step
            has the noise of seed i, whichever particle it was made from.
        threshold: resample where the effective number is below this part of n: 0 for never, 1 for
            after every step but those of equal weights.
        batch: particles that the model is called with at a time; default: all. The result is the
            same, if the model gives the same for each particle in any batch. Conditions of the
            model are one for all particles, since a particle may be made from any other.

    Returns:
        The particles with their weights; they are not resampled after the last step.

    Raises:
        TypeError, ValueError: before the first evaluation for anything that does not fit, and for
            a plan without noise; at a step whose potential has another shape, or no particle left.
        FloatingPointError: for a potential that is NaN or +∞, with the step and the particle.

    Source: Del Moral, Doucet & Jasra (2006) (sequential Monte Carlo samplers); Kitagawa (1996)
    (systematic resampling); Wu et al., arXiv 2306.17775 (along diffusion models).

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([0.0], [1.0], expint.schedules.EDM())
        >>> near = lambda step, t, x, denoised: -2.0 * (denoised[:, 0] - 1.0) ** 2
        >>> found = particles(target, (500, 1), near, steps=20, progress=False)
        >>> abs(float(found.weights @ found.samples[:, 0].double()) - 0.8) < 0.15
        True
    """
    about = describe(model)
    warn_in_training(model)
    try:
        with suppress(ValueError):  # of a function without a signature
            inspect.signature(potential).bind("step", "t", "x", "denoised")
    except TypeError as error:
        how = f"potential(step, t, x, denoised) -> (n,), got {potential!r} ({error})"
        raise TypeError(f"potential is called as {how}.") from error
    if not (are_numbers(threshold) and 0.0 <= threshold <= 1.0):
        raise ValueError(f"threshold is a part of the particles, from 0 to 1, got {threshold!r}.")
    if batch is not None and not (is_whole(batch) and batch >= 1):
        raise ValueError(f"batch must be a positive integer, got {batch!r}.")
    plan = plan_sampling(about.schedule, **arguments_for(about, solver, options, noise=True))
    if not plan.run:
        raise ValueError(
            f"{plan.solver!r} on {plan.sde} adds no noise: particles that are resampled would stay "
            "equal. Take a solver or an ell that adds noise, for example ell=1."
        )
    warn_of(plan)
    bar = tqdm(total=plan.nfe, disable=not progress, unit="NFE", desc=title(plan))
    with torch.no_grad(), bar:
        seeding = partial(per_sample, seed, seeds=seeds, start=start)
        x, noise = start_state(about, shape, plan, seeding, None, dtype, device)
        check_state(x)
        counted = Counted(about, _in_parts(model, batch), bar)
        run = Run(plan, counted, x, noise, rates=True)
        filtered = _Filter(plan, potential, len(x), threshold, seeding(len(x))[0])
        drive(run, counted, partial(filtered.see, run))
        return filtered.result(run.result())


def _in_parts(model: Any, batch: int | None) -> Any:
    return model if batch is None else lambda x, t: torch.cat([model(p, t) for p in x.split(batch)])


class _Filter:
    """The weights, and who comes from whom.

    Its uniform numbers are of the first particle's seed."""

    def __init__(
        self, plan: Plan, potential: Potential, n: int, threshold: float, seed: int
    ) -> None:
        self._plan, self._potential, self._threshold = plan, potential, threshold
        self._streams = generators([seed], _RESAMPLING_STREAM, torch.device("cpu"))
        self._last = torch.zeros(n, dtype=torch.float64)
        self._weights = torch.full((n,), -math.log(n), dtype=torch.float64)
        self._ancestors, self._evidence = torch.arange(n), 0.0
        self._effective, self._resampled = list[float](), list[int]()

    def see(self, run: Run, step: int, nfe: int, t: float, x: Tensor, denoised: Tensor) -> None:
        """Weight the particles after a step, and put others in their places."""
        value = self._checked(self._potential(step, t, x, denoised), step)
        # NaN is -inf less -inf, of a particle that was out of the question before.
        found = self._weights + value - self._last
        weights = found.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        total = float(weights.logsumexp(0))
        if total == -math.inf:
            raise ValueError(f"After step {step} the potential of every particle is -inf.")
        self._weights, self._last, self._evidence = weights - total, value, self._evidence + total
        n = len(value)
        self._effective.append(float(torch.exp(-(2.0 * self._weights).logsumexp(0))))
        if step == self._plan.steps or self._effective[-1] >= self._threshold * n * (1.0 - 1e-9):
            return
        normal = torch.empty(1, 1, 1, dtype=torch.float64)
        fill_normals(self._streams, normal)
        places = (torch.arange(n) + torch.special.ndtr(normal).item()) / n
        order = torch.searchsorted(self._weights.exp().cumsum(0), places).clamp(max=n - 1)
        self._resampled.append(step)
        self._weights = torch.full_like(weights, -math.log(n))
        self._last, self._ancestors = value[order], self._ancestors[order]
        tensors, position = run.snapshot()
        run.restore({name: held[order.to(x.device)] for name, held in tensors.items()}, position)

    def result(self, samples: Tensor) -> Particles:
        """What was found."""
        found = self._plan, samples, self._weights, self._evidence
        return Particles(*found, tuple(self._effective), tuple(self._resampled), self._ancestors)

    def _checked(self, value: Any, step: int) -> Tensor:
        n = len(self._weights)
        if not isinstance(value, Tensor) or value.shape != (n,):
            got = tuple(value.shape) if isinstance(value, Tensor) else value
            what = f"one number for each particle, of shape ({n},)"
            raise ValueError(f"potential gives {what}; after step {step} it gave {got!r}.")
        found = value.detach().cpu().to(torch.float64)
        wrong = torch.nonzero(found.isnan() | found.isposinf()).flatten().tolist()
        if wrong:
            raise FloatingPointError(
                f"The potential of particle {wrong[0]} after step {step} is {found[wrong[0]]}: it "
                "is a finite number, or -inf for a particle that is out of the question."
            )
        return found
