"""Runs of other people's samplers, replayed number by number.

`data/*.json`: the grid, the state at its start, every Gaussian in order of drawing, and what the published code returned.
Conventions that differ from this library's: the SEEDS authors subtract the noise and skip the step to σ = 0, and draw for it all
the same. The DPM-Solver code keeps its times and coefficients in float32 whatever the state (laid out in float64 its own formulas
move by 1e-5), so those runs agree to single precision; in double precision the formulas are in test_published_formulas.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from expint import compile_plan, execute, grids, reverse_sde, solvers
from expint.noise import Replay
from expint.schedules import EDM, VP
from expint.solvers import Tableau, seeds2, seeds3
from expint.targets import GaussianMixture

DATA = Path(__file__).parent / "data"
# name: solver, form, ℓ, sign of the noise
RUNS: dict[str, tuple[str | Tableau, str, float, int]] = {
    "edm_seeds_1_data": ("seeds-1", "data", 1.0, -1),
    "edm_seeds_1_noise": ("seeds-1", "noise", 1.0, -1),
    "edm_seeds_2": ("seeds-2", "data", 1.0, 1),
    "edm_seeds_2_data": ("seeds-2", "data", 1.0, -1),
    "edm_seeds_2_noise": ("seeds-2", "noise", 1.0, -1),
    "edm_seeds_2_r03_eta05": (seeds2(0.3), "data", 0.5**0.5, 1),
    "edm_seeds_3": ("seeds-3", "data", 1.0, 1),
    "edm_seeds_3_r025_r06": (seeds3(0.25, 0.6, published_row=True), "data", 1.0, 1),
    "edm_ddim": ("seeds-1", "data", 0.0, 1),
    "edm_ddpm_ancestral": ("seeds-1", "data", 1.0, 1),
    "vpl_dpm_solver_1": ("seeds-1", "noise", 0.0, 1),
    "vpl_dpm_solver_2": ("seeds-2", "noise", 0.0, 1),
    "vpl_dpm_solver_3": ("seeds-3", "noise", 0.0, 1),
}


def load(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def replay(name: str) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """Ours, theirs, our evaluations, theirs."""
    solver, form, ell, sign = RUNS[name]
    run = load(name)
    if name.startswith("edm"):
        schedule = EDM()
        grid = run["sigmas"]
    else:
        schedule = VP(beta_d=19.9, beta_min=0.1, t_min=1e-3)
        grid = grids.uniform_lambda(schedule, run["steps"], final="none")
    spec = run["model"]
    model = GaussianMixture(spec["means"], spec["std"], spec["weights"], schedule)
    plan = compile_plan(reverse_sde(schedule, form, ell), solver, grid)
    noise = sign * torch.tensor(run["noise"], dtype=torch.float64)
    # The authors' code draws for the step to σ = 0 that it then skips; nothing else is left over.
    assert plan.gaussians <= len(noise) <= plan.gaussians + solvers.get(solver).evaluations
    x = torch.tensor(run["x_init"], dtype=torch.float64)
    result = execute(plan, model, x, Replay(noise) if ell else None)
    return result, torch.tensor(run["x_final"], dtype=torch.float64), plan.nfe, run["nfe"]


@pytest.mark.parametrize("name", RUNS)
def test_replay(name: str):
    ours, theirs, nfe, their_nfe = replay(name)
    assert nfe == their_nfe
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5 if name.startswith("vpl") else 1e-8)


@pytest.mark.parametrize("name", RUNS)
def test_the_replay_can_fail(name: str, monkeypatch: pytest.MonkeyPatch):
    """With another sign of the noise, or without noise another solver, the result is another one."""
    solver, form, ell, sign = RUNS[name]
    other = (solver, form, ell, -sign) if ell else ("seeds-1" if solver != "seeds-1" else "seeds-2", form, ell, sign)
    monkeypatch.setitem(RUNS, name, other)
    ours, theirs, _, _ = replay(name)
    assert (ours - theirs).abs().max() > 1e-3
