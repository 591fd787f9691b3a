"""The reverse SDE of critically-damped Langevin diffusion has the marginals of the forward process,
without sampling: on Gaussian data every step is an affine map with noise, and the maps compose."""

import pytest
import torch
from torch import Tensor

from expint import Plan, compile_plan
from expint.phase_space import reverse_cld
from expint.schedules import CLD

CRITICAL, END, MEAN, STD = CLD(), 0.05, 0.7, 0.5


def forward_law(t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, shape (*t, 2), and covariance, shape (*t, 2, 2), of u_t for data from N(.7, .25)."""
    m, covariance = CRITICAL.kernel(t)
    return MEAN * m, covariance + STD**2 * m[..., :, None] * m[..., None, :]


def denoiser(t: Tensor) -> Tensor:
    """The row (a, b) with E[x_0 | u_t] = a u + b, shape (*t, 1, 3)."""
    m, covariance = forward_law(t)
    a = STD**2 / MEAN * torch.linalg.solve(covariance, m)
    return torch.cat([a, MEAN - (a * m).sum(-1, keepdim=True)], -1)[..., None, :]


def law_of_the_output(plan: Plan, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Exact law of the state at the end of a plan whose steps have the same rows: of all steps at
    once the matrices by which (u, 1) and the normals enter, then one step after the other."""
    count = len(plan.rows) // plan.steps
    steps = [plan.rows[i : i + count] for i in range(0, len(plan.rows), count)]
    normals = max(len(row.noise) for row in plan.rows)
    base = torch.eye(2, 3 + 2 * normals).double().expand(len(steps), -1, -1)  # of (u, 1, z)
    x, values = base, list[Tensor]()
    for rows in zip(*steps, strict=True):
        ones = torch.zeros_like(x[:, :1])
        ones[..., 2] = 1.0
        times = torch.tensor([row.time for row in rows]).double()
        values.append(denoiser(times) @ torch.cat([x, ones], 1))
        x = blocks([row.scale for row in rows]) @ base
        for place, (j, _) in enumerate(rows[0].weights):
            assert all(row.weights[place][0] == j + n * count for n, row in enumerate(rows))
            x = x + blocks([row.weights[place][1] for row in rows]) @ values[j]
        for j in range(len(rows[0].noise)):
            part = blocks([row.noise[j] for row in rows])
            x = x + torch.nn.functional.pad(part, (3 + 2 * j, 2 * (normals - 1 - j)))
    for maps in x:
        covariance = maps[:, :2] @ covariance @ maps[:, :2].T + maps[:, 3:] @ maps[:, 3:].T
        mean = maps[:, :2] @ mean + maps[:, 2]
    return mean, covariance


def blocks(values: list[object]) -> Tensor:
    return torch.stack([v.as_subclass(Tensor) for v in values if isinstance(v, Tensor)])


@pytest.mark.parametrize("ell", [0.5, 1.0, 1.5])
def test_marginals_are_the_forward_ones_to_1e_8_at_2000_steps(ell: float):
    """With seeds-sra3 on a grid that is uniform in 1/√t, in units of the standard deviations. What
    is left is the error of discretisation: 8 times more with half the steps."""
    grid = CRITICAL.grid(2000, END, -2.0)
    plan = compile_plan(reverse_cld(CRITICAL, "data", ell, end=END), "seeds-sra3", grid)
    mean, covariance = law_of_the_output(plan, *forward_law(grid[0]))
    m, exact = forward_law(grid[-1])
    std = exact.diagonal().sqrt()
    torch.testing.assert_close(mean / std, m / std, rtol=0, atol=1e-8)
    scale = std[:, None] * std
    torch.testing.assert_close(covariance / scale, exact / scale, rtol=0, atol=1e-8)
