"""The adapter of critically-damped Langevin diffusion: each output of a network that knows the law
becomes its denoiser, and the shipped network's class keeps the authors' convention."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import expint
from diffusion_adapters import CLDAdapter, EDMAdapter, load
from diffusion_adapters.shipped.phase_space_network import CLDNetwork
from expint import schedules, targets
from expint.phase_space import Mixture
from expint.schedules import CLD

CRITICAL = CLD(3.0, 0.4, 0.1)
MEANS = [[-1.0, 0.2], [0.8, 0.6], [0.3, -0.9]]
TARGET = Mixture(MEANS, 0.3, CRITICAL)


def scores(u: Tensor, t: Tensor) -> Tensor:
    """Of the velocity, from the log density of the mixture by autograd; u of shape (batch, 4), the
    two positions before the two velocities."""
    mean, covariance = TARGET.law(t[0])
    with torch.enable_grad():
        leaf = u.detach().double().requires_grad_(True)
        parts = []
        for centre in torch.tensor(MEANS, dtype=torch.float64):
            pairs = leaf.unflatten(1, (2, 2)) - mean[:, None] * centre
            parts.append(-0.5 * (pairs * torch.linalg.solve(covariance, pairs)).sum((1, 2)))
        density = torch.logsumexp(torch.stack(parts), 0).sum()
        (found,) = torch.autograd.grad(density, leaf)
    return found[:, 2:]


def network(output: str) -> Any:
    """In the authors' convention: S_v = −v/Σ_vv − net/L_vv, or without its mixed part."""

    def net(u: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(u),)
        time, score = t[:1].double(), scores(u, t.double())
        if output == "data":
            return TARGET(u.unflatten(1, (2, 2)), time[0])[:, 0]
        _, covariance = CRITICAL.kernel(time[0])
        noise_multiplier = -1.0 / torch.linalg.cholesky(covariance)[1, 1]
        mixed = score + u[:, 2:] / covariance[1, 1]
        return {
            "score": score,
            "noise": score / noise_multiplier,
            "mixed": mixed / noise_multiplier,
        }[output]

    return net


@pytest.mark.parametrize("output", ["mixed", "noise", "score", "data"])
@pytest.mark.parametrize("t", [0.01, 0.2, 1.0])
def test_every_output_becomes_the_denoiser(output: str, t: float):
    u = TARGET.start(5, seed=1, t=t)
    model = CLDAdapter(network(output), CRITICAL, output=output)
    torch.testing.assert_close(model(u, t), TARGET(u, t), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("t", [0.01, 0.2, 1.0])
def test_position_and_velocity_say_of_the_data_what_one_combination_says(t: float):
    """The denoiser in phase space is that of y = x_0 + σ z, of any other family."""
    u, (mean, covariance) = TARGET.start(5, seed=1, t=t), CRITICAL.kernel(t)
    gain = torch.linalg.solve(covariance, mean)
    y = torch.einsum("i,bid->bd", gain, u) / (gain @ mean)
    scalar = targets.GaussianMixture(MEANS, 0.3, [1 / 3] * 3, schedules.EDM(sigma_max=1e4))
    found = scalar(y, (gain @ mean).rsqrt())
    torch.testing.assert_close(found, TARGET(u, t)[:, 0], rtol=1e-9, atol=1e-12)


def untrained() -> CLDNetwork:
    return CLDNetwork(0.7, img_channels=2, img_resolution=4, channels=8, multipliers=[1, 2])


@pytest.mark.parametrize("t", [1e-3, 0.05, 0.3, 1.0])
def test_the_untrained_network_denoises_gaussian_data(t: float):
    """Its U-Net is 0 at first, and its preconditioning is exact for data N(0, sigma_data²)."""
    target = Mixture(torch.zeros(1, 32), 0.7, CLD())
    u = target.start(6, seed=2, t=t)
    found = CLDAdapter(untrained().double())(u.unflatten(2, (2, 4, 4)), t)
    torch.testing.assert_close(found.flatten(2), target(u, t), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("t", [5e-3, 0.05, 0.3])
def test_networks_in_half_precision(t: float):
    """At t = 0.005 an entry of 1/L is 300, and 1/L · u would be rounded to 0.25."""
    target = Mixture(torch.zeros(1, 32), 0.7, CLD())
    u = target.start(6, seed=2, t=t)
    found = CLDAdapter(untrained()).half()(u.float().unflatten(2, (2, 4, 4)), t)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.flatten(2).double(), target(u, t), rtol=0, atol=0.02)


def test_the_loss_of_the_training_script_is_one_on_gaussian_data(monkeypatch: pytest.MonkeyPatch):
    """Its weight is the inverse posterior variance. The mean of 65,536 squares of normals has a
    standard deviation of 0.0055, and 5 of them are 0.028."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "examples")
    sys.modules.pop("training_losses", None)
    import training_losses as losses  # pyright: ignore[reportMissingImports]

    generator = torch.Generator().manual_seed(0)
    x = 0.7 * torch.randn(2048, 2, 4, 4, generator=generator)
    with torch.no_grad():
        loss = losses.cld_loss(untrained(), x, torch.zeros(2048), generator)
    assert abs(loss - 1.0) < 0.028


def test_what_is_not_of_the_family_is_refused():
    net = network("mixed")
    with pytest.raises(TypeError, match=r"schedule"):
        CLDAdapter(net, schedules.VP())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"output must be one of .*'mixed'.*got 'v'"):
        CLDAdapter(net, output="v")
    with pytest.raises(TypeError, match="got CLD"):
        EDMAdapter(lambda x, sigma, class_labels: x, CLD())  # pyright: ignore
    with pytest.raises(TypeError, match="too many positional"):
        CLDAdapter(lambda u: u)


def test_conditioning_and_dtype_reach_the_network():
    seen = []

    def net(u: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.append((u.shape, u.dtype, y.tolist()))
        return u[:, :3]

    model = CLDAdapter(net, condition={"y": torch.arange(2)})
    assert model(torch.zeros(2, 2, 3, 4, 4), 0.5).shape == (2, 1, 3, 4, 4)
    assert seen == [((2, 6, 4, 4), torch.float32, [0, 1])]


def test_a_network_may_change_its_input():
    model = load("digits-cld")

    def changing(u, t):
        found = model.network(u.clone(), t)
        u.zero_()
        return found

    own, other = (
        expint.sample(one, (2, 1, 8, 8), nfe=4, seed=1, progress=False)
        for one in (model, CLDAdapter(changing, model.schedule))
    )
    assert torch.equal(own, other)
