"""What a plan makes of Gaussian data, exactly: it is linear in its initial state and its normals,
so that one run, with one of them in each entry of the batch, takes no network and no samples."""

from collections.abc import Sequence

import torch

from expint.noise import Replay
from expint.plans import Plan
from expint.runs import Run, drive


def exact_moments(
    plan: Plan, data_stds: Sequence[float], mean: float = 1.0
) -> tuple[list[float], list[float]]:
    """Of the plan's samples, for data N(mean, std²) with each of the standard deviations: the
    standard deviation over the exact one, and the error of the mean in units of the exact one."""
    from expint.targets import Gaussian  # `import expint` does without

    diffusion = plan.sde.diffusion
    assert diffusion and not plan.has_tangents
    d, normals = len(data_stds), plan.normals
    data = Gaussian([mean] * d, [std**2 for std in data_stds], diffusion.schedule)
    # The last entry has no noise at all: it becomes the mean.
    units = torch.eye(normals + 2, normals + 1, dtype=torch.float64)[..., None].expand(-1, -1, d)
    (begin, first), (end, last) = data.moments(plan.grid[0]), data.moments(plan.grid[-1])
    drawn = units.transpose(0, 1)
    run = Run(plan, data, begin + drawn[-1] * first.sqrt(), Replay(drawn), checked=False)
    drive(run, data)  # with gradients, which what the plan computes once must keep
    spread, reached = run.x[:-1] - run.x[-1], run.x[-1]
    stds = spread.norm(dim=0) / last.sqrt()
    return stds.tolist(), ((reached - end) / last.sqrt()).tolist()
