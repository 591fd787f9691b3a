"""Noise between k-diffusion's noise samplers and expint's noise sources, in both directions.

A noise sampler of k-diffusion is a callable noise_sampler(sigma, sigma_next) that returns standard
normals for the interval between two noise levels. Samplers that ask for overlapping intervals (half
of a step, then all of it) rely on their correlation, and that depends on the clock in which the
path is a Brownian motion. For the reverse SDE it is τ = σ^(−2η), η = ℓ²:

    x_t = (σ_t/σ_s)^(1+η) x_s + ∫ … D dλ + σ_t^(1+η) [W(τ_t) − W(τ_s)].

From σ_s to the middle of a step of length h in λ, and from σ_s to its end, the normals have the
correlation

    √((τ_m − τ_s)/(τ_t − τ_s)) = √((e^{ηh} − 1)/(e^{2ηh} − 1)),        0.52 at h = 1, η = 1.

A path in the clock σ has √((1 − e^{−h/2})/(1 − e^{−h})) there, 0.79 at h = 1, and the joint law of
stage and step is wrong. As h → 0 both tend to √½, so that the mistake shows at few steps only.

Source: the exact solution in the data form, SEEDS, arXiv 2305.14267, eq. (10).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from expint.guards.arguments import checked
from expint.noise import BrownianPath, SubstepNoise, per_sample
from expint.noise.seeding import torch_seed
from expint.plans import Plan

RESOLUTION = 64
"""Leaves of the Brownian path per e-fold of τ: for some 500 steps. A run with two noise times in
one leaf is refused.
"""


def seeds_of(
    seed: int | None, seeds: Sequence[int] | None, start: int, batch: int
) -> Sequence[int]:
    """One seed per sample, as for `expint.sample`; without any, torch's global generator decides
    the run."""
    run = torch_seed() if seed is None and seeds is None else seed
    return per_sample(run, batch, seeds=seeds, start=start)


# In lower case, because k-diffusion's samplers call it like a function.
class brownian_noise_sampler:  # noqa: N801
    """A noise sampler backed by one Brownian path in the clock of the reverse SDE, for samplers
    here and in k-diffusion.

    Args:
        x: a state, shape (batch, *event): the noise has its shape, dtype and device.
        sigma_min, sigma_max: the range, 0 < sigma_min ≤ sigma_max, as in k-diffusion; the path
            covers all levels whatever it is.
        seed, seeds, start: as for `expint.sample`; without either, torch's global generator
            decides.
        eta: ℓ² > 0 of the sampler that it serves.
        flow: whether the levels are times of rectified flow.
        resolution, device: of the `expint.noise.BrownianPath`.

    Returns:
        A callable noise_sampler(sigma, sigma_next), levels as numbers or 0-dimensional tensors.
        With the same seed it gives the same path, whatever the grid. From a lower level to a higher
        one the sign is the opposite.

    Raises:
        TypeError, ValueError: for a range, eta, seed or resolution that is not allowed.

    Example:
        >>> import torch
        >>> noise_sampler = brownian_noise_sampler(torch.zeros(2, 3), 0.1, 10.0, seed=0)
        >>> noise_sampler(10.0, 5.0).shape
        torch.Size([2, 3])
    """

    @checked
    def __init__(
        self,
        x: Tensor,
        sigma_min: Tensor | float,
        sigma_max: Tensor | float,
        seed: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
        start: int = 0,
        eta: float = 1.0,
        flow: bool = False,
        resolution: int = RESOLUTION,
        device: torch.device | str | None = None,
    ) -> None:
        if x.itemsize == 1 or torch.as_tensor(sigma_min).ndim or torch.as_tensor(sigma_max).ndim:
            raise TypeError("x has 16 bits at least, and sigma_min and sigma_max are numbers.")
        low, high = float(sigma_min), float(sigma_max)
        if not 0.0 < low <= high < math.inf:
            given = f"{low:.9g} and {high:.9g}"
            raise ValueError(f"A range of noise levels is 0 < sigma_min <= sigma_max, got {given}.")
        if not 0.0 < eta < math.inf:
            raise ValueError(f"eta (ell squared) is positive and finite here, got {eta!r}.")
        own = seeds_of(seed, seeds, start, len(x))
        path = BrownianPath(own, resolution=resolution, device=device)
        # √τ of the path is large where σ is small.
        wide = torch.promote_types(x.dtype, torch.float32)
        self.path, self.dtype = path.open(x.to(wide)), x.dtype
        self.eta, self.flow = float(eta), flow

    @checked
    def __call__(self, sigma: Tensor | float, sigma_next: Tensor | float) -> Tensor:
        """[W(τ_next) − W(τ)]/√|τ_next − τ|, in the shape, dtype and on the device of x.

        Raises:
            ValueError: for a level outside the range of the path (0 is), or two levels that are the
                same.
        """
        if torch.as_tensor(sigma).numel() != 1 or torch.as_tensor(sigma_next).numel() != 1:
            raise TypeError(f"Noise levels are single numbers, got {sigma} and {sigma_next}.")
        start, end = self._clock(float(sigma)), self._clock(float(sigma_next))
        low, high = sorted((start, end))
        if low == high:
            raise ValueError(f"There is no noise between a level and itself: {sigma} twice.")
        (increment,) = self.path.increments(torch.tensor([low, high], dtype=torch.float64))
        return (increment / math.copysign(math.sqrt(high - low), end - start)).to(self.dtype)

    def _clock(self, sigma: float) -> float:
        """τ = σ^(−2η), with σ = t/(1 − t) for the time t of a flow."""
        if not 0.0 < sigma < math.inf or (self.flow and sigma > 1.0):
            allowed = "in (0, 1], times of a flow," if self.flow else "positive and finite,"
            what = f"got {sigma:.9g}: the step to 0 has no noise"
            raise ValueError(f"Noise levels are {allowed} {what}.")
        signal = 1.0 - sigma if self.flow else 1.0
        return (signal / sigma) ** (2.0 * self.eta)


Intervals = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class SampledNoise:
    """A noise source that asks a noise sampler for the intervals between a plan's noise nodes, one
    after the other.

    Args:
        sampler: the noise sampler.
        plan: what is run.
        sigmas: the levels of its grid, as they were given: σ itself, or the time of a flow model.
    """

    sampler: Callable[..., Any]
    plan: Plan
    sigmas: Tensor

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_Asked":
        """See `NoiseSource.stream`."""
        if any(substep.integral for substep in run):
            raise ValueError(
                f"{self.plan.solver!r} uses the integral of the path, which noise samplers lack: "
                "leave it out, or pass a noise source such as expint.noise.BrownianPath(seeds)."
            )
        return _Asked(self.sampler, iter(self._intervals()), like)

    def _intervals(self) -> list[Intervals]:
        """For each substep with noise the pairs of levels between its nodes."""
        plan = self.plan
        levels = self.sigmas.to(torch.promote_types(self.sigmas.dtype, torch.float32))
        found: dict[int, Intervals] = {}
        for substep, noise in enumerate(plan.noises):
            if noise is None:
                continue
            rows = [row for row in plan.rows if row.substep == substep]
            step = rows[0].step
            if step in found:
                raise ValueError(
                    f"{plan.solver!r} adds noise more than once in a step, and a noise_sampler "
                    "could only repeat that of the step: leave it out."
                )
            # A row at the k-th noise node uses the first k normals.
            nodes = {len(row.noise): levels.new_tensor(row.target) for row in rows}
            nodes |= {0: levels[step], noise.count: levels[step + 1]}
            found[step] = list(pairwise(nodes[k] for k in range(noise.count + 1)))
        return list(found.values())


@dataclass(frozen=True, eq=False)
class _Asked:
    sampler: Callable[..., Any]
    substeps: Iterator[Intervals]
    like: Tensor

    def normals(self, substep: SubstepNoise) -> Sequence[Tensor]:
        """See `NoiseStream.normals`."""
        return [self._ask(*interval) for interval in next(self.substeps)]

    def _ask(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        z, x = self.sampler(sigma, sigma_next), self.like
        if isinstance(z, Tensor) and z.shape == x.shape:
            return z.to(device=x.device, dtype=x.dtype)
        seen = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(f"noise_sampler must return normals like x, {tuple(x.shape)}, got {seen}.")
