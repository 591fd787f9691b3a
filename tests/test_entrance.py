"""What does not fit is told before the first network call; what fits in other spellings is
taken.
"""

import numpy as np
import pytest
import torch

import expint
from expint import noise, runs, schedules, targets
from expint.runs import describe
from expint.runs.start import start_state


class NeverCalled:
    """A model that must not be reached."""

    def __init__(self, schedule, prediction="data"):
        self.schedule, self.prediction = schedule, prediction

    def __call__(self, x, t):
        raise AssertionError("the network was called")


EDM = schedules.EDM()
FOUR = range(4)


@pytest.mark.parametrize("solver", ["seeds-sra", "seeds-sra3"])
def test_signs_have_no_integral(solver):
    with pytest.raises(ValueError, match="no space-time integral"):
        expint.sample(
            NeverCalled(EDM), (4, 2), solver, steps=5, noise=noise.Rademacher(FOUR), progress=False
        )


def test_a_path_from_infinite_sigma_in_the_noise_form():
    flow = schedules.Flow()
    plan = expint.plan_sampling(flow, "seeds-1", steps=5, form="noise")
    with pytest.raises(ValueError, match="noise form has τ = −∞"):
        runs.execute(plan, NeverCalled(flow), torch.zeros(4, 2), noise.BrownianPath(FOUR))


def test_a_path_out_of_range_of_the_dtype():
    with pytest.raises(ValueError, match="out of range"):
        expint.sample(
            NeverCalled(EDM),
            (4, 2),
            "seeds-1",
            steps=8,
            grid="uniform_lambda",
            ell=5.0,
            noise=noise.BrownianPath(FOUR),
            progress=False,
        )


@pytest.mark.parametrize("solver", ["seeds-sra", "seeds-1"])
def test_a_path_that_is_too_coarse_is_refused_with_the_resolution_that_serves(solver):
    """With integrals and without; a path without a stated resolution serves."""
    run = {"solver": solver, "steps": 400, "progress": False}
    with pytest.raises(ValueError, match=r"resolution=(\d+) or more") as caught:
        expint.sample(NeverCalled(EDM), (4, 2), noise=noise.BrownianPath(FOUR, resolution=6), **run)
    needed = int(str(caught.value).split("resolution=")[1].split()[0])
    target = targets.Gaussian([0.5, 1.0], [1.0, 0.3], EDM)
    expint.sample(target, (4, 2), noise=noise.BrownianPath(FOUR, resolution=needed), **run)
    expint.sample(target, (4, 2), noise=noise.BrownianPath(FOUR), **run)


@pytest.mark.parametrize("solver", ["seeds-sra", "seeds-sra3"])
@pytest.mark.parametrize("ell", [0.0, 0.6, 1.0])
def test_schemes_with_integrals_start_at_infinite_sigma(solver, ell):
    flow = schedules.Flow()
    target = targets.Gaussian([0.5, 1.0], [1.0, 0.3], flow)
    plan = expint.plan_sampling(flow, solver, steps=80, ell=ell, final="none")
    mean, variance = expint.convergence.gaussian_moments(plan, target)
    exact = target.moments(plan.grid[-1])
    torch.testing.assert_close(mean, exact[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(variance, exact[1], atol=2e-2, rtol=0)
    normals = torch.zeros(plan.normals, 1, 2, dtype=torch.float64)
    runs.execute(
        plan, target, torch.zeros(1, 2, dtype=torch.float64), noise.Replay(normals)
    )  # just enough


def test_half_precision_sums_do_not_overflow():
    class Zero:
        schedule, prediction = EDM, "data"

        def __call__(self, x, t):
            return torch.zeros_like(x)

    samples = expint.sample(
        Zero(), (64, 3, 64, 64), "seeds-1", steps=6, dtype=torch.float16, progress=False
    )
    assert samples.dtype == torch.float16


def test_the_model_must_have_the_schedule_of_the_plan():
    plan = expint.plan_sampling(schedules.VP(), steps=4)
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="plan is for the schedule VP"):
        runs.execute(plan, NeverCalled(EDM), x, noise.Gaussian([0]))
    same = targets.Gaussian(
        [0.0, 0.0], [1.0, 1.0], schedules.VP(t_min=0.01)
    )  # the same functions, another sampling range
    runs.execute(plan, same, x, noise.Gaussian([0]))


def test_numpy_numbers_are_numbers():
    target = targets.Gaussian([0.5], [1.0], EDM)
    expected = expint.sample(target, (3, 1), "seeds-1", steps=5, seed=7, progress=False)
    listed = expint.sample(target, (3, 1), "seeds-1", steps=5, seeds=[7, 8, 9], progress=False)
    for seeds, wanted in (
        ({"seed": np.int64(7), "start": np.int64(0)}, expected),
        ({"seeds": np.arange(7, 10)}, listed),
        ({"seeds": torch.arange(7, 10)}, listed),
        ({"seeds": range(7, 10)}, listed),
    ):
        got = expint.sample(
            target, (np.int64(3), 1), "seeds-1", steps=np.int64(5), **seeds, progress=False
        )
        assert torch.equal(got, wanted)
    expint.sample(target, (3, 1), "seeds-1", nfe=np.int32(5), progress=False)
    start = np.full((3, 1), 80.0)
    assert expint.sample(target, start, "seeds-1", steps=5, progress=False).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"noise": 3}, TypeError, "noise source"),
        ({"dtype": "float32"}, TypeError, "torch.dtype"),
        ({"ell": "a"}, ValueError, "ell"),
        ({"shape": 4}, ValueError, "positive integers"),
        ({"callback": 3}, TypeError, "callback"),
        ({"seed": 1.5}, TypeError, "seed is one integer"),
        (
            {"ell": 0.5, "noise_scale": "sde"},
            ValueError,
            "give one of them, got ell and noise_scale",
        ),
    ],
)
def test_arguments_of_another_kind(options, error, message):
    with pytest.raises(error, match=message):
        expint.sample(
            NeverCalled(EDM), **({"shape": (2, 1), "steps": 4, "progress": False} | options)
        )


def test_a_wrong_shape_later_in_the_run_is_told():
    class Changes:
        schedule, prediction = EDM, "data"

        def __init__(self):
            self.calls = 0

        def __call__(self, x, t):
            self.calls += 1
            return x if self.calls < 3 else x[:, :1]

    with pytest.raises(ValueError, match=r"returned shape \(2, 1\) for a state of shape \(2, 3\)"):
        expint.sample(Changes(), (2, 3), "seeds-1", steps=5, progress=False)


def test_the_device_is_that_of_the_models_parameters():
    class Network(torch.nn.Linear):
        schedule, prediction = EDM, "data"

    assert describe(Network(2, 2, device="meta")).device == torch.device("meta")
    assert describe(NeverCalled(EDM)).device is None
    started, _ = start_state(
        describe(NeverCalled(EDM)), (2, 3), expint.plan_sampling(EDM), range, None, None, None
    )
    assert started.device == torch.device("cpu")
