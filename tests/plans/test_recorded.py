"""Plans and runs of every registered solver against a record of them: a change of the machinery
leaves every number where it was.

`tests/data/recorded.npz` holds, for each solver on three grids (`GRIDS`), the rows (step, time,
target, scale, evaluates, substep), the weights (row, evaluation, weight) and the noise covariance
of every substep as lower triangles; and the samples of two runs: float32 from seeds with fresh
normals (recorded anew when the law of seeds changed, and with it the normals of each seed), and
float64 along a path from the states "start" (recorded anew when the tree of `BrownianPath`
changed).
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from expint import noise, sample, schedules, solvers
from expint.plans import Plan
from expint.sampling import plan_sampling
from expint.targets import GaussianMixture

RECORD = dict(np.load(Path(__file__).parents[1] / "data" / "recorded.npz"))
GRIDS = {
    "edm": (schedules.EDM(), {"grid": "uniform_lambda", "steps": 6}),
    "vp": (schedules.VP(), {"grid": "karras", "steps": 6}),
    "flow": (schedules.Flow(), {"grid": "uniform_time", "steps": 6, "final": "none"}),
}
NAMES = sorted({key.split("|")[0] for key in RECORD if "|" in key})
SEEDS = [3, 1, 4, 15]
MIXTURE = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], 0.4, [1.0, 2.0], schedules.EDM())


def arrays(plan: Plan) -> dict[str, np.ndarray]:
    rows = plan.rows
    covariances = [plan.noise_covariance(i) for i in range(len(plan.noises))]
    lower = [np.tril_indices(len(c)) for c in covariances]
    return {
        "rows": np.array(
            [(r.step, r.time, r.target, float(r.scale), r.evaluates, r.substep) for r in rows]
        ),
        "weights": np.array([(i, j, float(w)) for i, r in enumerate(rows) for j, w in r.weights]),
        "covariance": np.concatenate(
            [c.numpy()[at] for c, at in zip(covariances, lower, strict=True)]
        ),
    }


def test_every_solver_is_recorded():
    assert NAMES == sorted(solvers.names())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", NAMES)
def test_plans(name: str, grid: str):
    schedule, options = GRIDS[grid]
    if f"{name}|{grid}|error" in RECORD:
        with pytest.raises(ValueError):
            plan_sampling(schedule, name, **options)
        return
    found = arrays(plan_sampling(schedule, name, **options))
    for part, tolerance in (("rows", 1e-14), ("weights", 1e-14), ("covariance", 1e-13)):
        np.testing.assert_allclose(
            found[part], RECORD[f"{name}|{grid}|{part}"], rtol=tolerance, atol=0.0, err_msg=part
        )


@pytest.mark.parametrize("kind", ["fresh", "path"])
@pytest.mark.parametrize("name", NAMES)
def test_runs(name: str, kind: str):
    options = {"steps": 8, "grid": "karras", "progress": False}
    if kind == "path":
        start, tolerance = torch.from_numpy(RECORD["start"]), 1e-12
        options |= {"noise": noise.BrownianPath(SEEDS, resolution=64)}
    else:
        start, tolerance = (4, 2), 1e-6
        options |= {"seeds": SEEDS}
    if f"{name}|{kind}|error" in RECORD:
        with pytest.raises(ValueError):
            sample(MIXTURE, start, name, **options)
        return
    x = sample(MIXTURE, start, name, **options)
    np.testing.assert_allclose(x.numpy(), RECORD[f"{name}|{kind}"], rtol=0.0, atol=tolerance)
