"""Analytic-DPM: the optimal variance, and the statistic that it needs."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_models import constant, forbidden, mixture

import expint
from expint import SecondMoment, compile_plan, reverse_sde, schedules, second_moment, solvers
from expint.convergence import gaussian_moments
from expint.runs import Reparametrized
from expint.schedules import EDM, VE, VP, Discrete, Flow, Schedule
from expint.solvers import analytic_dpm, optimal_variance
from expint.targets import Gaussian

torch.set_num_threads(1)
VARIANCE = 0.3
FEW = 4
every_schedule = pytest.mark.parametrize(
    "schedule", [VP(), VE(), EDM(), schedules.get("cosine")], ids=lambda s: type(s).__name__
)


def gamma(lam: Tensor, variance: float = VARIANCE) -> Tensor:
    """Γ of isotropic Gaussian data: σ²/(σ² + v)."""
    return 1.0 / (1.0 + variance * torch.exp(2.0 * lam))


def target(schedule: Schedule, d: int = 1, variance: Any = VARIANCE) -> Gaussian:
    return Gaussian([0.7] * d, variance, schedule)


def table(schedule: Schedule, count: int = 50, variance: float = VARIANCE) -> SecondMoment:
    lams = torch.linspace(-3.5, 3.5, count, dtype=torch.float64)
    times, values = schedule.t_of_lam(lams), gamma(lams, variance)
    return SecondMoment(
        tuple(times.tolist()),
        tuple(lams.tolist()),
        tuple(values.tolist()),
        (0.0,) * count,
        1,
        str(schedule),
        "exact",
    )


def grid(schedule: Schedule, steps: int = FEW) -> Tensor:
    return schedule.t_of_lam(torch.linspace(-3.4, 2.0, steps + 1, dtype=torch.float64))


def relative_errors(
    tableau: Any, schedule: Schedule, ell: float, data: Gaussian
) -> tuple[float, float]:
    """Of the sampler's mean, in standard deviations of the data, and of its variance."""
    plan = compile_plan(reverse_sde(schedule, "data", ell), tableau, grid(schedule))
    mean, variance = gaussian_moments(plan, data)
    exact_mean, exact_variance = data.moments(plan.grid[-1])
    return float((mean - exact_mean).abs().max() / exact_variance.sqrt().max()), float(
        (variance / exact_variance - 1).abs().max()
    )


@every_schedule
@pytest.mark.parametrize("ell", [1e-3, 0.5, 1.0, 1.4])
def test_the_variance_is_exact_on_isotropic_gaussian_data(schedule: Schedule, ell: float):
    for statistic in (
        gamma,
        table(schedule),
        table(schedule, 2),
    ):  # the interpolation is exact here, too
        mean, variance = relative_errors(
            analytic_dpm(statistic, ell=ell), schedule, ell, target(schedule, 2)
        )
        assert mean < 1e-9 and variance < 1e-9
    assert relative_errors("ddpm", schedule, ell, target(schedule, 2))[1] > 0.05
    assert (
        relative_errors(
            analytic_dpm(lambda lam: gamma(lam, 1.1 * VARIANCE), ell=ell),
            schedule,
            ell,
            target(schedule, 2),
        )[1]
        > 1e-3
    )


def test_the_factor_is_theorem_1():
    """In the symbols of the paper, with ᾱ = α², β̄ = 1 − ᾱ, α_n = ᾱ_n/ᾱ_{n−1}, and Γ_n of the
    score.
    """
    schedule, (s, t) = VP(), (0.8, 0.55)
    bar_n, bar_m = schedule.alpha(s) ** 2, schedule.alpha(t) ** 2
    beta_n, beta_m, alpha_n = 1 - bar_n, 1 - bar_m, bar_n / bar_m
    posterior = beta_m / beta_n * (1 - alpha_n)
    for ell in (1.0, 0.6, 1e-3):
        squared = beta_m * (1 - (schedule.sigma(t) / schedule.sigma(s)) ** (2 * ell**2))
        assert ell != 1.0 or squared == pytest.approx(posterior, rel=1e-12)
        plan = compile_plan(
            reverse_sde(schedule, "data", ell),
            analytic_dpm(lambda lam: 0.83 + 0 * lam, ell=ell),
            [s, t],
        )
        gamma_n = 0.83 / beta_n
        reach = math.sqrt(beta_n / alpha_n) - math.sqrt(beta_m - squared)
        assert float(plan.noise_std(plan.rows[0])) ** 2 == pytest.approx(
            squared + reach**2 * (1 - beta_n * gamma_n), rel=1e-9
        )
        # DDIM in the limit
        if ell == 1e-3:
            ddim = (math.sqrt(beta_n / alpha_n) - math.sqrt(beta_m)) ** 2 * (1 - beta_n * gamma_n)
            assert float(plan.noise_std(plan.rows[0])) ** 2 == pytest.approx(ddim, rel=1e-4)


@pytest.mark.parametrize("value", [-0.5, 0.0, 0.4, 1.0, 1.7])
def test_the_bounds_hold_for_any_statistic(value: float):
    """Theorem 2: λ² ≤ σ*² ≤ λ² + (√(β̄_n/α_n) − √(β̄_{n−1} − λ²))², and with data in [a, b] the
    second bound.
    """
    schedule = EDM()
    start, end = torch.tensor([[80.0, 3.0, 0.5], [20.0, 1.0, 0.1]], dtype=torch.float64)
    wide = optimal_variance(lambda lam: torch.full_like(lam, value)).factor(schedule, start, end)
    narrow = optimal_variance(
        lambda lam: torch.full_like(lam, value), data_range=(-1.0, 1.0)
    ).factor(schedule, start, end)
    assert wide is not None and narrow is not None
    posterior = end**2 * (1 - (end / start) ** 2)
    upper = posterior + (start - end**2 / start) ** 2
    second = posterior + (1 - end**2 / start**2) ** 2
    assert (wide >= 1.0).all() and (wide**2 * posterior <= upper * (1 + 1e-12)).all()
    assert (narrow <= wide).all() and (narrow**2 * posterior <= second * (1 + 1e-12)).all()
    for edge, bound in ((1.0, posterior), (0.0, upper)):
        if value == edge:
            torch.testing.assert_close(wide**2 * posterior, bound, rtol=1e-12, atol=0.0)
    if value == 0.0:
        assert float(narrow[0] / wide[0]) < 0.5  # at high noise it is the data's range that binds


@every_schedule
@pytest.mark.parametrize("estimator", ["moment", "residual"])
def test_the_estimate_is_the_closed_form(schedule: Schedule, estimator: str):
    data = target(schedule, 3, [0.2, 0.3, 0.7])
    model = Reparametrized(data, "v")
    moment = second_moment(model, data.sample(3000), 5, draws=6000, estimator=estimator, batch=1999)
    assert (
        moment.count == 6000 and moment.estimator == estimator and moment.schedule == str(schedule)
    )
    exact = torch.stack([gamma(torch.tensor(moment.lams), v) for v in (0.2, 0.3, 0.7)]).mean(0)
    for value, error, truth in zip(moment.values, moment.errors, exact.tolist(), strict=True):
        assert abs(value - truth) < 5 * error and 0 < error < 0.02
    assert (
        moment.times[0] == schedule.sampling_range[0]
        and moment.times[-1] == schedule.sampling_range[1]
    )


def test_the_residual_is_far_more_precise_at_high_noise():
    data = target(EDM(), 3)
    moment, residual = (
        second_moment(data, data.sample(500), [80.0], estimator=name)
        for name in ("moment", "residual")
    )
    assert residual.errors[0] < 1e-3 * moment.errors[0]
    assert 1 - residual.values[0] == pytest.approx(VARIANCE / 6400, rel=0.1)


def test_the_estimate_depends_on_the_seed_alone():
    data = target(VP(), 2)
    clean = data.sample(40)
    one = second_moment(data, clean, [0.9, 0.3], draws=64, seed=5)
    other = second_moment(data, clean, [0.9, 0.3], draws=64, seed=5, batch=7)
    assert other.values == pytest.approx(one.values, rel=1e-12) and other.errors == pytest.approx(
        one.errors, rel=1e-9
    )
    assert second_moment(data, clean, [0.9, 0.3], draws=64, seed=6).values != one.values


def test_draws_are_spread_over_the_data_and_conditions_go_with_them():
    seen: list[list[int]] = []

    def conditioned(items: Any) -> Any:
        seen.append(list(items))
        return constant(VP(), "noise", 1.0)

    clean = torch.zeros(6, 2)
    moment = second_moment(
        forbidden(VP(), "noise"), clean, [0.5], draws=3, batch=2, conditioned=conditioned
    )
    assert seen == [[0, 2], [4]] and moment.values == (1.0,) and moment.errors == (0.0,)
    seen.clear()
    second_moment(forbidden(VP(), "noise"), clean[:2], [0.5], draws=5, conditioned=conditioned)
    assert seen == [[0, 1, 0, 1, 0]]


def test_times_are_rounded_to_those_the_network_knows():
    schedule = Discrete(torch.linspace(0.99, 0.01, 11, dtype=torch.float64))
    model = constant(schedule, "noise", 1.0)
    model.round_time = schedule.round  # type: ignore[attr-defined]
    moment = second_moment(model, torch.zeros(4, 2), [9.2, 8.9, 4.4, 0.3])
    assert moment.times == (9.0, 4.0, 0.0)


def test_json_round_trip(tmp_path: Path):
    moment = second_moment(target(VP(), 2), target(VP(), 2).sample(20), 3)
    file = tmp_path / "moment.json"
    moment.save(file)
    assert SecondMoment.load(file) == moment
    assert [path.name for path in tmp_path.iterdir()] == ["moment.json"]
    content = json.loads(file.read_text())
    assert set(content) == {"times", "lams", "values", "errors", "count", "schedule", "estimator"}


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "moment.json"
    table(VP()).save(file)
    before = file.read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no"):
        table(VP(), 3).save(file)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [
        "moment.json"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Cannot read"),
        ("[]", "should have the fields"),
        ('{"times": []}', "should have the fields"),
        (None, "Cannot read"),
        ({"times": [1.0, 0.5]}, "one entry per time"),
        ({"lams": ["a", 1.0, 2.0]}, "sequence of numbers"),
        ({"lams": [1.0, 1.0, 2.0]}, "increase"),
        ({"values": [0.1, -0.1, 0.1]}, "values must be finite and >= 0"),
        ({"values": [0.1, math.inf, 0.1]}, "values must be finite"),
        ({"errors": [0.1, math.nan, 0.1]}, "errors must be finite"),
        ({"count": 0}, "count must be a positive integer"),
        ({"count": 1.5}, "count must be a positive integer"),
        ({"schedule": 3}, "schedule must be a string"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: Any, message: str):
    file = tmp_path / "moment.json"
    if isinstance(text, dict):
        text = json.dumps(table(VP(), 3).to_dict() | text)
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=message):
        SecondMoment.load(file)


def test_interpolation_stays_inside_and_refuses_outside():
    moment = SecondMoment(
        (1.0, 0.5, 0.2), (-2.0, 0.0, 1.0), (1.3, 0.5, 0.0), (0.1, 0.1, 0.1), 9, "VP"
    )
    at = torch.tensor([[-2.0, -0.5], [0.0, 1.0]], dtype=torch.float64)
    found = moment(at)
    assert (
        found.shape == at.shape
        and ((found >= 0) & (found <= 1)).all()
        and found.flatten().tolist()[2] == pytest.approx(0.5)
    )
    assert moment(-2.0 - 1e-7) == moment(-2.0)
    for lam in (-2.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="known for lambda from -2 to 1"):
            moment(lam)
    with pytest.raises(ValueError, match="measure it at times that reach"):
        compile_plan(reverse_sde(VP()), analytic_dpm(moment), [0.99, 0.5, 0.1])


def test_estimates_follow_the_gradient_of_a_learned_grid():
    lam = torch.tensor([-1.0, 0.3], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(table(VP())(lam).sum(), lam)
    exact = gamma(lam.detach())
    torch.testing.assert_close(slope, -2 * exact * (1 - exact), rtol=1e-9, atol=0)


@pytest.mark.parametrize("statistic", [None, 0.5])
def test_without_a_statistic_it_says_how_to_make_one(statistic: Any):
    for make in (analytic_dpm, optimal_variance):
        with pytest.raises(
            TypeError, match=r"expint\.second_moment\(model, data, times\).*SecondMoment\.load"
        ):
            make(statistic)


@pytest.mark.parametrize("ell", [0.0, -1.0, math.inf, math.nan, True, "1"])
def test_ell_must_be_positive(ell: Any):
    with pytest.raises(ValueError, match="ell must be a positive number"):
        optimal_variance(gamma, ell)


@pytest.mark.parametrize("data_range", [(1.0, -1.0), (0.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_bounds_must_be_in_order(data_range: Any):
    with pytest.raises(ValueError, match="data_range is"):
        optimal_variance(gamma, data_range=data_range)


@pytest.mark.parametrize("name", ["seeds-2", "seeds-3", "unipc-2"])
def test_solvers_of_several_stages_are_refused(name: str):
    with pytest.raises(
        ValueError, match=r"optimal-variance\(.*\) gives the noise of a step another variance"
    ):
        compile_plan(reverse_sde(VP()), name, [0.9, 0.5], operations=[optimal_variance(gamma)])
    with pytest.raises(ValueError, match="one stage with ell > 0"):
        compile_plan(
            reverse_sde(VP(), ell=0.0), "ddim", [0.9, 0.5], operations=[optimal_variance(gamma)]
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": torch.zeros(3, dtype=torch.float64)}, "shape"),
        ({"data": torch.zeros(0, 2)}, "shape"),
        ({"data": torch.zeros(3, 2, dtype=torch.uint8)}, "float32 or float64"),
        ({"data": torch.full((3, 2), math.nan)}, "NaN"),
        ({"times": 0}, "at least 1"),
        ({"times": [0.1, 0.9]}, "from noise to data"),
        ({"times": [2.0]}, "domain"),
        ({"times": []}, "1-D sequence"),
        ({"times": [math.nan]}, "domain"),
        ({"draws": 1}, "draws must be"),
        ({"batch": 0}, "batch must be"),
        ({"seed": -1}, "seed"),
        ({"estimator": "median"}, "estimator"),
        ({"model": forbidden(Flow())}, "starts at infinite sigma"),
        ({"model": lambda x, t: x}, "attributes `schedule`"),
        ({"model": forbidden(VP(), "nonsense")}, "prediction"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_evaluation(
    changes: dict[str, Any], message: str
):
    arguments = {"model": forbidden(VP()), "data": torch.zeros(3, 2), "times": 3} | changes
    with pytest.raises((ValueError, TypeError), match=message):
        second_moment(
            arguments.pop("model"), arguments.pop("data"), arguments.pop("times"), **arguments
        )


def test_a_network_that_overflows_is_named():
    with pytest.raises(FloatingPointError, match=r"t = 0\.5"):
        second_moment(constant(VP(), "noise", math.inf), torch.zeros(3, 2), [0.5])


def test_analytic_dpm_samples_a_mixture_better_than_ddpm_in_few_steps():
    """Pooled second moment of the samples, against that of the data."""
    schedule = EDM()
    data = mixture(schedule)
    moment = second_moment(data, data.sample(2000), 60, estimator="residual")
    exact = float((data.sample(4000, 0.1) - data.sample(4000, 0.1).mean(0)).square().mean())
    found = {}
    for solver in (analytic_dpm(moment), solvers.get("ddpm")):
        x = expint.sample(
            data,
            (2000, 2),
            solver,
            grid=[80.0, 5.0, 1.0, 0.3, 0.1],
            progress=False,
            dtype=torch.float64,
        )
        found[solver.name] = abs(float((x - x.mean(0)).square().mean()) / exact - 1)
    assert found["analytic-dpm"] < 0.12 < 0.4 < found["ddpm"]
