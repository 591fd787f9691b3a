"""`ExpIntScheduler.step(return_log_prob=True)`: exact log p of what every step draws."""

from typing import Any

import pytest
import torch
from torch import Tensor

import expint
from diffusion_adapters.diffusers import ExpIntScheduler
from expint.schedules import Discrete, Flow, scaled_linear_betas

SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FLOW: dict[str, Any] = {"prediction_type": "flow_prediction", "shift": 2.0}
TABLE = Discrete.from_betas(scaled_linear_betas())


def made_of(**config: Any) -> Any:
    return ExpIntScheduler(**config)


class Net(torch.nn.Module):
    """As diffusers calls it with labels, and as expint does with times."""

    def __init__(self, flow: bool, per_time: int = 1) -> None:
        super().__init__()
        self.prediction = "flow" if flow else "noise"
        self.schedule, self.per_time = (Flow(shift=2.0) if flow else TABLE), per_time
        self.gain = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.eval()

    def forward(self, x: Tensor, t: Any) -> Tensor:
        return self.gain * torch.tanh(x) + 0.01 * float(t) * self.per_time / 1000.0


def start(flow: bool) -> tuple[Any, Net, Tensor]:
    x = torch.linspace(-1.5, 1.5, 2 * 3 * 2 * 2, dtype=torch.float64).reshape(2, 3, 2, 2)
    return (FLOW if flow else SD), Net(flow, 1000 if flow else 1), x


def rolled(scheduler: Any, net: Net, x: Tensor, **wanted: Any) -> tuple[list[Tensor], list[Tensor]]:
    """States and log p of a run of 5 steps; the labels are the network's times."""
    generator = torch.Generator().manual_seed(3)
    scheduler.set_timesteps(5)
    net.schedule = scheduler._plan.sde.diffusion.schedule
    states, found = [x], []
    for label in scheduler.timesteps:
        time = float(label) / (1000.0 if net.prediction == "flow" else 1.0)
        with torch.no_grad():
            output = net(states[-1], time)
        made = scheduler.step(
            output, label, states[-1], generator=generator, return_log_prob=True, **wanted
        )
        states.append(made.prev_sample)
        found.append(made.log_prob)
    return states, found


@pytest.mark.parametrize("flow", [False, True], ids=["table", "flow"])
@pytest.mark.parametrize("solver", ["seeds-1", "seeds-ab2", "seeds-3", "seeds-sra", "lcm"])
def test_they_add_up_to_the_density_of_a_rollout(flow: bool, solver: str):
    """Against `expint.log_prob` of the states that the scheduler went through."""
    config, net, x = start(flow)
    scheduler = made_of(**config, solver=solver)
    states, found = rolled(scheduler, net, x)
    plan = scheduler._plan
    noisy = [i for kernel in expint.transitions.kernels(plan) for i in kernel.free]
    drawn = torch.stack([x, *(states[i + 1] for i in noisy)])
    whole = expint.log_prob(net, drawn, plan).sum(0)
    assert all(term.shape == (2,) and term.dtype == torch.float64 for term in found)
    assert torch.allclose(torch.stack(found).sum(0), whole, rtol=1e-6)
    assert torch.equal(found[-1], torch.zeros(2, dtype=torch.float64))  # to σ = 0: no noise


@pytest.mark.parametrize("flow", [False, True], ids=["table", "flow"])
def test_one_step_against_a_normal_density(flow: bool):
    config, net, x = start(flow)
    scheduler = made_of(**config, solver="seeds-1", ell=0.7)
    states, found = rolled(scheduler, net, x)
    k = 2
    row, time = scheduler._plan.rows[k], float(scheduler.timesteps[k])
    schedule, prediction = scheduler._schedule, net.prediction
    at = row.time
    with torch.no_grad():
        output = net(states[k], time / (1000.0 if flow else 1.0))
    alpha, std = schedule.alpha(at), schedule.std(at)
    data = states[k] - std * output if prediction == "flow" else (states[k] - std * output) / alpha
    mean = row.scale * states[k] + row.weights[0][1] * data
    law = torch.distributions.Normal(mean, row.noise[0])
    exact = law.log_prob(states[k + 1]).flatten(1).sum(1)
    assert torch.allclose(found[k], exact, rtol=1e-5)


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-ab2"])
def test_the_density_of_a_given_state_and_its_gradient(solver: str):
    """As policy gradients need it: the states of a run again, under the network's own weights and
    with gradients; against finite differences of `expint.log_prob`."""
    config, net, x = start(False)
    scheduler = made_of(**config, solver=solver)
    states, found = rolled(scheduler, net, x)
    again = made_of(**config, solver=solver)
    again.set_timesteps(5)
    terms = []
    for k, label in enumerate(again.timesteps[:-1]):
        made = again.step(
            net(states[k], float(label)), label, states[k], return_log_prob=True,
            prev_sample=states[k + 1],
        )  # fmt: skip
        assert torch.equal(made.prev_sample, states[k + 1])
        terms.append(made.log_prob)
    assert torch.allclose(torch.stack(terms), torch.stack(found[:-1]), rtol=1e-9)
    total = torch.stack(terms).sum()
    (slope,) = torch.autograd.grad(total, net.gain)
    ends = []
    for shift in (1e-5, -1e-5):
        with torch.no_grad():
            net.gain += shift
            ends.append(expint.log_prob(net, torch.stack(states[:-1]), scheduler._plan).sum())
            net.gain -= shift
    assert slope.item() == pytest.approx(((ends[0] - ends[1]) / 2e-5).item(), rel=1e-4)


def test_the_samples_are_those_without_it():
    config, net, x = start(False)
    states, _ = rolled(made_of(**config, solver="seeds-2"), net, x)
    plain = made_of(**config, solver="seeds-2")
    plain.set_timesteps(5)
    generator, state, made = torch.Generator().manual_seed(3), x, None
    for label in plain.timesteps:
        with torch.no_grad():
            made = plain.step(net(state, float(label)), label, state, generator=generator)
        assert made.log_prob is None
        state = made.prev_sample
    assert torch.equal(state, states[-1])
    assert made is not None and len(made.to_tuple()) == 2


def test_refusals():
    config, _, x = start(False)

    def begun(**options: Any) -> Any:
        scheduler = made_of(**config, **options)
        scheduler.set_timesteps(5)
        return scheduler

    quiet, label = begun(solver="seeds-1", ell=0.0), begun(solver="seeds-1").timesteps[0]
    with pytest.raises(ValueError, match=r"adds no noise.*no transition density"):
        quiet.step(x, label, x, return_log_prob=True)
    late = begun(solver="seeds-1")
    late.step(x, label, x)
    with pytest.raises(ValueError, match="from the first step on"):
        late.step(x, late.timesteps[1], x, return_log_prob=True)
    with pytest.raises(ValueError, match="return_log_prob=True gives the density"):
        begun(solver="seeds-1").step(x, label, x, prev_sample=x)
    with pytest.raises(ValueError, match=r"use expint\.log_prob on the states"):
        begun(solver="seeds-2").step(x, label, x, return_log_prob=True, prev_sample=x)
    with pytest.raises(ValueError, match=r"eta > 0 and no options of other schedulers.*magic"):
        begun(solver="seeds-1").step(x, label, x, magic=1)
    with pytest.raises(ValueError, match=r"prev_sample has shape \(2, 3, 2, 2\), got \(1, 3"):
        begun(solver="seeds-1").step(x, label, x, return_log_prob=True, prev_sample=x[:1])
    with pytest.raises(ValueError, match=r"not finite"):
        begun(solver="seeds-1").step(x, label, x, return_log_prob=True, prev_sample=x / 0.0)
