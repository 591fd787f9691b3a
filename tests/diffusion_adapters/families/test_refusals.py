"""Adapters refuse what would give wrong samples without a word: schedules of another family, tables
taken for continuous time, labels that half types round, networks in train mode.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import expint
from diffusion_adapters import EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter, from_edm
from expint import schedules


def two(x: Tensor, labels: Tensor) -> Tensor:
    return x * 0.5


def classed(x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
    return x * 0.5


class Table(nn.Module):
    """A network of DDPM: its timesteps are rows of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embedding = nn.Embedding(1000, 2)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x + self.time_embedding(labels)


class Hidden(Table):
    """The same, with nothing in its names that shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = self.time_embedding
        del self.time_embedding

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x + self.rows(labels)


class Indexed(nn.Module):
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x * torch.ones(1000)[labels][:, None]


class Counted(nn.Module):
    num_timesteps = 1000

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EDMAdapter(classed, schedules.VP()), "EDMAdapter .*alpha goes from"),
        (lambda: EDMAdapter(classed, schedules.Flow()), "EDMAdapter .*alpha goes from"),
        (lambda: EDMAdapter(classed, schedules.Discrete()), "EDMAdapter .*alpha goes from"),
        (lambda: VEAdapter(two, schedules.VP()), "VEAdapter .*alpha goes from"),
        (lambda: VPAdapter(two, schedules.EDM()), "variance-preserving"),
        (lambda: VPAdapter(two, schedules.VE()), "variance-preserving"),
        (lambda: VPAdapter(two, schedules.Flow()), "variance-preserving"),
        (lambda: VPAdapter(Table()), r"time_embedding = Embedding\(1000, 2\).*from_betas"),
        (lambda: VPAdapter(Table(), schedules.VP()), "time_embedding"),
        (lambda: VPAdapter(Counted()), "num_timesteps = 1000.*VP"),
        (lambda: EDMAdapter(two), r"net\(x, labels, class_labels=...\).*unexpected keyword"),
        (lambda: VPAdapter(two, condition={"y": None}), r"net\(x, labels, y=...\)"),
        (lambda: from_edm(Counted(), raw=True, sigma_data=0.5), "takes .x, labels"),
    ],
)
def test_what_is_of_another_family_is_refused(make: Any, message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: EDMAdapter(classed, schedules.VE()),
        lambda: VEAdapter(two, schedules.EDM()),
        lambda: VPAdapter(two, schedules.SubVP()),
        lambda: VPAdapter(Counted(), schedules.VP()),
        lambda: VPAdapter(Table(), schedules.Discrete()),
        lambda: VPAdapter(Hidden(), schedules.Discrete()),
        lambda: IDDPMAdapter(Table(), schedules.IDDPM()),
    ],
)
def test_what_fits_is_taken(make: Any):
    assert expint.sample(make(), (2, 2), "seeds-1", steps=3, progress=False).shape == (2, 2)


@pytest.mark.parametrize("network", [Hidden(), Indexed()])
@pytest.mark.parametrize(
    "adapter",
    [VPAdapter, lambda net: IDDPMAdapter(net, schedules.IDDPM(), timesteps="interpolate")],
)
def test_a_hidden_table_is_named_at_the_first_evaluation(network: nn.Module, adapter: Any):
    with pytest.raises(ValueError, match='timesteps="round"'):
        expint.sample(adapter(network), (2, 2), steps=3, progress=False)


@pytest.mark.parametrize("first", [1.0, 0.5, 0.9999])
def test_alphas_are_not_betas(first: float):
    betas = torch.linspace(1e-4, 0.02, 100, dtype=torch.float64)
    for values in ((1 - betas).cumprod(0) * first, 1 - betas):
        if values[0] > 0.5:
            with pytest.raises(ValueError, match="alphas_cumprod"):
                schedules.Discrete.from_betas(values)
    schedules.Discrete.from_betas(betas.flip(0))  # strange, but betas


class Seen(nn.Module):
    """Keeps its labels; a parameter in half precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.scale, self.labels = nn.Parameter(torch.ones((), dtype=dtype)), []

    def forward(self, x: Tensor, labels: Tensor, class_labels: Any = None) -> Tensor:
        assert x.dtype == self.scale.dtype
        self.labels.append(labels)
        return x * self.scale


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("adapter", [VPAdapter, VEAdapter, EDMAdapter])
def test_time_labels_stay_in_single_precision(adapter: Any, dtype: torch.dtype):
    """999 is 1000 in bfloat16 and 998.7 is 998.5 in float16."""
    network = Seen(dtype)
    model, t = adapter(network), 0.9997
    model(torch.zeros(2, 2, dtype=dtype), t)
    (labels,) = network.labels
    expected = 999 * t if adapter is VPAdapter else float(model.schedule.sigma(t))
    assert labels.dtype == torch.float32 and labels.shape == (2,)
    assert labels[0].item() == pytest.approx(expected, rel=1e-7)


def test_a_network_that_takes_labels_in_half_precision_only_is_told():
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(1, 2)

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            return x + self.linear(labels[:, None])

    model = VPAdapter(Embedded()).half()
    with pytest.raises(TypeError, match=r"mixes dtypes .*autocast"):
        expint.sample(model, (2, 2), steps=3, progress=False)


@pytest.mark.parametrize(
    ("module", "told"),
    [(nn.Dropout(0.1), True), (nn.BatchNorm1d(2), True), (nn.Dropout(0.0), False)],
)
def test_a_network_in_train_mode_is_told_once(module: nn.Module, told: bool):
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = module

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            return self.layer(x)

    model = VPAdapter(Noisy().train())
    if told:
        with pytest.warns(UserWarning, match=r"in train mode.*\.eval\(\)") as caught:
            expint.sample(model, (3, 2), steps=5, progress=False)
        assert len(caught) == 1
    else:
        expint.sample(model, (3, 2), steps=5, progress=False)
    expint.sample(VPAdapter(Noisy()).eval(), (3, 2), steps=5, progress=False)


@pytest.mark.parametrize(
    "labels",
    [torch.zeros(3), [0.0, 1.0, 2.0], torch.zeros(3).numpy(), {"a": [torch.zeros(3)]}, [0]],
)
def test_conditioning_of_another_batch_is_refused_before_the_network_is_called(labels: Any):
    def never(x: Tensor, ts: Tensor, y: Any) -> Tensor:
        raise AssertionError

    model = IDDPMAdapter(never, schedules.IDDPM(), condition={"y": labels})
    with pytest.raises(ValueError, match="rows for a batch of 2"):
        expint.sample(model, (2, 2), steps=3, progress=False)


def test_methods_of_a_module():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model = VPAdapter(lambda x, labels: x)
    for call in (model.eval, model.half, lambda: model.to("cpu")):
        with pytest.raises(
            TypeError, match=r"needs a model with a network that is a torch\.nn\.Module"
        ):
            call()
    assert list(model.parameters()) == []
    model.network = network
    assert model.eval() is model and not network[1].training
    assert model.train() is model and network[1].training
    assert model.half() is model and next(model.parameters()).dtype == torch.float16
    assert model.to("cpu", torch.float64).to(device="cpu").device == torch.device("cpu")
    assert next(model.parameters()).dtype == torch.float64


@pytest.mark.parametrize("place", ["cuda:77", "nowhere", "meta"])
def test_a_device_that_is_not_there(place: str):
    with pytest.raises(ValueError, match=f"Cannot use device='{place}'"):
        VPAdapter(Table(), schedules.Discrete()).to(place)


def test_compiled():
    """The checks do not keep torch.compile from the model."""
    model = VPAdapter(functional_network())
    whole = expint.sample(model, (2, 2), steps=3, progress=False)
    again = expint.sample(model, (2, 2), steps=3, progress=False, compile="eager")
    torch.testing.assert_close(whole, again)


def functional_network() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(2))

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            return functional.linear(x, self.weight) * 0.3

    return Net()


class Conditional(nn.Module):
    """A network of classes, which insists on them."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Embedding(3, 2)


class Required(Conditional):
    def forward(self, x: Tensor, ts: Tensor, y: Tensor) -> Tensor:
        return x + self.classes(y)


class Embedded(Conditional):
    def forward(self, x: Tensor, ts: Tensor, y: Tensor | None = None) -> Tensor:
        return x + self.classes(y)  # type: ignore[arg-type]


class Asserted(Conditional):
    def forward(self, x: Tensor, ts: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None, "must specify y if and only if the model is class-conditional"
        return x + self.classes(y)


X0, OPTIONS = torch.tensor([[0.5, -0.2], [0.1, 0.9]]), {"steps": 3, "progress": False}
ENTRANCES = {
    "sample": lambda model, rollout: expint.sample(model, (2, 2), **OPTIONS),
    "rollout": lambda model, rollout: expint.rollout(model, (2, 2), **OPTIONS),
    "log_prob": lambda model, rollout: expint.log_prob(model, rollout),
    "invert": lambda model, rollout: expint.invert(model, X0, steps=3),
    "encode": lambda model, rollout: expint.encode(model, X0, steps=3),
    "log_likelihood": lambda model, rollout: expint.log_likelihood(model, X0, steps=3),
    "bound": lambda model, rollout: expint.log_likelihood(model, X0, steps=3, bound=True),
    "particles": lambda model, rollout: expint.particles(
        model, (2, 2), lambda step, t, x, denoised: x[:, 0], **OPTIONS
    ),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", [Required, Embedded, Asserted])
def test_a_network_without_its_classes(kind: type[Conditional], entrance: str):
    """Of none, or of another number than there are samples, the first call of the network says it:
    no evaluation is made."""
    network, run = kind(), ENTRANCES[entrance]
    model = IDDPMAdapter(network, condition={"y": torch.tensor([0, 2])})
    rollout = expint.rollout(model, (2, 2), **OPTIONS)
    run(model, rollout)
    network.register_forward_hook(lambda *call: pytest.fail("An evaluation was made."))
    with pytest.raises(TypeError, match=rf"{kind.__name__} was called without y .*condition="):
        run(IDDPMAdapter(network), rollout)
    with pytest.raises(ValueError, match="'y' has 3 rows for a batch of 2"):
        run(IDDPMAdapter(network, condition={"y": torch.tensor([0, 2, 1])}), rollout)


def test_errors_of_a_network_itself_are_its_own():
    def broken(x: Tensor, ts: Tensor, y: None = None) -> Tensor:
        raise TypeError("of its own")

    with pytest.raises(TypeError, match=r"^of its own$"):
        expint.sample(IDDPMAdapter(broken), (2, 2), steps=3, progress=False)
