"""Noise levels that repeat, and levels that rise: the ODE from an image back to its noise, which
ComfyUI's FlipSigmas asks for.

With the roles of data and noise exchanged it is a sampling run again. For x = x₀ + σ ε the state
x/σ = ε + x₀/σ has the data ε and the level 1/σ, which falls; for a flow, x = (1 − t) x₀ + t ε has
the data ε at the time 1 − t. The model's estimate of the data is then ε̂ = (x − α D)/σ̄, and all
solvers serve.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64
from expint.schedules import Flow


def distinct_levels(sigmas: Tensor) -> tuple[list[int], Tensor]:
    """The levels without repeats, and their places among those given.

    Raises:
        ValueError: if `sigmas` is not 1-D.
    """
    if sigmas.ndim != 1:
        raise ValueError(f"sigmas has shape (steps + 1,), got shape {tuple(sigmas.shape)}.")
    later = (torch.nonzero(as_float64(sigmas).diff())[:, 0] + 1).tolist()
    places = [0, *later] if len(sigmas) else []
    return places, sigmas.detach()[places]


class Exchanged:
    """A denoiser as that of the noise.

    Args:
        model: model(x, sigma, **extra_args) → denoised.
        flow: whether x = (1 − σ) x₀ + σ ε.
    """

    def __init__(self, model: Callable[..., Tensor], flow: bool) -> None:
        self.model, self.flow = model, flow
        self.denoised: Tensor | None = None

    def level(self, sigma: Tensor) -> Tensor:
        """The level of the exchanged problem; the same function leads back."""
        return 1.0 - sigma if self.flow else 1.0 / sigma

    def scale(self, sigma: Tensor) -> Tensor:
        """x per unit of the exchanged state."""
        return torch.ones_like(sigma) if self.flow else sigma

    def __call__(self, y: Tensor, level: Tensor, **extra_args: Any) -> Tensor:
        sigma = self.level(level)
        wide = sigma.reshape(-1, *[1] * (y.ndim - 1))
        x = self.scale(wide) * y
        self.denoised = self.model(x, sigma, **extra_args)
        return (x - (1.0 - wide if self.flow else 1.0) * self.denoised) / wide


def unsample(
    sample: Callable[..., Tensor],
    denoiser: Any,
    x: Tensor,
    sigmas: Tensor,
    callback: Callable[[dict[str, Any]], Any] | None,
    **settings: Any,
) -> Tensor:
    """The state at the last of rising levels, along the ODE.

    Args:
        sample: `sample_expint`.
        denoiser: the `KDiffusionModel`.
        x, sigmas, callback, settings: of the call.

    Raises:
        ValueError: for a first level 0, where the noise is not determined; for a solver that adds
            noise.
    """
    flow = isinstance(denoiser.schedule, Flow)
    exact, turned = sigmas.double(), Exchanged(denoiser.model, flow)
    if exact[0] <= 0.0:
        raise ValueError(
            "Rising sigmas lead from an image to its noise and begin above 0, where the model is "
            f"asked first; got sigmas[0] = {exact[0].item():.9g}: begin at 1e-4, as FlipSigmas."
        )

    def refuse(*interval: Any) -> Tensor:
        raise ValueError("Rising sigmas follow the ODE: take a solver that adds no noise itself.")

    def told(about: dict[str, Any]) -> None:
        if callback is not None:
            sigma = sigmas[about["i"]]
            state = about["x"] * turned.scale(sigma)
            seen = {"x": state, "sigma": sigma, "sigma_hat": sigma, "denoised": turned.denoised}
            callback(about | seen)

    first, last = (turned.scale(exact[i]).to(x.device, x.dtype) for i in (0, -1))
    settings |= {"eta": 0.0, "noise_sampler": refuse, "flow": flow, "callback": told}
    levels = turned.level(exact)
    return last * sample(turned, x / first, levels, denoiser.extra_args, **settings)
