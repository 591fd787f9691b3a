"""What pipelines ask of a scheduler beside the run itself: noise without a generator, the step at
which a run begins, the count of steps, and times in the forms in which they come."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_timesteps
from torch import Tensor

import expint
from diffusion_adapters import from_diffusers
from diffusion_adapters.diffusers import ExpIntScheduler
from diffusion_adapters.diffusers.late_start import begin_at
from diffusion_adapters.diffusers.latent_noise import seeds_of_state
from diffusion_adapters.diffusers.step_starts import StepOrder, step_starts
from expint import solvers
from expint.noise import Gaussian, per_sample
from expint.schedules import Discrete, Flow

torch.set_num_threads(1)
THEIRS: Any = diffusers
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{start}:DeprecationWarning")
    for start in ("__array__ implementation", "__array_wrap__ must")
] + [pytest.mark.filterwarnings("ignore::expint.soundness.PlanWarning")]

FLOW: Any = {"prediction_type": "flow_prediction"}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=seeded(seed))


def wavy(x: Tensor, t: Any) -> Tensor:
    return torch.sin(1.3 * x + 0.4) + 0.1 * (float(t) / 1000)


class Network(torch.nn.Module):
    """`wavy` with the signature of a network of diffusers."""

    def forward(self, sample: Tensor, timestep: Tensor) -> tuple[Tensor]:
        return (wavy(sample, timestep.reshape(-1)[0]),)


def loop(scheduler: Any, x: Tensor, start: int = 0, **more: Any) -> Tensor:
    for t in scheduler.timesteps[start:]:
        x = scheduler.step(wavy(x, t), t, x, return_dict=False, **more)[0]
    return x


def run(x: Tensor, solver: str = "seeds-2", **config: Any) -> Tensor:
    scheduler = ExpIntScheduler(solver=solver, prediction_type="sample", **config)
    scheduler.set_timesteps(4)
    return loop(scheduler, x)


# Noise without a generator


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "edm-stochastic", "seeds-sra"])
def test_equal_latents_give_equal_results(solver: str):
    """Whatever torch's global generator is, and in any batch."""
    x = normals(3, 2, 4)
    torch.manual_seed(0)
    first = run(x, solver)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = run(x[[2, 0]], solver)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(again, first[[2, 0]], rtol=1e-6, atol=1e-6)
    noise = Gaussian(seeds_of_state(x))
    scheduler = ExpIntScheduler(solver=solver, prediction_type="sample")
    policy = "interpolate" if solver == "edm-stochastic" else "round"
    model = from_diffusers(Network(), scheduler, timesteps=policy)
    expected = expint.sample(model, x, solver, steps=4, noise=noise, progress=False)
    torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-5)


def test_other_latents_give_other_noise():
    """With D = 0 the state at the end of a run that stops at σ > 0 is noise: that of two samples
    is uncorrelated, and of unit scale. With 40 000 numbers a correlation of 0.025 is 5 σ."""
    scheduler = ExpIntScheduler(solver="seeds-1", prediction_type="sample", final="none")
    scheduler.set_timesteps(timesteps=[999, 500])
    x = torch.zeros(2, 40_000)
    x[1, 0] = 1e-6
    end = scheduler.step(torch.zeros_like(x), 999, x).prev_sample
    one, two = end / end.std(1, keepdim=True)
    assert abs(float((one * two).mean())) < 0.025


def test_seeds_are_those_of_the_float32_numbers():
    x = normals(2, 3).to(torch.bfloat16)
    assert seeds_of_state(x) == seeds_of_state(x.double()) == seeds_of_state(x.float())
    assert seeds_of_state(x)[::-1] == seeds_of_state(x.flip(0))
    assert seeds_of_state(torch.zeros(1, 3)) == [2283521107298152996]


def test_a_seed_names_a_run():
    x = normals(3, 2, 4)
    model = from_diffusers(Network(), ExpIntScheduler(prediction_type="sample"))
    noise = Gaussian(per_sample(7, 3))
    expected = expint.sample(model, x, "seeds-2", steps=4, noise=noise, progress=False)
    torch.testing.assert_close(run(x, seed=7), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(run(x, seed=8), run(x, seed=7))


def test_torchs_generator_when_asked_for():
    x, results = normals(3, 2, 4), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(run(x, seed="torch"))
    assert torch.equal(results[0], results[1]) and not torch.allclose(results[0], results[2])


def test_a_generator_rules():
    """Also from the middle of a run on."""
    x, results = normals(3, 2, 4), []
    for config in ({}, {"seed": 3}, {"seed": "torch"}):
        scheduler = ExpIntScheduler(solver="seeds-1", prediction_type="sample", **config)
        scheduler.set_timesteps(4)
        results.append(loop(scheduler, x, generator=seeded(5)))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    scheduler = ExpIntScheduler(solver="seeds-1", prediction_type="sample", seed=3)
    middles, ends = [], []
    for seed in (1, 2):
        scheduler.set_timesteps(4)
        first, second = scheduler.timesteps[:2]
        middle = scheduler.step(wavy(x, first), first, x).prev_sample
        middles.append(middle)
        later = {"generator": seeded(seed)}
        ends.append(scheduler.step(wavy(middle, second), second, middle, **later).prev_sample)
    assert torch.equal(*middles) and not torch.allclose(*ends)


@pytest.mark.parametrize("seed", ["random", -1])
def test_wrong_seeds(seed: Any):
    with pytest.raises(ValueError, match="seed"):
        ExpIntScheduler(seed=seed)


# The step at which a run begins


def begin(scheduler: Any, strength: float, steps: int, sigmas: bool) -> tuple[Tensor, int, int]:
    """What image-to-image pipelines of flow matching do: the timesteps of the run, and how many
    steps their progress bar counts, and of how many."""
    given = {"sigmas": np.linspace(1.0, 1 / steps, steps)} if sigmas else {}
    _, count = retrieve_timesteps(scheduler, None if sigmas else steps, "cpu", **given)
    start = int(max(count - min(count * strength, count), 0))
    timesteps = scheduler.timesteps[start * scheduler.order :]
    scheduler.set_begin_index(start * scheduler.order)
    count -= start
    warmup, updates, x = max(len(timesteps) - count * scheduler.order, 0), 0, normals(2, 3)
    for i, t in enumerate(timesteps):
        x = scheduler.step(wavy(x, t), t, x, return_dict=False)[0]
        done = i == len(timesteps) - 1
        updates += done or (i + 1 > warmup and (i + 1) % scheduler.order == 0)
    assert torch.isfinite(x).all()
    return timesteps, updates, count


NAMES = [name for name in solvers.names() if name != "taylor-2"]
WHOLE = [name for name in NAMES if solvers.get(name).tableau.evaluations > 1]


@pytest.mark.parametrize("sigmas", [False, True])
@pytest.mark.parametrize("solver", [*WHOLE, "seeds-ab3", "unipc-2"])
def test_strength_begins_where_eulers_does(solver: str, sigmas: bool):
    """Churn first raises the level of the step, by less than two steps here."""
    room = 100.0 if solver == "edm-stochastic" else 1e-3
    for strength in (1.0, 0.75, 0.6, 0.4, 0.33, 0.05):
        ours = ExpIntScheduler(solver=solver, **FLOW)
        theirs = THEIRS.FlowMatchEulerDiscreteScheduler()
        timesteps, updates, count = begin(ours, strength, 20, sigmas)
        expected = begin(theirs, strength, 20, sigmas)[0]
        assert 0.0 <= timesteps[0] - expected[0] + 1e-3 <= room + 1e-3
        if not sigmas or strength == 1.0:
            assert updates == count


@pytest.mark.parametrize("solver", NAMES)
def test_every_step_is_one_to_begin_with(solver: str):
    for schedule in (Discrete(), Flow()):
        plan = expint.plan_sampling(schedule, solver, steps=6)
        starts = step_starts(plan)
        assert len(starts) == 6 and starts == sorted(set(starts)) and starts[0] == 0
        for index in starts:
            assert begin_at(plan, index).nfe == plan.nfe - index


@pytest.mark.parametrize("solver", ["pece-2", "heun", "etd-rk4"])
def test_of_two_evaluations_at_one_time_the_first_is_idle(solver: str):
    """A run from inside a step, at the last of its evaluations, is the run from its end."""
    results = []
    for before in (1, 0):
        scheduler = ExpIntScheduler(solver=solver, **FLOW)
        scheduler.set_timesteps(5)
        index = 2 * scheduler.order - before
        assert scheduler.timesteps[index] == scheduler.timesteps[2 * scheduler.order]
        scheduler.set_begin_index(index)
        results.append(loop(scheduler, normals(2, 3), index))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)


def test_the_order_counts_steps():
    order = StepOrder(3, [0, 1, 4, 7])
    assert order == 3 and isinstance(order, int)
    assert [k * order for k in (0, 1, 2, 3, 4)] == [0, 1, 4, 7, 7] and order * 2 == 4
    assert [k % order for k in range(1, 8)] == [0, 1, 2, 0, 1, 2, 0]
    later = StepOrder(3, [0, 1, 4, 6, 9], first=4)
    assert [k % later for k in range(1, 6)] == [1, 0, 1, 2, 0]
    order = StepOrder(3, [0, 1, 4, 7], counted="evaluations")
    assert order == 1 and [k * order for k in range(8)] == [0, 0, 1, 1, 4, 4, 4, 7]
    assert [k % order for k in (1, 2)] == [0, 0]


# What a configuration must not make pipelines do


def test_pipelines_keep_their_sigmas():
    """Those of Flux drop them where the configuration has use_flow_sigmas."""
    theirs = THEIRS.UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=1.0
    )
    for scheduler in (
        ExpIntScheduler.from_config(theirs.config, solver="seeds-1"),
        ExpIntScheduler(use_flow_sigmas=True, solver="seeds-1", **FLOW),
        ExpIntScheduler.from_config(
            THEIRS.FlowMatchEulerDiscreteScheduler().config, solver="seeds-1"
        ),
    ):
        assert isinstance(scheduler._schedule, Flow)
        kept = None if scheduler.config["use_flow_sigmas"] else np.linspace(1.0, 1 / 4, 4)
        retrieve_timesteps(scheduler, 4, "cpu", sigmas=kept)
        assert scheduler.sigmas.tolist() == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
