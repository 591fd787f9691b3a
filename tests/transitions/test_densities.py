"""Densities of transitions: against the Jacobian of the map from normals to states, under other
weights, and their gradients."""

import math
from functools import cache
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import expint
from diffusion_adapters import load
from expint import schedules, solvers
from expint.noise import Gaussian, Replay, per_sample
from expint.plans import Plan
from expint.runs import Run, drive
from expint.transitions import kernels
from tests.toy_models import forbidden, mixture

VP = schedules.VP()


def stochastic(
    name: str, steps: int = 4, schedule: schedules.Schedule = VP, **options: Any
) -> Plan | None:
    """The solver's plan with noise, at its own ℓ or at ℓ = 1; None where there is none."""
    for ell in (None, 1.0):
        try:
            plan = expint.plan_sampling(schedule, name, steps=steps, ell=ell, **options)
        except ValueError:
            continue
        if plan.run:
            return plan
    return None


EDM = schedules.EDM()
PLANS = {e.name: plan for e in solvers.entries() if (plan := stochastic(e.name, schedule=EDM))}
"""Of every registered solver that can add noise."""


class Network(nn.Module):
    """A small network, smooth in its parameters."""

    schedule, prediction = VP, "data"

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        shapes = ((8, 2), (8,), (2, 8))
        made = [0.5 * torch.randn(s, generator=generator, dtype=dtype) for s in shapes]
        self.first, self.bias, self.second = map(nn.Parameter, made)
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        hidden = torch.tanh(x @ self.first.T + self.bias * math.cos(float(t)))
        return hidden @ self.second.T


def states_of(plan: Plan, model: Any, x: Tensor, z: Tensor) -> Tensor:
    """The states with noise of their own, as a differentiable function of the normals."""
    free, states = {i for kernel in kernels(plan) for i in kernel.free}, []
    run = Run(plan, model, x, Replay(z), lambda i, s: states.append(s) if i in free else None)
    drive(run, model)
    return torch.stack(states)


@pytest.mark.parametrize("name", PLANS)
def test_log_p_is_that_of_the_map_from_normals_to_states(name: str):
    """log p of the first k transitions together is that of their normals less log|det| of the
    Jacobian of their states, the leading block, for every k."""
    plan, model = PLANS[name], mixture(EDM)
    rollout = expint.rollout(model, (1, 2), plan=plan, seed=3, dtype=torch.float64, progress=False)
    z = torch.stack(
        [
            one
            for noise in [Gaussian(per_sample(3, 1)).stream(rollout.states[0], plan.run)]
            for substep in plan.run
            for one in noise.normals(substep)
        ]
    )

    def states(z: Tensor) -> Tensor:
        return states_of(plan, model, rollout.states[0], z)

    torch.testing.assert_close(states(z), rollout.states[1:], rtol=0, atol=1e-13)
    jacobian = torch.stack([*torch.autograd.functional.jacobian(states, z)])
    sizes = [noise.normals for noise in plan.run]
    expected = []
    for count in accumulate(sizes):
        block = jacobian[:count, :, :, :count].reshape(2 * count, 2 * count)
        normal = -0.5 * z[:count].square().sum() - count * math.log(2.0 * math.pi)
        expected.append(normal - torch.linalg.slogdet(block).logabsdet)
    found = rollout.log_probs.cumsum(0)[:, 0]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-10)
    assert len(rollout.steps) == len(sizes) and rollout.log_probs.dtype == torch.float64


@pytest.mark.parametrize("name", ["seeds-1", "seeds-2", "dpmpp-2s-ancestral", "sa-solver"])
@pytest.mark.parametrize("final", ["denoise", "none"])
def test_the_samples_are_those_of_sample(name: str, final: str):
    plan = stochastic(name, 5, final=final)
    network = Network(torch.float32).eval()
    options: Any = {"plan": plan, "seeds": [5, 9, 2], "progress": False}
    rollout = expint.rollout(network, (3, 2), **options)
    assert plan and network.calls == plan.nfe
    assert torch.equal(rollout.samples, expint.sample(network, (3, 2), **options))
    assert not rollout.states.requires_grad
    part = expint.rollout(network, (1, 2), **options | {"seeds": [9]})
    torch.testing.assert_close(part.log_probs[:, 0], rollout.log_probs[:, 1], rtol=1e-5, atol=1e-4)


def test_without_a_solver_it_is_a_stochastic_one():
    rollout = expint.rollout(Network(torch.float32), (2, 2), nfe=8, progress=False)
    assert rollout.plan.nfe <= 8 and rollout.plan.normals > 0


def test_a_step_of_several_stages_has_a_joint_factor():
    rollout = expint.rollout(mixture(VP), (4, 2), "seeds-2", steps=3, progress=False)
    plan = rollout.plan
    assert rollout.steps == (0, 1) and rollout.states.shape == (5, 4, 2)
    for substep, factor in enumerate(rollout.factors):
        torch.testing.assert_close(factor @ factor.T, plan.noise_covariance(substep))
        u = (rollout.states[1:] - rollout.means).double()[2 * substep : 2 * substep + 2]
        u = torch.linalg.solve_triangular(factor, u.flatten(1), upper=False)
        exact = -0.5 * u.square().reshape(2, 4, 2).sum((0, 2)) - 2 * (
            factor.diagonal().log().sum() + math.log(2 * math.pi)
        )
        torch.testing.assert_close(rollout.log_probs[substep], exact)
    torch.testing.assert_close(rollout.stds, torch.cat([f.norm(dim=1) for f in rollout.factors]))


@pytest.mark.parametrize("name", ["ddpm", "seeds-ab2", "seeds-2", "dpm2-ancestral", "pece-2"])
def test_the_ratio_of_densities_has_mean_one(name: str):
    """E[p_new/p_old] = 1 under the old weights, within 5 standard errors, which are below .02: a
    mean or a standard deviation that is off by 5 % moves it by more."""
    network = Network().eval()
    plan = stochastic(name)
    rollout = expint.rollout(
        network, (20_000, 2), plan=plan, seed=8, dtype=torch.float64, progress=False
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.03)
        ratio = (expint.log_prob(network, rollout) - rollout.log_probs).sum(0).exp()
    error = ratio.std().item() / len(ratio) ** 0.5
    assert 1e-4 < error < 0.02
    assert abs(ratio.mean().item() - 1.0) < 5 * error


@pytest.mark.parametrize("name", ["seeds-1", "seeds-ab3", "seeds-3", "dpm2-ancestral", "unipc-2"])
def test_gradients_are_those_of_central_differences(name: str):
    network = Network().eval()
    rollout = expint.rollout(
        network, (3, 2), plan=stochastic(name), seed=1, dtype=torch.float64, progress=False
    )
    network.calls = 0
    total = expint.log_prob(network, rollout).sum()
    forward = network.calls
    total.backward()
    assert network.calls == 2 * forward < 2 * rollout.plan.nfe  # no activation was kept
    eps = 1e-6
    for parameter in network.parameters():
        assert parameter.grad is not None
        scale = parameter.grad.abs().max().item()
        for k in (0, parameter.numel() - 1):
            with torch.no_grad():
                entry = parameter.view(-1)[k]
                ends = []
                for move in (eps, -2 * eps):
                    entry += move
                    ends.append(expint.log_prob(network, rollout).sum().item())
                entry += eps
            difference = (ends[0] - ends[1]) / (2 * eps)
            assert abs(difference - parameter.grad.view(-1)[k].item()) < 1e-6 * max(1.0, scale)


def test_log_probs_of_part_of_the_samples():
    network = Network(torch.float32).eval()
    rollout = expint.rollout(network, (6, 2), "seeds-ab2", steps=4, progress=False)
    chosen = rollout.states[:, [4, 1]]
    with torch.no_grad():
        found = expint.log_prob(network, chosen, rollout.plan)
    torch.testing.assert_close(found, rollout.log_probs[:, [4, 1]], rtol=1e-5, atol=1e-4)


@cache
def drawn() -> expint.Rollout:
    return expint.rollout(mixture(VP), (3, 2), "seeds-1", steps=4, progress=False)


def other_states(change: str) -> Any:
    states = drawn().states.clone()
    if change == "nan":
        states[1, 0, 0] = math.nan
    return {"nan": states, "short": states[:-1], "flat": states[:, 0, 0], "list": [1.0]}[change]


@pytest.mark.parametrize(
    ("states", "plan", "error", "words"),
    [
        ("rollout", lambda: stochastic("seeds-2"), ValueError, "of another plan"),
        ("rollout", lambda: 3, ValueError, "not of 3"),
        ("nan", lambda: drawn().plan, ValueError, "NaN"),
        ("short", lambda: drawn().plan, ValueError, r"shape \(4, batch"),
        ("flat", lambda: drawn().plan, ValueError, r"shape \(4, batch"),
        ("list", lambda: drawn().plan, TypeError, "list"),
        ("short", lambda: None, TypeError, r"plan=rollout\.plan"),
        ("short", lambda: 3, TypeError, "plan is a Plan"),
    ],
)
def test_states_that_do_not_fit_are_refused_before_any_evaluation(
    states: str, plan: Any, error: type[Exception], words: str
):
    given = drawn() if states == "rollout" else other_states(states)
    with pytest.raises(error, match=words):
        expint.log_prob(forbidden(VP), given, plan())


def test_the_same_plan_made_again_is_accepted():
    again = expint.plan_sampling(VP, "seeds-1", steps=4)
    assert torch.equal(expint.log_prob(mixture(VP), drawn(), again), drawn().log_probs)


def test_another_schedule_or_event_shape_is_refused_before_any_evaluation():
    with pytest.raises(ValueError, match="schedule"):
        expint.log_prob(forbidden(schedules.VP(beta_d=10.0)), drawn())
    model = forbidden(VP)
    model.shape = (3,)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"samples have shape \(3,\)"):
        expint.log_prob(model, drawn())


def test_labels_of_other_samples_are_refused():
    model = load("digits-edm", labels=torch.arange(3))
    rollout = expint.rollout(model, (3, 1, 8, 8), nfe=9, progress=False)
    with pytest.raises(ValueError, match="'class_labels' has 3 rows for a batch of 2"):
        expint.log_prob(model, rollout.states[:, :2], rollout.plan)
    with pytest.raises(ValueError, match="'class_labels' has 3 rows for a batch of 2"):
        expint.invert(model, rollout.samples[:2], nfe=9)


def test_an_ode_has_no_density():
    for solver in ("ddim", "dpmpp-2m"):
        with pytest.raises(ValueError, match=r"no transition density.*ell=1"):
            expint.rollout(forbidden(VP), (2, 2), solver, steps=4, ell=0.0)


def test_a_step_of_ell_zero_among_others_has_no_density():
    model = mixture(VP)
    options: Any = {"steps": 3, "ell": [1.0, 0.0, 0.5], "final": "none", "progress": False}
    rollout = expint.rollout(model, (3, 2), "seeds-2", dtype=torch.float64, **options)
    assert rollout.steps == (0, 2) and rollout.states.shape == (5, 3, 2)
    x, noise = expint.invert(model, rollout.samples, plan=rollout.plan)
    again = expint.sample(model, x, plan=rollout.plan, noise=noise, progress=False)
    torch.testing.assert_close(again, rollout.samples, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="no transition density"):
        expint.rollout(forbidden(VP), (2, 2), "seeds-2", **options | {"ell": [0.0, 0.0, 0.0]})


def test_samples_may_be_single_numbers():
    target = expint.targets.Gaussian([1.0], 0.5, VP)
    rollout = expint.rollout(target, (5,), "seeds-1", steps=3, progress=False)
    assert rollout.log_probs.shape == (2, 5)


def test_coefficients_with_gradients_are_refused():
    ell = torch.tensor([1.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="plain numbers"):
        expint.rollout(forbidden(VP), (2, 2), "seeds-1", steps=4, ell=ell)


def test_half_precision_states_are_seen_in_it():
    seen = set()

    class Half(Network):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.add(x.dtype)
            return super().forward(x.float(), t).to(x.dtype)

    network = Half(torch.float32).eval()
    rollout = expint.rollout(
        network, (2, 2), "seeds-1", steps=3, dtype=torch.bfloat16, progress=False
    )
    assert rollout.states.dtype == torch.float32 and rollout.samples.dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.equal(expint.log_prob(network, rollout), rollout.log_probs)
    assert seen == {torch.bfloat16}
