"""Properties that every registered schedule has, and what its own paper says of each."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expint import schedules
from expint.schedules import EDM, VE, VP, Cosine, Discrete, Flow, Schedule
from expint.schedules.discrete import TabulatedVP

NAMES = schedules.names()
every_schedule = pytest.mark.parametrize("name", NAMES)
moderate = settings(deadline=None, max_examples=40, derandomize=True)
INF = float("inf")


def times_inside(schedule: Schedule, points: int = 301) -> torch.Tensor:
    noise, data = schedule.sampling_range
    low = max(data, 1e-12)
    if data > 0 and noise / data > 1e3:
        return torch.logspace(math.log10(low), math.log10(noise), points, dtype=torch.float64)[1:-1]
    return torch.linspace(data, noise, points, dtype=torch.float64)[1:-1]


@st.composite
def time_inside(draw: st.DrawFn, schedule: Schedule) -> float:
    lam = schedule.lam(times_inside(schedule, 11))
    return schedule.t_of_lam(draw(st.floats(lam.min().item(), lam.max().item())))


@every_schedule
def test_check_passes_and_the_range_is_inside_the_domain(name: str):
    schedule = schedules.get(name)
    schedule.check()
    noise, data = schedule.sampling_range
    low, high = schedule.domain
    assert low <= data < noise <= high


@every_schedule
def test_functions_are_consistent(name: str):
    schedule = schedules.get(name)
    t = times_inside(schedule)
    alpha, std, sigma, lam = schedule.alpha(t), schedule.std(t), schedule.sigma(t), schedule.lam(t)
    torch.testing.assert_close(sigma, std / alpha, rtol=1e-13, atol=0)
    torch.testing.assert_close(lam, -torch.log(sigma), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.exp(schedule.log_alpha(t)), alpha, rtol=1e-14, atol=0)
    torch.testing.assert_close(torch.exp(schedule.log_std(t)), std, rtol=1e-14, atol=0)
    assert (lam[1:] < lam[:-1]).all() and (alpha > 0).all() and (std > 0).all()


@every_schedule
def test_inverse_of_lambda_on_a_grid(name: str):
    schedule = schedules.get(name)
    t = times_inside(schedule)
    torch.testing.assert_close(schedule.t_of_lam(schedule.lam(t)), t, rtol=1e-9, atol=0)
    torch.testing.assert_close(schedule.t_of_sigma(schedule.sigma(t)), t, rtol=1e-9, atol=0)


@every_schedule
@moderate
@given(data=st.data())
def test_inverse_of_lambda(name: str, data: st.DataObject):
    schedule = schedules.get(name)
    t = data.draw(time_inside(schedule))
    assert schedule.t_of_lam(schedule.lam(t)) == pytest.approx(t, rel=1e-9)


@every_schedule
@moderate
@given(data=st.data())
def test_lambda_of_its_inverse(name: str, data: st.DataObject):
    schedule = schedules.get(name)
    ends = [schedule.lam(t) for t in schedule.sampling_range]
    lam = data.draw(st.floats(max(ends[0], -12.0), ends[1]))
    assert schedule.lam(schedule.t_of_lam(lam)) == pytest.approx(lam, rel=1e-9, abs=1e-9)


@every_schedule
@moderate
@given(data=st.data())
def test_noise_grows_with_time(name: str, data: st.DataObject):
    schedule = schedules.get(name)
    s, t = data.draw(time_inside(schedule)), data.draw(time_inside(schedule))
    early, late = sorted((s, t))
    assert schedule.sigma(early) <= schedule.sigma(late)
    assert schedule.alpha(early) >= schedule.alpha(late)


@every_schedule
def test_sigma_spans_the_sampling_range_with_small_noise_at_the_data_end(name: str):
    schedule = schedules.get(name)
    noise, data = (schedule.sigma(t) for t in schedule.sampling_range)
    assert noise > 10 and 0 < data < 0.05


@every_schedule
def test_clean_end(name: str):
    schedule = schedules.get(name)
    t = schedule.t_of_lam(INF)
    assert schedule.alpha(t) == pytest.approx(1.0, abs=1e-15)
    assert (schedule.std(t), schedule.sigma(t), schedule.lam(t)) == (0.0, 0.0, INF)
    assert schedule.t_of_sigma(0.0) == t
    assert t <= schedule.sampling_range[1]
    # Time −inf means the same for every schedule.
    assert (schedule.alpha(-INF), schedule.std(-INF), schedule.sigma(-INF)) == (1.0, 0.0, 0.0)


@every_schedule
def test_kinds_in_and_out(name: str):
    schedule = schedules.get(name)
    t = float(times_inside(schedule)[100])
    for function in (
        schedule.alpha,
        schedule.std,
        schedule.sigma,
        schedule.lam,
        schedule.drift,
        schedule.diffusion_squared,
    ):
        value = function(t)
        assert type(value) is float
        array = function(np.array([t, t]))
        assert (
            isinstance(array, np.ndarray)
            and array.shape == (2,)
            and array[0] == pytest.approx(value, rel=1e-14)
        )
        tensor = function(torch.tensor([[t]], dtype=torch.float64))
        assert (
            tensor.shape == (1, 1)
            and tensor.dtype == torch.float64
            and tensor.item() == pytest.approx(value, rel=1e-14)
        )
        assert not tensor.requires_grad
        assert function(torch.tensor([t], dtype=torch.float32)).dtype == torch.float32
    assert type(schedule.t_of_lam(0.5)) is float and type(schedule.t_of_sigma(0.5)) is float
    assert isinstance(schedule.t_of_lam(np.array([0.5])), np.ndarray)
    assert schedule.t_of_lam(torch.tensor([0.5])).dtype == torch.float32


@every_schedule
@pytest.mark.parametrize("bad", [1j, "noon", None])
def test_times_that_are_not_real(name: str, bad: object):
    with pytest.raises(TypeError, match="real"):
        schedules.get(name).alpha(bad)


@every_schedule
def test_drift_and_diffusion_against_finite_differences(name: str):
    """The kernel N(α x_0, σ̄²) of dx = f x dt + g dω obeys α' = f α and (σ̄²)' = 2 f σ̄² + g²."""
    schedule = schedules.get(name)
    t = times_inside(schedule, 41)
    if isinstance(schedule, TabulatedVP):
        t = torch.floor(t) + 0.5  # λ has kinks at the entries of the table
    h = 1e-4 * t if not isinstance(schedule, TabulatedVP) else torch.full_like(t, 0.05)
    if schedule.domain[1] == 1.0:
        h = torch.minimum(h, 0.01 * (1 - t))

    def slope(function: object) -> torch.Tensor:  # central differences of fourth order
        f = function
        return (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)  # type: ignore[operator]

    drift = slope(schedule.log_alpha)
    torch.testing.assert_close(schedule.drift(t), drift, rtol=1e-6, atol=1e-9)
    variance = slope(lambda u: schedule.std(u) ** 2)
    torch.testing.assert_close(
        schedule.diffusion_squared(t),
        variance - 2 * drift * schedule.std(t) ** 2,
        rtol=1e-5,
        atol=1e-9,
    )
    assert (schedule.diffusion_squared(t) > 0).all()


@pytest.mark.parametrize(
    "name", [n for n in NAMES if isinstance(schedules.get(n), VP | Cosine | TabulatedVP)]
)
def test_variance_preserving(name: str):
    schedule = schedules.get(name)
    t = times_inside(schedule)
    torch.testing.assert_close(
        schedule.alpha(t) ** 2 + schedule.std(t) ** 2, torch.ones_like(t), rtol=0, atol=1e-14
    )


def test_vp_is_the_linear_beta_sde():
    schedule = VP(beta_d=7.0, beta_min=0.3)
    t = torch.linspace(0.01, 1.0, 30, dtype=torch.float64)
    beta = 0.3 + 7.0 * t
    torch.testing.assert_close(schedule.drift(t), -0.5 * beta, rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.diffusion_squared(t), beta, rtol=1e-11, atol=0)
    torch.testing.assert_close(
        schedule.alpha(t), torch.exp(-0.5 * (0.3 * t + 3.5 * t**2)), rtol=1e-14, atol=0
    )


def test_ve_is_a_brownian_motion_and_edm_counts_time_in_sigma():
    t = torch.tensor([1e-4, 0.3, 5.0, 900.0], dtype=torch.float64)
    torch.testing.assert_close(VE().diffusion_squared(t), torch.ones_like(t), rtol=1e-12, atol=0)
    torch.testing.assert_close(VE().sigma(t), torch.sqrt(t), rtol=1e-14, atol=0)
    torch.testing.assert_close(EDM().diffusion_squared(t), 2 * t, rtol=1e-12, atol=0)
    torch.testing.assert_close(EDM().sigma(t), t, rtol=1e-14, atol=0)
    assert (VE().alpha(t) == 1).all() and (EDM().alpha(t) == 1).all()


def test_cosine_as_published():
    schedule, s = Cosine(), 0.008
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    bar = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2 / math.cos(s / (1 + s) * math.pi / 2) ** 2
    torch.testing.assert_close(schedule.alpha(t) ** 2, bar, rtol=1e-12, atol=0)


def test_cosine_keeps_its_accuracy_at_both_ends():
    schedule = Cosine(t_max=1.0)
    early = torch.logspace(-12, -2, 21, dtype=torch.float64)
    late = 1 - torch.logspace(-12, -2, 21, dtype=torch.float64)
    torch.testing.assert_close(schedule.t_of_lam(schedule.lam(early)), early, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        1 - schedule.t_of_lam(schedule.lam(late)), 1 - late, rtol=1e-9, atol=1e-15
    )


def test_flow_is_a_straight_line():
    t = torch.linspace(0.001, 0.999, 30, dtype=torch.float64)
    torch.testing.assert_close(Flow().alpha(t), 1 - t, rtol=1e-14, atol=0)
    torch.testing.assert_close(Flow().std(t), t, rtol=1e-14, atol=0)


@pytest.mark.parametrize("schedule", [Flow(), Cosine(t_max=1.0)], ids=str)
def test_infinite_noise_end(schedule: Schedule):
    assert (
        schedule.lam(1.0) == -INF
        and schedule.alpha(1.0) == 0.0
        and schedule.std(1.0) == pytest.approx(1.0, abs=1e-15)
    )
    assert schedule.t_of_lam(-INF) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("build", "seen"),
    [
        (lambda: VP(beta_min=0.0), r"beta_min > 0.*0\.0"),
        (lambda: VP(t_min=1.0), r"0 < t_min < 1, got 1\.0"),
        (
            lambda: VE(sigma_min=2.0, sigma_max=1.0),
            r"VE needs 0 < sigma_min < sigma_max < inf, got 2\.0 and 1\.0",
        ),
        (lambda: EDM(sigma_max=INF), r"EDM needs .* inf"),
        (lambda: EDM(sigma_min=float("nan")), r"EDM needs .* nan"),
        (lambda: Cosine(s=0.0), r"s > 0, got 0\.0"),
        (lambda: Cosine(t_max=1.5), r"t_max <= 1, got .* 1\.5"),
        (lambda: Flow(t_min=0.0), r"0 < t_min < t_max <= 1, got 0\.0"),
    ],
)
def test_parameters_that_make_no_schedule(build: object, seen: str):
    with pytest.raises(ValueError, match=seen):
        build()  # type: ignore[operator]


def test_check_finds_where_lambda_rises():
    with pytest.raises(
        ValueError,
        match=r"strictly with t, but between t = 0\.5999 and .*sigma = std/alpha must grow with t",
    ):
        _Backwards().check()


class _Backwards(Flow):
    def _log_alpha(self, t: torch.Tensor) -> torch.Tensor:
        return 0.0 * t

    def _log_std(self, t: torch.Tensor) -> torch.Tensor:
        return torch.log(t * (1.2 - t))


class _Negative(Flow):
    def _log_std(self, t: torch.Tensor) -> torch.Tensor:
        return torch.log(t - 0.5)


def test_check_finds_where_a_function_is_no_number():
    with pytest.raises(
        ValueError, match=r"std must be positive and finite .* between t = 0\.001 and t = 0\.4999"
    ):
        _Negative(t_max=0.9).check()


def test_unknown_name_tells_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown schedule 'cosin'; nearest: \['cosine'"):
        schedules.get("cosin")


def test_registry_builds_with_parameters():
    assert schedules.get("edm", sigma_max=10.0) == EDM(sigma_max=10.0)
    assert NAMES == sorted(NAMES) and {
        "vp",
        "ve",
        "edm",
        "cosine",
        "iddpm",
        "flow",
        "discrete",
    } <= set(NAMES)
    assert isinstance(schedules.get("discrete"), Discrete)
