"""How a run follows its step control: every step from the error of this step and of the one before,
the first σ, and the most evaluations.
"""

from itertools import pairwise

import pytest
from toy_models import mixture

import expint
from expint import Adaptive, reverse_sde
from expint.adaptive import StepControl, get_pair
from expint.noise import BrownianPath
from expint.schedules import VP, Flow

TOL = {"rtol": 0.05, "atol": 0.05}


@pytest.mark.parametrize(
    ("name", "ell", "power"),
    [
        ("seeds-12", 1.0, 1.5),
        ("seeds-23", 1.0, 1.5),
        ("seeds-12", 0.0, 2.0),
        ("seeds-23", 0.0, 3.0),
    ],
)
def test_each_step_follows_from_the_errors_of_two(name: str, ell: float, power: float):
    """h_(k+1)/h_k = clip(0.6 E_k^(−0.7/p) E_(k−1)^(0.4/p)) in a run without a rejected step, p the
    power of h in the error: with noise 3/2."""
    schedule, pair = VP(), get_pair(name)
    steps = Adaptive(rtol=0.3, atol=0.3, safety=0.6)
    path = BrownianPath(range(2), resolution=64) if ell else None
    options = {"ell": ell, "noise": path, "final": "none", "progress": False}
    expint.sample(mixture(schedule), (2, 2), name, steps=steps, **options)
    report = steps.report
    assert report is not None and report.rejected == 0 and report.accepted > 8
    h = reverse_sde(schedule, pair.high.form, ell).clock(report.times).diff().tolist()
    before = 1.0
    for k, error in enumerate(report.errors[:-2]):
        change = 0.6 * error ** (-0.7 / power) * before ** (0.4 / power)
        assert h[k + 1] / h[k] == pytest.approx(min(max(change, 0.2), 5.0), rel=1e-6)
        before = max(error, 1e-4)
    assert len({round(b / a, 6) for a, b in pairwise(h)}) > 4


@pytest.mark.parametrize(("rtol", "sigma"), [(1e-3, 80.0), (1e-5, 1e5**0.5), (0.0, 1e6)])
def test_the_first_sigma_follows_the_tolerance(rtol: float, sigma: float):
    """The step from σ = ∞ leaves a relative error of 1/σ² for data of unit variance: below rtol."""
    steps = Adaptive(rtol=rtol, atol=1.0, first_step=1.0)
    expint.sample(mixture(Flow()), (2, 2), "seeds-12", steps=steps, progress=False)
    assert steps.report is not None
    assert Flow().sigma(float(steps.report.times[1])) == pytest.approx(sigma, rel=1e-9)


@pytest.mark.parametrize("final", ["denoise", "none"])
def test_the_most_evaluations_may_all_be_used(final: str):
    settings = {"final": final, "progress": False, "ell": 0.0}
    free = Adaptive(**TOL)
    expint.sample(mixture(VP()), (2, 2), "seeds-12", steps=free, **settings)
    assert free.report is not None
    count = free.report.nfe
    enough, short = (Adaptive(**TOL, max_nfe=n) for n in (count, count - 1))
    expint.sample(mixture(VP()), (2, 2), "seeds-12", steps=enough, **settings)
    assert enough.report is not None and enough.report.nfe == count
    with pytest.raises(RuntimeError, match=f"max_nfe={count - 1} network evaluations do not"):
        expint.sample(mixture(VP()), (2, 2), "seeds-12", steps=short, **settings)


def test_the_error_before_is_that_of_the_last_accepted_step(monkeypatch: pytest.MonkeyPatch):
    """In a run with rejected steps, whose errors the control is to forget."""
    asked: list[tuple[float, float]] = []
    factor = StepControl.factor

    def spy(self: StepControl, error: float, before: float, power: float) -> float:
        asked.append((error, before))
        return factor(self, error, before, power)

    monkeypatch.setattr(StepControl, "factor", spy)
    steps = Adaptive(**TOL, first_step=1.0, safety=0.99)
    expint.sample(mixture(VP()), (4, 2), "seeds-12", steps=steps, final="none", progress=False)
    assert steps.report is not None and steps.report.rejected > 5
    accepted = 1.0
    for error, before in asked:
        assert before == accepted
        accepted = error if error <= 1.0 else accepted


def test_a_vanishing_error_counts_as_a_ten_thousandth():
    control = StepControl(integral=0.3, proportional=0.4)
    expected = [0.9 * 0.25**-0.35 * least**0.2 for least in (1e-4, 1e-4, 2e-4)]
    found = [control.factor(0.25, before, 2.0) for before in (0.0, 1e-5, 2e-4)]
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_first_sigma_is_above_the_data_end():
    schedule = Flow(t_min=100 / 101)  # σ = 100
    steps = Adaptive(**TOL)
    expint.sample(mixture(schedule), (2, 2), "seeds-12", steps=steps, progress=False)
    assert steps.report is not None
    assert schedule.sigma(float(steps.report.times[1])) == pytest.approx(200.0, rel=1e-9)
