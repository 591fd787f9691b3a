"""The noise of a sampler that leads to a given image: `expint.invert` in k-diffusion's terms."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.k_diffusion.sampling import KDiffusionModel
from expint.equations.given_ell import root_of
from expint.guards.arguments import checked
from expint.noise import Replay
from expint.solvers.registry import Solver
from expint.transitions import invert


@checked
def invert_expint(
    model: Callable[..., Tensor],
    image: Tensor,
    sigmas: Tensor | Sequence[float],
    extra_args: Mapping[str, Any] | None = None,
    *,
    solver: Solver = "seeds-ab2",
    eta: float | Sequence[float] | None = None,
    flow: bool | None = None,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    independent: bool = False,
) -> tuple[Tensor, Replay]:
    """A state at sigmas[0] and the noise with which `sample_expint` returns an image: with the same
    model, sigmas, solver and eta and noise_sampler=noise it is the image, to rounding; with another
    prompt in extra_args, an edit of it.

    Args:
        model, extra_args, solver, eta, flow: as for `sample_expint`.
        image: shape (batch, *event), float32 or float64, taken for a state at the last level.
        sigmas: falling levels, of which the last is above 0.
        seed, seeds, independent: as for `expint.invert`.

    Returns:
        The state, and a noise source.

    Raises:
        TypeError, ValueError, RuntimeError: as `expint.invert` does; before the first evaluation
            for levels that end at 0.

    Example:
        >>> import torch
        >>> from diffusion_adapters.k_diffusion import sample_expint
        >>> denoise = lambda x, sigma: x / (1 + sigma[:, None] ** 2)
        >>> image, sigmas = torch.ones(2, 3), torch.tensor([10.0, 1.0, 0.1])
        >>> x, noise = invert_expint(denoise, image, sigmas, seed=0)
        >>> again = sample_expint(denoise, x, sigmas, solver="seeds-ab2", noise_sampler=noise)
        >>> torch.allclose(again, image, atol=1e-4)
        True
    """
    denoiser = KDiffusionModel(model, extra_args, flow)
    levels = torch.as_tensor(sigmas, dtype=torch.float64)
    if not float(levels[-1]) > 0.0:
        raise ValueError(
            "The last of the sigmas must be above 0: a step to 0 gives a denoised estimate without "
            f"noise to solve for; got {levels[-1].item():.9g}. Leave it out."
        )
    options = {"grid": levels, "ell": root_of(eta)}
    return invert(
        denoiser, image, solver, seed=seed, seeds=seeds, independent=independent, **options
    )
