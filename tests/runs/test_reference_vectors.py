"""Runs of other people's samplers, replayed number by number.

`data/*.json`: the grid, the state at its start, every Gaussian in order of drawing, and what the
published code returned. Conventions that differ from this library's: the SEEDS authors subtract the
noise and skip the step to σ = 0, and draw for it all the same. The DPM-Solver code keeps its times
and coefficients in float32 whatever the state (laid out in float64 its own formulas move by 1e-5),
so those runs agree to single precision; in double precision the formulas are in
test_published_formulas.py.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from expint import compile_plan, grids, reverse_sde, solvers
from expint.equations.noise_scales import window
from expint.noise import Replay
from expint.runs import execute
from expint.schedules import EDM, VP, FromCallables
from expint.solvers import (
    Method,
    Tableau,
    deis,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m_sde,
    edm_stochastic,
    sa_solver,
    seeds2,
    seeds3,
    unipc,
)
from expint.targets import GaussianMixture

DATA = Path(__file__).resolve().parents[1] / "data"
_B = 2 * (math.log(0.002**2 + 1) / 1e-3 - math.log(80.0**2 + 1)) / (1e-3 - 1)
_B0 = math.log(80.0**2 + 1) - 0.5 * _B
VP_OF_EDM = FromCallables(
    lambda t: torch.exp(-0.25 * _B * t**2 - 0.5 * _B0 * t),
    lambda t: torch.sqrt(-torch.expm1(-0.5 * _B * t**2 - _B0 * t)),
    domain=(9e-4, 1.001),
)
SINGLE = 2e-5
"""What single precision of the published code leaves between its result and ours."""


@dataclass(frozen=True)
class Run:
    """How a file is replayed: a solver, its own equation unless `form` and `ell` say another, and
    the conventions of the code.
    """

    solver: str | Tableau | Method
    form: str | None = None
    ell: float | None = None
    sign: int = 1  # of the noise
    skipped: int = 0  # draws before the first that is used
    quiet_end: bool = False  # no noise in the last step, although it ends at σ > 0
    tolerance: float = 1e-8


RUNS = {
    "edm_seeds_1_data": Run("seeds-1", "data", 1.0, -1),
    "edm_seeds_1_noise": Run("seeds-1", "noise", 1.0, -1),
    "edm_seeds_2": Run("seeds-2", "data", 1.0),
    "edm_seeds_2_data": Run("seeds-2", "data", 1.0, -1),
    "edm_seeds_2_noise": Run("seeds-2", "noise", 1.0, -1),
    "edm_seeds_2_r03_eta05": Run(seeds2(0.3), "data", 0.5**0.5),
    "edm_seeds_3": Run("seeds-3", "data", 1.0),
    "edm_seeds_3_r025_r06": Run(seeds3(0.25, 0.6, published_row=True), "data", 1.0),
    "edm_ddim": Run("ddim"),
    "edm_ddpm_ancestral": Run("ddpm"),
    "edm_dpm_2_ancestral": Run("dpm2-ancestral"),
    "edm_dpmpp_2s_ancestral": Run("dpmpp-2s-ancestral"),
    "edm_dpmpp_2m": Run("dpmpp-2m"),
    "edm_dpmpp_2m_sde_midpoint": Run("dpmpp-2m-sde"),
    "edm_dpmpp_2m_sde_heun": Run(dpmpp_2m_sde("heun")),
    "edm_dpmpp_3m_sde": Run(dpmpp_3m_sde(published=True)),
    "edm_edm_heun": Run("heun"),
    "edm_edm_stochastic": Run(
        edm_stochastic(s_churn=10, s_min=0.05, s_max=50, s_noise=1.003), skipped=1
    ),
    "edm_ipndm": Run("ipndm"),
    "edm_lms": Run("lms"),
    # The authors' integrals are Riemann sums, refined to 1e-6; they add no noise in the step that
    # reaches σ_min.
    "edm_er_sde_2": Run("er-sde-2", quiet_end=True, tolerance=1e-5),
    "edm_er_sde_3": Run("er-sde-3", quiet_end=True, tolerance=1e-5),
    # The polynomials are in the time of the VP schedule that has the same σ at both ends,
    # integrated by a sum of 10000 terms.
    "edm_deis": Run(deis(3, variable=VP_OF_EDM), tolerance=1e-4),
    "vpl_dpm_solver_1": Run("dpm-solver-1", tolerance=SINGLE),
    "vpl_dpm_solver_2": Run("dpm-solver-2", tolerance=SINGLE),
    "vpl_dpm_solver_3": Run("dpm-solver-3", tolerance=SINGLE),
    "vpl_dpm_solver_pp_2m": Run(dpmpp_2m(lower_order_final=True), tolerance=SINGLE),
    "vpl_unipc_2_bh1": Run(unipc(2, "bh1", lower_order_final=True), tolerance=1e-4),
    "vpl_unipc_3_bh2": Run(unipc(3, "bh2", lower_order_final=True), tolerance=1e-4),
    "vpl_sa_solver_tau0": Run(
        sa_solver(tau=0.0, lower_order_final=True, few_steps=True), tolerance=SINGLE
    ),
    # One of the four samples ends where the mixture's posterior is undecided and rounding is
    # magnified.
    "vpl_sa_solver_tau1": Run(
        sa_solver(lower_order_final=True, few_steps=True), skipped=1, quiet_end=True, tolerance=5e-4
    ),
}


def load(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def replay(name: str) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """Ours, theirs, our evaluations, theirs."""
    how, run = RUNS[name], load(name)
    tableau = solvers.get(how.solver)
    if name.startswith("edm"):
        schedule = EDM()
        grid = torch.tensor(run["sigmas"], dtype=torch.float64)
    else:
        schedule = VP(beta_d=19.9, beta_min=0.1, t_min=1e-3)
        grid = grids.uniform_lambda(schedule, run["steps"], final="none")
    spec = run["model"]
    model = GaussianMixture(spec["means"], spec["std"], spec["weights"], schedule)
    ell = tableau.ell if how.ell is None else how.ell
    if tableau.noise_scale is not None:
        sde = reverse_sde(schedule, noise_scale=tableau.noise_scale)
    elif how.quiet_end and name.startswith("vpl"):  # ℓ = 0 in the last step
        sde = reverse_sde(schedule, noise_scale=window(ell, float(schedule.sigma(grid[-2])), 1e4))
    else:
        sde = reverse_sde(schedule, how.form or tableau.form, ell)
    plan = compile_plan(sde, tableau, grid)
    noise = how.sign * torch.tensor(run["noise"], dtype=torch.float64)[how.skipped :]
    if how.quiet_end:
        noise[plan.normals - 1 :] = 0.0
    if (
        name != "edm_edm_stochastic"
    ):  # which draws also where it adds nothing: before the first step and from σ = 0.2 on
        # Some codes draw for the step to σ = 0 that they then skip; nothing else is left over.
        assert (
            plan.normals <= len(noise) <= plan.normals + tableau.tableau.evaluations
            or not plan.normals
        )
    x = torch.tensor(run["x_init"], dtype=torch.float64)
    result = execute(plan, model, x, Replay(noise) if plan.normals else None)
    return result, torch.tensor(run["x_final"], dtype=torch.float64), plan.nfe, run["nfe"]


@pytest.mark.parametrize("name", RUNS)
def test_replay(name: str):
    ours, theirs, nfe, their_nfe = replay(name)
    assert nfe == their_nfe
    torch.testing.assert_close(ours, theirs, rtol=0, atol=RUNS[name].tolerance)


@pytest.mark.parametrize("name", RUNS)
def test_the_replay_can_fail(name: str, monkeypatch: pytest.MonkeyPatch):
    """With another sign of the noise, or without noise another solver, the result is another
    one.
    """
    how = RUNS[name]
    noisy = load(name)["noise"] and name not in ("edm_edm_heun", "vpl_sa_solver_tau0")
    other = "seeds-1" if name not in ("edm_ddim", "vpl_dpm_solver_1") else "seeds-2"
    changed = (
        replace(how, sign=-how.sign) if noisy else replace(how, solver=other, form="noise", ell=0.0)
    )
    monkeypatch.setitem(RUNS, name, changed)
    ours, theirs, _, _ = replay(name)
    assert (ours - theirs).abs().max() > 1e-3


def test_deis_of_the_published_code_is_a_sum():
    """With its sum of 10000 terms in place of the integral, our DEIS comes from 3e-5 to 1e-6."""
    run, times = load("edm_deis"), VP_OF_EDM
    sigmas = torch.tensor(run["sigmas"], dtype=torch.float64)
    nodes = times.t_of_sigma(sigmas[:-1])
    spec = run["model"]
    model = GaussianMixture(spec["means"], spec["std"], spec["weights"], EDM())
    x = torch.tensor(run["x_init"], dtype=torch.float64)
    slopes: list[torch.Tensor] = []
    for i, sigma in enumerate(sigmas[:-1]):
        slopes.insert(0, (x - model(x, sigma)) / sigma)
        if i == 0 or i == len(nodes) - 1:
            x = x + (sigmas[i + 1] - sigma) * slopes[0]
            continue
        t = torch.linspace(float(nodes[i]), float(nodes[i + 1]), 10000, dtype=torch.float64)
        s = times.sigma(t)
        rate = (_B * t + _B0) * (s**2 + 1) / (2 * s) * (nodes[i + 1] - nodes[i]) / 10000
        known = [nodes[i - k] for k in range(min(i + 1, 3))]
        for j, node in enumerate(known):
            others = [(t - other) / (node - other) for k, other in enumerate(known) if k != j]
            x = x + (rate * torch.stack(others).prod(0)).sum() * slopes[j]
    torch.testing.assert_close(
        x, torch.tensor(run["x_final"], dtype=torch.float64), rtol=0, atol=2e-6
    )


def test_every_file_is_replayed():
    assert {path.stem for path in DATA.glob("*.json")} - {"er_sde_1"} == set(RUNS)
