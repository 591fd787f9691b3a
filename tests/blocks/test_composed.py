"""Noise of a fine grid, composed for plans of coarser ones: the integral of the path is one too."""

import torch
from torch import Tensor

from expint import SemiLinearSDE, integrate
from expint.noise.paths.composed import ComposedNoise


def test_integrals_of_the_path_add_up():
    """Without a linear part the stage of seeds-sra at 3/4 is u + 3U/2h. Over a step U is that over
    its halves, and half a step of the first increment: U = U_1 + N_1/2 + U_2 for a step of 1. The
    fine grid has only the halves; forwards and backwards in time."""
    for start, end in ((0.0, 1.0), (1.0, 0.0)):
        sde = SemiLinearSDE.from_blocks(0.0, None, 1.0, span=(start, end))
        path = ComposedNoise(sde, range(6), [start, 0.5, end])
        x, stages = torch.zeros(6, 1, dtype=torch.float64), list[Tensor]()

        def F(u: Tensor, t: Tensor, stages: list[Tensor] = stages) -> Tensor:
            stages.append(u)
            return torch.zeros_like(u)

        whole = integrate(sde, F, x, [start, end], "seeds-sra", path).x
        halves = integrate(sde, F, x, [start, 0.5, end], "seeds-sra", path).x
        _, stage, _, first, middle, second = stages
        U = [2 / 3 * h * (u - x) for u, x, h in ((stage, 0, 1), (first, 0, 0.5))]
        U.append(2 / 3 * 0.5 * (second - middle))
        torch.testing.assert_close(halves, whole, rtol=0, atol=1e-12)
        torch.testing.assert_close(U[0], U[1] + 0.5 * middle + U[2], rtol=0, atol=1e-12)
        assert (U[0] - 0.5 * whole).abs().min() > 1e-4  # it is not known from the increment
