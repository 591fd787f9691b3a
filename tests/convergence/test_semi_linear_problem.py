"""Strong orders of SDEs outside diffusion, and the one path on which all plans of a study run."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from expint import SemiLinearSDE, compile_plan, execute
from expint.convergence import (
    Problem,
    SemiLinearProblem,
    compare,
    deterministic_order,
    strong_orders,
    weak_order,
)
from expint.convergence.plans_path import PlansPath
from expint.schedules import EDM
from expint.solvers import churn, get
from expint.targets import Gaussian

torch.set_num_threads(1)
SPAN = (0.0, 1.0)


def equation(rates: Any, b: Any = 1.0, g: Any = 1.0) -> SemiLinearSDE:
    return SemiLinearSDE.from_coefficients(rates, b, g, span=SPAN)


def grid(steps: int) -> Tensor:
    return torch.linspace(*SPAN, steps + 1, dtype=torch.float64)


def zero(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x)


def test_one_path_at_every_step_count_for_any_stiffness():
    """Without F every solver is exact, so that all runs on one path end in one state; the noise
    time of rates below −354 overflows.
    """
    sde = equation(torch.tensor([0.0, -1.0, -40.0, -400.0, -1e5, 3.0], dtype=torch.float64))
    names = ("seeds-1", "seeds-2", "seeds-3", "seeds-sra", "seeds-sra3")
    plans = [compile_plan(sde, name, grid(n)) for name in names for n in (1, 4, 8)]
    path = PlansPath(sde, plans).open(range(5), torch.zeros(5, 6, dtype=torch.float64))
    x = torch.ones(5, 6, dtype=torch.float64)
    ends = torch.stack([execute(plan, zero, x, path.of(plan)) for plan in plans])
    assert torch.isfinite(ends).all() and float(ends.std(1).min()) > 0
    assert torch.allclose(ends, ends[:1].expand_as(ends), rtol=1e-11, atol=1e-12)


def test_normals_are_standard_and_independent():
    """Increment and integral of steps of 1 and of 8 intervals, 3 modes, 4000 paths: 5 sigma of a
    mean of products of independent normals are 0.08; a factor 1.2 in a standard deviation would be
    20 sigma.
    """
    sde = equation(torch.tensor([0.0, -3.0, -900.0], dtype=torch.float64))
    plans = [compile_plan(sde, "seeds-sra", grid(n)) for n in (1, 8)]
    like = torch.zeros(4000, 3, dtype=torch.float64)
    path = PlansPath(sde, plans).open(range(4000), like)
    for plan in plans:
        stream = path.of(plan).stream(like, plan.run)
        found = torch.stack([z for noise in plan.run for z in stream.normals(noise)])
        moments = torch.einsum("ibc,jbc->ijc", found, found) / len(like)
        eye = torch.eye(len(found), dtype=torch.float64)[..., None]
        # Squares have twice the variance of products.
        assert float((moments - eye).abs().max()) < 5 * math.sqrt(2 / len(like))


def test_integrals_join_by_chens_relation():
    """U(a,c) = U(a,b) + U(b,c) + (W(b) − W(a)) (c − b), from the normals of both plans."""
    sde = equation(-2.0)
    plans = [compile_plan(sde, "seeds-sra", grid(n)) for n in (1, 4)]
    like = torch.zeros(3, 1, dtype=torch.float64)
    path = PlansPath(sde, plans).open(range(3), like)
    total = []
    for plan in plans:
        stream, w, u = path.of(plan).stream(like, plan.run), torch.zeros_like(like), 0.0
        for noise in plan.run:
            z, rest = stream.normals(noise)
            assert noise.times is not None
            length = float(noise.times.diff())
            u = u + w * length + length**1.5 * (0.5 * z + rest / 12**0.5)
            w = w + length**0.5 * z
        total.append((w, u))
    for whole, joined in zip(*total, strict=True):
        assert torch.allclose(whole, joined, rtol=1e-12)


def test_a_mode_without_noise():
    sde = equation(torch.tensor([-1.0, -2.0]), 1.0, torch.tensor([0.5, 0.0]))
    plans = [compile_plan(sde, name, grid(2)) for name in ("seeds-3", "seeds-sra")]
    path = PlansPath(sde, plans).open([0], torch.zeros(1, 2, dtype=torch.float64))
    for plan in plans:
        end = execute(plan, zero, torch.ones(1, 2, dtype=torch.float64), path.of(plan))
        assert float(end[0, 1]) == pytest.approx(math.exp(-2.0), rel=1e-12)


def allen_cahn(modes: int = 8) -> SemiLinearProblem:
    """du = [0.05 u_xx + u − u³] dt + noise, 0 < x < 1, in cosine modes: rates down to −24."""
    k = torch.arange(modes, dtype=torch.float64)
    basis = math.sqrt(2 / modes) * torch.cos(math.pi * k[:, None] * (k + 0.5) / modes)
    basis[0] /= math.sqrt(2)

    def reaction(x: Tensor, t: Tensor) -> Tensor:
        u = x @ basis
        return (u - u**3) @ basis.T

    sde = equation(-0.05 * (math.pi * k) ** 2, 1.0, 0.3 * math.sqrt(modes) / (1 + k**2 / 16))
    return SemiLinearProblem(sde, reaction, basis @ (0.5 * torch.cos(3 * (k + 0.5) / modes)))


def test_allen_cahn_in_eight_modes():
    """Seconds; on 256 paths the standard errors of the orders are 0.03: 5 sigma below 3/2 is still
    above 1.3.
    """
    found = strong_orders(
        ["seeds-1", "seeds-sra"], allen_cahn(), steps=(8, 16, 32), paths=256, refine=8
    )
    first, second = found.studies
    assert first.order == pytest.approx(1.0, abs=0.15), first.table()
    assert second.order > 1.35 and second.other_orders["median"] > 1.35, second.table()
    assert "constant coefficients on [0, 1], t from 0 to 1" in first.table()
    assert " median" in found.table()


def test_other_studies_of_it():
    problem = allen_cahn(4)
    study = weak_order("seeds-1", problem, steps=(4, 8, 16), paths=512, refine=2)
    assert study.kind == "weak" and study.order > 0.7, study.table()
    assert compare(["seeds-1"], problem, steps=(4, 8, 16), paths=64).kinds == ("strong",)


def test_what_is_refused():
    problem = allen_cahn(4)
    with pytest.raises(TypeError, match="a SemiLinearProblem has strong and weak orders only"):
        deterministic_order("seeds-1", problem)  # pyright: ignore[reportArgumentType]
    bare = SemiLinearSDE.from_coefficients(-1.0, span=SPAN)
    quiet = SemiLinearProblem(bare, zero, torch.zeros(1))
    with pytest.raises(ValueError, match="need noise"):
        strong_orders(["seeds-1"], quiet)
    with pytest.raises(ValueError, match=r"has no span: give it one, span=\(first, last\)"):
        SemiLinearProblem(replace(bare, span=None), zero, torch.zeros(1))
    churned = replace(get("seeds-1"), operations=(churn(1.0),))
    with pytest.raises(ValueError, match="noise that is not part of the path of the SDE"):
        strong_orders([churned], Problem(Gaussian([0.0], [1.0], EDM())), steps=(4, 8, 16), paths=16)
