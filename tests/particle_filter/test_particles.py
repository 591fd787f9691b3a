"""Particles: posteriors of Gaussian data, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import expint
from expint import schedules
from expint.targets import Gaussian
from tests.toy_models import forbidden, mixture

EDM = schedules.EDM()
SOLVERS = ("seeds-1", "seeds-ab2", "seeds-2", "pece-2", "edm-stochastic")


def run(model: Any, potential: Any, n: int = 1_000, **options: Any) -> expint.Particles:
    return expint.particles(model, (n, 2), potential, progress=False, **options)


def observation(step: int, t: float, x: Tensor, denoised: Tensor) -> Tensor:
    """log N(1; x_0, 0.25) of the first component, looked at through the denoised estimate, whose
    own error is known."""
    spread = 0.25 + min(EDM.sigma(t) ** 2, 1.0) * (step < 30)
    seen = denoised[:, 0].double() if step < 30 else x[:, 0].double()
    return -0.5 * (seen - 1.0) ** 2 / spread - 0.5 * math.log(2.0 * math.pi * spread)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_posterior_of_gaussian_data(solver: str):
    """x ~ N(0, 1), y = x + N(0, 1/4) = 1: the posterior is N(.8, .2), and the evidence N(1; 0,
    5/4). 1,000 particles: within 5 standard errors at an effective number of 300, and the
    discretisation's .03."""
    model = Gaussian([0.0, 0.5], [1.0, 0.5], EDM)
    found = run(model, observation, solver=solver, steps=30, seed=1)
    w, x = found.weights, found.samples.double()
    mean = w @ x
    variance = w @ (x - mean) ** 2
    near = 5.0 / math.sqrt(300)
    assert abs(mean[0] - 0.8) < near * math.sqrt(0.2) + 0.03
    assert abs(variance[0] - 0.2) < near * math.sqrt(2.0) * 0.2 + 0.03
    assert abs(mean[1] - 0.5) < near * math.sqrt(0.5) + 0.03
    evidence = -0.5 * 1.0 / 1.25 - 0.5 * math.log(2.0 * math.pi * 1.25)
    assert abs(found.log_evidence - evidence) < near
    assert w.sum().item() == pytest.approx(1.0) and len(found.effective) == 30
    assert found.resampled and len(set(found.ancestors.tolist())) < 1_000
    prior = expint.sample(model, (1_000, 2), solver, steps=30, ell=None, progress=False)
    assert prior[:, 0].mean().abs() < 0.2  # without the potential


def test_without_a_potential_they_are_the_samples():
    """Bit for bit: the noise of a particle is that of its seed."""
    model = mixture(EDM)
    found = run(model, lambda step, t, x, denoised: torch.zeros(len(x)), 50, steps=8, seed=3)
    alone = expint.sample(model, (50, 2), "seeds-ab2", steps=8, seed=3, progress=False)
    assert torch.equal(found.samples, alone)
    assert not found.resampled and found.log_evidence == pytest.approx(0.0, abs=1e-9)


def test_the_same_seeds_give_the_same_particles_in_any_batch():
    model = mixture(EDM)
    options: Any = {"steps": 10, "seeds": range(7, 107), "dtype": torch.float64, "threshold": 0.9}
    whole = run(model, observation, 100, **options)
    parts = run(model, observation, 100, batch=32, **options)
    torch.testing.assert_close(whole.samples, parts.samples, atol=1e-12, rtol=0.0)
    assert whole.resampled == parts.resampled and len(whole.resampled) > 2
    assert torch.equal(whole.ancestors, parts.ancestors)
    other = run(model, observation, 100, steps=10, seed=1, dtype=torch.float64)
    assert not torch.equal(whole.samples, other.samples)


@pytest.mark.parametrize("solver", ["seeds-ab3", "sa-solver", "seeds-2"])
def test_a_particle_goes_on_with_the_evaluations_of_the_one_it_was_made_from(solver: str):
    """After step 3 the particles 1 and 3 of 4 are doubled: the run is one of the same states and
    normals from the beginning, but the noise after it is that of the places."""
    model, order, at = mixture(EDM), [1, 1, 3, 3], 3
    odd = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0])

    def doubled(step: int, t: float, x: Tensor, denoised: Tensor) -> Tensor:
        return odd if step == at else torch.zeros(4)

    options: Any = {"solver": solver, "steps": 8, "final": "none", "dtype": torch.float64}
    found = run(model, doubled, 4, seed=5, threshold=0.6, **options)
    assert found.resampled == (at,) and found.ancestors.tolist() == order
    plan, seeds = found.plan, expint.noise.per_sample(5, 4)
    x = 80.0 * expint.noise.initial_state(seeds, (2,), torch.float64)
    stream = expint.noise.Gaussian(seeds).stream(x, plan.run)
    steps = {row.substep: row.step for row in plan.rows}
    normals = torch.stack(
        [
            z[order] if steps[k] < at else z
            for k, substep in enumerate(plan.noises)
            if substep is not None
            for z in stream.normals(substep)
        ]
    )
    noise = expint.noise.Replay(normals)
    alone = expint.sample(model, x[order], plan=plan, noise=noise, progress=False)
    torch.testing.assert_close(found.samples, alone, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_threshold(threshold: float):
    found = run(mixture(EDM), observation, 60, threshold=threshold, steps=6)
    assert found.resampled == (() if threshold == 0.0 else (1, 2, 3, 4, 5))


def test_particles_that_are_out_of_the_question_are_not_gone_on_with():
    def positive(step: int, t: float, x: Tensor, denoised: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0.0, 0.0, -torch.inf)

    model = Gaussian([0.0, 0.0], [1.0, 1.0], EDM)
    for threshold in (0.0, 0.5):
        found = run(model, positive, 200, steps=6, threshold=threshold)
        assert (found.samples[found.weights > 0, 0] > 0).all()
        assert torch.isfinite(found.log_weights[found.weights > 0]).all()
    with pytest.raises(ValueError, match=r"After step 1 the potential of every particle is -inf"):
        run(model, lambda step, t, x, denoised: torch.full((len(x),), -torch.inf), 5, steps=4)


def test_bad_input_is_refused_before_any_evaluation():
    model = forbidden(EDM)
    for match, options in {
        "threshold is a part": {"threshold": 1.5},
        "batch must be a positive": {"batch": 0},
        "adds no noise": {"ell": 0.0},
        "3 seeds came for a batch of 4": {"seeds": [1, 2, 3]},
    }.items():
        with pytest.raises(ValueError, match=match):
            run(model, observation, 4, **options)
    for potential in (3.0, lambda x: x[:, 0], lambda step, t, x, denoised, scale: x[:, 0]):
        with pytest.raises(TypeError, match=r"potential is called as .* -> \(n,\), got"):
            run(model, potential, 4)


def test_a_potential_that_is_nan_or_of_another_shape_is_named_at_its_step():
    def broken(step: int, t: float, x: Tensor, denoised: Tensor) -> Tensor:
        value = torch.zeros(len(x))
        value[2] = torch.nan if step == 3 else 0.0
        return value

    with pytest.raises(FloatingPointError, match="particle 2 after step 3 is nan"):
        run(mixture(EDM), broken, 4, steps=5)
    with pytest.raises(ValueError, match=r"shape \(4,\); after step 1 it gave \(4, 2\)"):
        run(mixture(EDM), lambda step, t, x, denoised: x, 4, steps=5)
