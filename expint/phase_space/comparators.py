"""Published samplers for critically-damped Langevin diffusion that are not tableaus."""

from collections.abc import Sequence
from typing import Any

import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from expint.blocks import Block, BlockNodes, LinearSystem, square_root
from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.numerics.float64 import as_float64
from expint.phase_space.reverse import reverse_cld
from expint.plans import Plan, Row
from expint.schedules.formula.critically_damped import CLD
from expint.solvers import get


def split_cld(cld: CLD, *, end: float = 1e-3) -> SemiLinearSDE:
    """The reverse SDE (ℓ = 1) as SSCS splits it: the part that is solved exactly is the forward
    process with the sign of the Hamiltonian reversed, whose limit is N(0, diag(1, M)) too,

        dx = −β v/M dτ,    dv = β (x − Γ v/M) dτ + √(2Γβ) dω,    τ = stop − t,

    and F = S_v + v/M acts on the velocity, with the weight 2Γβ."""

    def drift(t: Tensor) -> Tensor:
        matrix = as_float64([[0.0, 1.0 / cld.M], [-1.0, cld.Gamma / cld.M]])
        return cld.beta_at(t)[..., None, None] * matrix

    def weight(t: Tensor) -> Tensor:
        g = cld.diffusion(t)
        return -g * g[..., 1:, :]

    return SemiLinearSDE.from_blocks(
        drift, weight, cld.diffusion, span=(cld.stop, end), name="reverse CLD, split for SSCS"
    )


def sscs_plan(cld: CLD, grid: Sequence[float] | Tensor) -> Plan:
    """Symmetric splitting: half a step of the exact part, a kick by F at its end over the whole
    step, half a step of the exact part. One evaluation per step; its F is that of `split_score`.

    Source: Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.3 and algorithm 1.
    """
    times = as_float64(grid)
    sde = split_cld(cld, end=float(times[-1]))
    system = sde.blocks
    assert isinstance(system, LinearSystem)
    times = sde.check_grid(times)
    middle = 0.5 * (times[1:] + times[:-1])
    kick = torch.zeros(len(middle), 2, 1, dtype=torch.float64)
    kick[:, 1, 0] = 2.0 * cld.Gamma * (cld.elapsed(times[:-1]) - cld.elapsed(times[1:]))
    rows: list[Row] = []
    noises = []
    halves = system.transition(times[:-1], middle), system.transition(middle, times[1:])
    for i in range(len(middle)):
        (one, q_one), (two, q_two) = ((phi[i], q[i]) for phi, q in halves)
        roots = square_root(q_one), square_root(q_two)
        ends = [float(v) for v in (times[i], middle[i], times[i + 1])]
        first = Row(
            i, ends[0], ends[1], "F", _block(one), (), (_block(roots[0]),), i, evaluates=False
        )
        weights = ((len(rows) + 1, _block(two @ kick[i])),)
        noise = (_block(two @ roots[0]), _block(roots[1]))
        rows += [first, Row(i, ends[1], ends[2], "F", _block(two @ one), weights, noise, i)]
        noises.append(SubstepNoise(2, False, BlockNodes(system, as_float64(ends))))
    return Plan(sde, get("seeds-1"), times, tuple(rows), tuple(noises))


def split_score(cld: CLD, score: Any) -> Any:
    """F = S_v + v/M of the splitting, from the hybrid score S_v(u, t)."""
    return lambda u, t: score(u, t) + u[:, 1:] / cld.M


class GDDIM:
    """gDDIM's equation: the probability-flow ODE in the noise form ε = R⁻¹ (u − m D), with the root
    R Rᵀ = Σ that the ODE itself carries along, R' = (A + ½ G Gᵀ Σ⁻¹) R. With it ε is constant along
    the paths where the data are one point, which Cholesky's root does not give.

    `sde` is the equation; a call with a denoiser gives F. R is tabulated in λ and
    interpolated by cubic splines.

    Source: Zhang, Tao & Chen, gDDIM, arXiv 2206.05564, sections 3 and 4: its multistep predictors
    are "seeds-ab2", "seeds-ab3" in the time.
    """

    def __init__(self, cld: CLD, *, end: float = 1e-3, entries: int = 4000) -> None:
        self._cld = cld
        flow = reverse_cld(cld, "data", 0.0, end=end).blocks
        assert flow is not None
        times = cld.grid(entries, end)
        steps, _ = flow.transition(times[:-1], times[1:])
        roots = [torch.linalg.cholesky(cld.kernel(times[0])[1])]
        for step in steps:
            roots.append(step @ roots[-1])
        self._spline = CubicSpline(cld.lam(times).numpy(), torch.stack(roots).numpy())
        self.sde = SemiLinearSDE.from_blocks(
            cld.drift, self._weight, span=(cld.stop, end), name="gDDIM's form of CLD, ell=0"
        )

    def root(self, t: Tensor) -> Tensor:
        """R at times `t`, shape (*t, 2, 2)."""
        return torch.as_tensor(self._spline(self._cld.lam(t).numpy()))

    def _weight(self, t: Tensor) -> Tensor:
        g = self._cld.diffusion(t)
        return 0.5 * g @ g.mT @ torch.linalg.inv(self.root(t)).mT

    def __call__(self, denoiser: Any) -> Any:
        """F(u, t) = R⁻¹ (u − m D), shape (batch, 2, *event)."""

        def noise(u: Tensor, t: Tensor) -> Tensor:
            mean, inverse = self._cld.kernel(t)[0], torch.linalg.inv(self.root(t))
            clean = mean.to(u).reshape(2, *[1] * (u.ndim - 2)) * denoiser(u, t)
            return _block(inverse.to(u)).on(u - clean)

        return noise


def _block(matrix: Tensor) -> Block:
    return matrix.as_subclass(Block)
