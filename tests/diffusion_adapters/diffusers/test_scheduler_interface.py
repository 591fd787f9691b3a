"""What diffusers asks of each of its schedulers, of every registered solver: configurations that go
to a folder and back, states of any number of dimensions, tuples as outputs, noise of one law."""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from diffusion_adapters.diffusers import ExpIntScheduler, ExpIntSchedulerOutput
from expint import solvers

torch.set_num_threads(1)
pytestmark = [pytest.mark.filterwarnings("ignore::expint.soundness.PlanWarning")]

KINDS = [name for name in solvers.names() if name != "taylor-2"]
STEPS = 6


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def dummy(x: Tensor, t: Any) -> Tensor:
    return x * t / (t + 1)


def full_loop(scheduler: Any, x: Tensor, tuples: bool = False) -> Tensor:
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        result = scheduler.step(dummy(seen, t), t, x, return_dict=not tuples)
        x = result[0] if tuples else result.prev_sample
    return x


@pytest.fixture(params=KINDS)
def scheduler(request: pytest.FixtureRequest) -> Any:
    return ExpIntScheduler(solver=request.param, prediction_type="v_prediction")


def test_a_folder_and_back(scheduler: Any, tmp_path: Path):
    scheduler.save_config(tmp_path)
    x = 0.1 * normals(2, 3, 4, 4)
    again = ExpIntScheduler.from_pretrained(tmp_path)
    others = [again, ExpIntScheduler.from_config(scheduler.config)]
    expected = full_loop(scheduler, x)
    for other in others:
        assert torch.equal(full_loop(other, x), expected)
    assert isinstance(scheduler, SchedulerMixin)
    _, unused = ExpIntScheduler.from_config(
        scheduler.config, return_unused_kwargs=True, not_a_name=1
    )
    assert unused["not_a_name"] == 1


def test_tuples_hold_the_same(scheduler: Any):
    x = 0.1 * normals(2, 3)
    assert torch.equal(full_loop(scheduler, x), full_loop(scheduler, x, tuples=True))
    scheduler.set_timesteps(STEPS)
    t = scheduler.timesteps[0]
    result = scheduler.step(dummy(x, t), t, x)
    assert isinstance(result, ExpIntSchedulerOutput) and result["prev_sample"] is result[0]


@pytest.mark.parametrize("shape", [(2, 5), (1, 3, 4, 4), (2, 3, 2, 4, 4)])
def test_states_keep_their_shape(scheduler: Any, shape: tuple[int, ...]):
    x = 0.1 * normals(*shape)
    end = full_loop(scheduler, x)
    assert end.shape == x.shape and end.dtype == x.dtype and torch.isfinite(end).all()


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_timesteps_are_counted(scheduler: Any, steps: int):
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps
    assert scheduler.num_inference_steps == steps and times.ndim == 1
    assert steps * scheduler.order == len(times) and 0 * scheduler.order == 0
    assert len(scheduler.sigmas) == len(times) + 1
    assert times.min() >= -1e-6 and times.max() <= 999 and len(scheduler) == 1000


def test_state_between_runs(scheduler: Any):
    """Two runs from one scheduler, and a second scheduler beside them, are the same."""
    x = 0.1 * normals(2, 3)
    other = ExpIntScheduler.from_config(scheduler.config)
    first, second = full_loop(scheduler, x), full_loop(scheduler, x)
    assert torch.equal(first, second) and torch.equal(first, full_loop(other, x))


def test_noise_is_added_at_every_timestep(scheduler: Any):
    scheduler.set_timesteps(STEPS)
    x, noise = normals(2, 3), normals(2, 3, seed=1)
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        noised = scheduler.add_noise(x, noise, t.reshape(1))
        expected = (x + sigma * noise) / (1 + sigma**2) ** 0.5
        torch.testing.assert_close(noised, expected, rtol=1e-4, atol=1e-4)


def test_signatures(scheduler: Any):
    """Pipelines look at the names of arguments: one that finds eta hands 0 to it."""
    names = set(inspect.signature(scheduler.step).parameters)
    assert {"model_output", "timestep", "sample", "generator", "return_dict"} <= names
    assert "eta" not in names
    assert {"timesteps", "sigmas", "mu"} <= set(
        inspect.signature(scheduler.set_timesteps).parameters
    )
    assert scheduler.init_noise_sigma == 1.0 and hasattr(scheduler, "betas")
    assert diffusers.DDIMScheduler in scheduler.compatibles
