"""`expint.execute`: what is warned about before a plan of one's own is run."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from expint import SemiLinearSDE, begin_sampling, compile_plan, execute, noise, reverse_sde, sample
from expint.guards.start import check_scale
from expint.schedules import EDM, VP, Discrete
from expint.soundness import PlanWarning
from expint.targets import Gaussian, GaussianMixture

TARGET = Gaussian([1.0], [0.25], EDM())
PLAN = compile_plan(reverse_sde(EDM(), "data", 0.0), "unipc-2", [80.0, 20.0, 5.0, 1.0, 0.1])


def normals(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_plan_that_cannot_be_good_is_told_once():
    plan = compile_plan(reverse_sde(EDM(), "noise", 1.0), "seeds-3", [80.0, 1.0, 0.002])
    with pytest.warns(PlanWarning, match=r"'seeds-3' with 2 steps .* cannot be good") as caught:
        execute(plan, TARGET, 80.0 * normals(4, 1), noise.Gaussian(range(4)))
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        execute(plan, TARGET, 80.0 * normals(4, 1), noise.Gaussian(range(4)))


@pytest.mark.parametrize("n", [6, 16, 200])
def test_states_of_another_scale(n: int):
    """Standard normals in place of 80 times them: few entries tell."""
    with pytest.warns(UserWarning, match="noise alone has 80") as caught:
        execute(PLAN, TARGET, normals(n, 1))
    assert [warning.filename for warning in caught] == [__file__]
    execute(PLAN, TARGET, 80.0 * normals(n, 1))


def test_states_of_the_right_scale_are_not():
    """n normals are small by chance: the bound has a probability below e^−15 for each n."""
    for n in (1, 2, 3, 5, 10, 30):
        for x in normals(3_000, n):
            check_scale(80.0 * x, EDM(), 80.0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pure_noise_where_there_is_none(share: float):
    """Noise levels as times of a table, with standard normals: t = 80 of 1000 is σ = 0.275."""
    model = Gaussian([0.0], [0.25], Discrete())
    t = 80.0
    image = torch.linspace(-1.0, 1.0, 32).expand(2, 1, 32, 32)
    alpha, std = model.schedule.alpha(t), model.schedule.std(t)
    x = share * alpha * image + (std if share else 1.0) * normals(2, 1, 32, 32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_scale(x, model.schedule, t)
        check_scale(x, model.schedule, 900.0)
    told = [str(warning.message) for warning in caught]
    assert len(told) == (share == 0.0)
    assert not told or ("sigma is only 0.275" in told[0] and "t_of_sigma(levels)" in told[0])


class Own(nn.Module):
    """A network with a schedule and a prediction: a model without an adapter."""

    schedule, prediction = VP(), "noise"

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.module(x)


@pytest.mark.parametrize("module", [nn.Dropout(0.5), nn.BatchNorm1d(2)])
@pytest.mark.parametrize("call", ["sample", "begin", "execute", "wrapped"])
def test_a_network_of_ones_own_in_train_mode(call: str, module: nn.Module):
    from diffusion_adapters.guidance.constraints import threshold

    model = Own(module).train()
    grid = torch.linspace(1.0, 0.001, 100)
    plan = compile_plan(reverse_sde(VP(), "data", 0.0), "ddim", grid)
    calls: dict[str, Any] = {
        "sample": lambda: sample(model, (3, 2), steps=5, progress=False),
        "begin": lambda: begin_sampling(model, (3, 2), steps=5),
        "execute": lambda: execute(plan, model, normals(3, 2)),
        "wrapped": lambda: sample(threshold(model), (3, 2), steps=5, progress=False),
    }
    with pytest.warns(UserWarning, match=r"Own is in train mode.*\.eval\(\)") as caught:
        calls[call]()
    assert [warning.filename for warning in caught] == [__file__]
    model.eval()
    calls[call]()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": "seeds-3"}, "plan is a Plan, from compile_plan or plan_sampling, got 'seeds-3'"),
        ({"model": None}, r"The model is called as model\(x, t\), got None"),
        ({"noise": 3}, "noise is a noise source such as"),
        ({"noise": noise.Gaussian}, "noise is a noise source such as"),
        ({"callback": 3}, "callback is called as callback"),
    ],
)
def test_arguments_of_another_kind(change: dict[str, Any], message: str):
    arguments: dict[str, Any] = {"plan": PLAN, "model": TARGET, "x": 80.0 * normals(4, 1)}
    with pytest.raises(TypeError, match=message):
        execute(**(arguments | change))


def test_a_diagonal_of_another_event():
    """The state would be enlarged."""
    sde = SemiLinearSDE.from_coefficients(torch.tensor([-1.0, -2.0, -3.0]), span=(0.0, 1.0))
    plan = compile_plan(sde, "seeds-1", [0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="does not broadcast against the event of the state"):
        execute(plan, lambda x, t: x, torch.ones(2, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    "target",
    [
        Gaussian([1.0, 0.0], 0.25, EDM()),
        GaussianMixture([[1.0, 0.0], [0.0, 1.0]], 0.5, None, EDM()),
    ],
)
def test_targets_of_another_event(target: Any):
    with pytest.raises(ValueError, match=r"events of shape \(2,\).* got \(4, 3\)"):
        sample(target, (4, 3), progress=False)
