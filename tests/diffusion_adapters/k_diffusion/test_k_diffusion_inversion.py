"""`invert_expint`: the noise of a sampler that leads to a given image."""

from typing import Any

import pytest
import torch

from diffusion_adapters.k_diffusion import invert_expint, sample_expint
from expint.schedules import EDM, Flow
from expint.targets import GaussianMixture

IMAGE = torch.linspace(-1.2, 1.2, 6, dtype=torch.float64).reshape(3, 2)


def denoiser(flow: bool, shift: float = 0.0) -> Any:
    schedule = Flow() if flow else EDM()
    target = GaussianMixture([[-1.0 + shift, 0.5], [1.0, shift]], 0.4, None, schedule)
    return lambda x, sigma, **_: target(x, sigma[0].double())


@pytest.mark.parametrize("flow", [False, True], ids=["edm", "flow"])
@pytest.mark.parametrize(
    ("solver", "eta"), [("seeds-ab2", 1.0), ("seeds-2", [0.5, 1.0, 0.25]), ("sa-solver", None)]
)
def test_the_image_comes_back_and_another_model_edits_it(flow: bool, solver: str, eta: Any):
    levels = [0.9, 0.6, 0.3, 0.05] if flow else [10.0, 2.0, 0.5, 0.05]
    sigmas = torch.tensor(levels, dtype=torch.float64)
    settings: dict[str, Any] = {"solver": solver, "eta": eta, "flow": flow}
    x, noise = invert_expint(denoiser(flow), IMAGE, sigmas, seed=4, **settings)
    settings |= {"noise_sampler": noise, "disable": True}
    back = sample_expint(denoiser(flow), x, sigmas, **settings)
    assert torch.allclose(back, IMAGE, rtol=0, atol=1e-11)
    edited = sample_expint(denoiser(flow, 0.3), x, sigmas, **settings)
    assert 1e-3 < (edited - IMAGE).abs().max() < 2.0


def test_what_has_no_noise_is_refused():
    def untouched(x: Any, sigma: Any) -> Any:
        raise AssertionError("called")

    with pytest.raises(ValueError, match=r"must be above 0.*got 0. Leave it out"):
        invert_expint(untouched, IMAGE, [10.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="adds no noise"):
        invert_expint(untouched, IMAGE, [10.0, 1.0, 0.1], eta=0.0)
    with pytest.raises(TypeError, match="image must be a tensor"):
        invert_expint(untouched, [1.0], [10.0, 1.0])  # pyright: ignore[reportArgumentType]
