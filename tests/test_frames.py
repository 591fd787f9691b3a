"""Frames: random rotations are uniform, the sampler of structures is the published one, and nothing
else of a run changes."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_models import FunctionModel, forbidden

import expint
from expint import RandomFrames
from expint.noise import Replay, per_sample
from expint.plans import step_scaled
from expint.schedules import EDM
from expint.solvers.steady_churn import steady_churn

GRID = [80.0, 20.0, 5.0, 1.0, 0.3, 0.05, 0.0]
SHAPE = (3, 5, 3)


def equivariant(x: Tensor, t: Any) -> Tensor:
    """Points that go to their neighbours: it turns and moves with them."""
    weights = torch.softmax(-(torch.cdist(x, x) ** 2) / (2.0 + 4.0 * float(t) ** 2), dim=-1)
    return 0.8 * weights @ x + 0.2 * x


def bound_to_its_axes(x: Tensor, t: Any) -> Tensor:
    return torch.sin(1.3 * x + 0.4) * torch.tensor([1.0, 0.3, 2.0], dtype=x.dtype)


def model(function: Callable[[Tensor, Any], Tensor]) -> FunctionModel:
    return FunctionModel(EDM(), "data", function)


def published() -> Any:
    """The plan of AlphaFold 3's sampler, on a short grid."""
    plan = expint.plan_sampling(
        EDM(), "seeds-1", grid=GRID, form="sigma", ell=0.0, operations=[steady_churn()]
    )
    return step_scaled(plan, 1.5)


def given() -> tuple[Tensor, Tensor]:
    numbers = torch.arange(3 * 45, dtype=torch.float64).mul(1.7).sin().reshape(3, *SHAPE)
    return 100.0 * numbers[0], 1.5 * numbers[1:]


def test_rotations_are_uniform():
    """Of 20,000 all are rotations, and within 5 standard errors E R = 0, E R_ij R_kl = δ_ik δ_jl/3,
    E (tr R)² = 1: for angles that are uniform in place of the rotations E R_33² is 1/2."""
    n = 20_000
    rotation, shift = RandomFrames(per_sample(3, n), translation=2.0).of_step(4)
    one = torch.eye(3, dtype=torch.float64)
    assert (rotation @ rotation.mT - one).abs().max() < 1e-12
    assert (torch.linalg.det(rotation) - 1.0).abs().max() < 1e-12
    flat = rotation.flatten(1)
    assert flat.mean(0).abs().max() < 5.0 * (1 / 3 / n) ** 0.5
    moments = flat.T @ flat / n - torch.eye(9, dtype=torch.float64) / 3.0
    assert moments.abs().max() < 5.0 * (0.2 / n) ** 0.5  # E R_ij⁴ = 1/5
    trace = flat[:, ::4].sum(1)
    assert abs((trace**2).mean().item() - 1.0) < 5.0 * (2.0 / n) ** 0.5  # E (tr R)⁴ = 3
    assert (shift.std(0) / 2.0 - 1.0).abs().max() < 5.0 / (2 * n) ** 0.5
    assert (flat.T @ shift / n).abs().max() < 5.0 * (4 / 3 / n) ** 0.5


def test_a_frame_is_a_function_of_its_seed_and_step():
    x = given()[0]
    seeds = per_sample(7, 3)
    frames = RandomFrames(seeds)
    assert torch.equal(frames(2, x), RandomFrames(seeds)(2, x))
    assert torch.equal(frames(2, x)[1:], RandomFrames(seeds[1:])(2, x[1:]))
    assert not torch.allclose(frames(2, x), frames(3, x))
    assert not torch.allclose(frames.of_step(2)[0][0], frames.of_step(2)[0][1])
    # Centred, but for the translation; of the points that a mask leaves.
    assert torch.allclose(frames(2, x).mean(1), frames.of_step(2)[1], atol=1e-12)
    mask = torch.tensor([True, True, False, False, True])
    masked = RandomFrames(seeds, translation=0.0, mask=mask)(2, x)
    assert masked[:, mask].mean(1).abs().max() < 1e-12 < masked.mean(1).abs().max()
    assert torch.allclose(torch.cdist(masked, masked), torch.cdist(x, x), rtol=1e-12)


def test_the_sampler_of_structures_with_its_frames():
    """Algorithms 18 and 19 of AlphaFold 3, with a denoiser that is bound to its axes."""
    frames, (x, z) = RandomFrames(range(3)), given()
    network = model(bound_to_its_axes)
    options: Any = {"plan": published(), "noise": Replay(z), "progress": False}
    got = expint.sample(network, x, frame=frames, **options)
    plain, noises = expint.sample(network, x, **options), iter(z)
    for step, (before, level) in enumerate(pairwise(GRID)):
        rotation, shift = frames.of_step(step)
        centred = x - x.mean(1, keepdim=True)
        x = torch.einsum("bij,bnj->bni", rotation, centred) + shift[:, None]
        gamma = 0.8 if level > 1.0 else 0.0
        hat = before * (gamma + 1.0)
        if gamma:
            x = x + 1.003 * (hat**2 - before**2) ** 0.5 * next(noises)
        delta = (x - bound_to_its_axes(x, hat)) / hat
        x = x + 1.5 * (level - hat) * delta
    assert torch.allclose(got, x, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(got, plain, rtol=1e-2)


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "heun"])
def test_an_equivariant_denoiser_gives_the_sample_turned_and_moved(solver: str):
    """Without noise, after which the frames differ: the same structure."""
    x, seen = given()[0], list[Tensor]()
    options: Any = {"steps": 6, "ell": 0.0, "progress": False}
    plain = expint.sample(model(equivariant), x, solver, **options)
    framed = expint.sample(
        model(equivariant), x, solver, frame=RandomFrames(range(3)),
        callback=lambda *step: seen.append(step[3]), **options,
    )  # fmt: skip
    assert torch.allclose(torch.cdist(framed, framed), torch.cdist(plain, plain), rtol=1e-9)
    assert not torch.allclose(framed, plain, rtol=1e-2)
    _, last = RandomFrames(range(3)).of_step(5)
    assert torch.allclose(seen[-2].mean(1), last, atol=1e-9)  # in the frame of the last step
    other = expint.sample(model(bound_to_its_axes), x, solver, **options)
    turned = expint.sample(
        model(bound_to_its_axes), x, solver, frame=RandomFrames(range(3)), **options
    )
    assert not torch.allclose(torch.cdist(turned, turned), torch.cdist(other, other), rtol=1e-2)


def test_what_does_not_fit_is_refused_before_any_evaluation():
    never, frames = forbidden(EDM()), RandomFrames(range(3))
    flat, none = {"frame": lambda step, x: x[:, 0]}, {"frame": lambda step, x: None}
    adaptive = {"steps": expint.Adaptive()}
    for error, match, shape, solver, more in (
        (ValueError, "another frame: take a solver without a history", SHAPE, "seeds-ab2", {}),
        (ValueError, r"coordinates, .* got \(3, 5, 2\)", (3, 5, 2), "seeds-1", {}),
        (ValueError, "3 seeds came for a state", (2, 5, 3), "seeds-1", {}),
        (ValueError, r"for step 0 it gave \(3, 3\)", SHAPE, "seeds-1", flat),
        (ValueError, "for step 0 it gave None", SHAPE, "seeds-1", none),
        (TypeError, "Adaptive steps have no frames", SHAPE, None, adaptive),
    ):
        options: Any = {"steps": 4, "frame": frames, "progress": False} | more
        with pytest.raises(error, match=match):
            expint.sample(never, shape, solver, **options)
    with pytest.raises(ValueError, match="mask leaves no point"):
        RandomFrames(range(2), mask=torch.tensor([[True, False], [False, False]]))
    for wrong in (-1.0, float("inf"), "x"):
        with pytest.raises(ValueError, match="translation is finite and >= 0"):
            RandomFrames(range(2), translation=wrong)  # pyright: ignore[reportArgumentType]
