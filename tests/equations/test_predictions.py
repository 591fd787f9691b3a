"""Conversions between predictions, from their definitions on x = αD + σ̄ε."""

import pytest
import torch

from expint import predictions, schedules
from expint.equations.predictions import PREDICTIONS, conversion
from expint.runs import Reparametrized
from expint.schedules import Flow
from expint.targets import Gaussian

SIGMA_DATA = 0.7
every_schedule = pytest.mark.parametrize("name", schedules.names())
D = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
EPS = torch.tensor([-0.5, 1.1, 0.2], dtype=torch.float64)


def defined(
    prediction: str, alpha: float, std: float, sigma_data: float = SIGMA_DATA
) -> torch.Tensor:
    """What a network with that prediction should return for D, ε and x = αD + σ̄ε."""
    x, sigma = alpha * D + std * EPS, std / alpha
    root = (sigma**2 + sigma_data**2) ** 0.5
    return {
        "data": D,
        "noise": EPS,
        "v": alpha * EPS - std * D,
        "flow": EPS - D,
        "score": (alpha * D - x) / std**2,
        "precond": (D - sigma_data**2 / root**2 * x / alpha) / (sigma * sigma_data / root),
    }[prediction]


@every_schedule
@pytest.mark.parametrize("source", PREDICTIONS)
@pytest.mark.parametrize("target", PREDICTIONS)
def test_conversion(name: str, source: str, target: str):
    schedule = schedules.get(name)
    for sigma in (0.02, 0.9, 15.0):
        t = schedule.t_of_sigma(sigma)
        alpha, std = schedule.alpha(t), schedule.std(t)
        rule = conversion(
            source, target, schedule, t, source_sigma_data=SIGMA_DATA, target_sigma_data=SIGMA_DATA
        )
        result = rule.on_x * (alpha * D + std * EPS) + rule.on_output * defined(source, alpha, std)
        torch.testing.assert_close(result, defined(target, alpha, std), rtol=1e-8, atol=1e-8)


def test_noise_and_score_convert_without_the_state():
    rule = conversion("noise", "score", schedules.VP(), [0.3, 0.9])
    assert torch.equal(rule.on_x, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(
        rule.on_output,
        -1 / schedules.VP().std(torch.tensor([0.3, 0.9]).double()),
        rtol=1e-7,
        atol=0,
    )


def test_two_values_of_sigma_data():
    t = 0.8
    rule = conversion(
        "precond", "precond", schedules.EDM(), t, source_sigma_data=0.5, target_sigma_data=2.0
    )
    result = rule.on_x * (D + t * EPS) + rule.on_output * defined("precond", 1.0, t, 0.5)
    torch.testing.assert_close(result, defined("precond", 1.0, t, 2.0), rtol=1e-12, atol=1e-12)


def test_v_is_the_preconditioned_network_of_unit_data_with_the_sign_turned():
    schedule, t = schedules.VP(), 0.4
    rule = conversion("v", "precond", schedule, t, target_sigma_data=1.0)
    assert float(rule.on_x) == pytest.approx(0.0, abs=1e-15) and float(
        rule.on_output
    ) == pytest.approx(-1.0, rel=1e-14)


@pytest.mark.parametrize("source", ["noise", "score"])
def test_noise_says_nothing_of_the_data_at_infinite_sigma(source: str):
    with pytest.raises(
        ValueError, match=rf"predicts '{source}' cannot give 'data' at t = 1, where sigma = inf"
    ):
        conversion(source, "data", Flow(), 1.0)


@pytest.mark.parametrize("source", ["data", "v", "flow", "precond"])
def test_other_predictions_do(source: str):
    rule = conversion(source, "data", Flow(), 1.0, source_sigma_data=SIGMA_DATA)
    assert torch.isfinite(rule.on_x) and torch.isfinite(rule.on_output)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_reparametrized_there_and_back(prediction: str):
    target = Gaussian([0.5, -1.0], [0.3, 2.0], schedules.VP())
    model = Reparametrized(Reparametrized(target, prediction, SIGMA_DATA), "data")
    x = torch.tensor([[0.2, 1.0], [-3.0, 0.1]], dtype=torch.float64)
    assert model.schedule is target.schedule and model.prediction == "data"
    for t in (0.05, 0.5, 0.95):
        torch.testing.assert_close(model(x, t), target(x, t), rtol=1e-9, atol=1e-11)


def test_unknown_prediction_tells_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown prediction 'epsilon'"):
        predictions.check("epsilon")
    with pytest.raises(ValueError, match=r"Unknown prediction 'scor'; nearest: \['score'"):
        conversion("scor", "data", Flow(), 0.5)
    with pytest.raises(ValueError, match="Unknown prediction 'mean'"):
        Reparametrized(Gaussian([0.0], 1.0, Flow()), "mean")


@pytest.mark.parametrize("sigma_data", [None, 0.0, -0.5])
def test_precond_needs_sigma_data(sigma_data: float | None):
    with pytest.raises(
        ValueError, match=rf"'precond' needs the network's own sigma_data > 0, got {sigma_data}"
    ):
        predictions.check("precond", sigma_data)
