"""The shipped network of critically-damped Langevin diffusion."""

from typing import Any

import torch
from torch import Tensor, nn

from diffusion_adapters.checkpoints.published import preconditioned
from diffusion_adapters.shipped.unet import UNet
from expint.schedules import CLD


class CLDNetwork(nn.Module):
    """A network in CLD-SGM's convention: `net(u, t)`, u of 2C channels, the images and after them
    their velocities, returns what its mixed score adds to the noise of the velocity.

    Given x_0 both are Gaussian, u = m x_0 + L ε with L Lᵀ = Σ, and all that they say of x_0 is in
    one combination, y = mᵀ Σ⁻¹ u / (mᵀ Σ⁻¹ m) = x_0 + σ z with 1/σ² = mᵀ Σ⁻¹ m. So inside, the
    U-Net denoises y with EDM's preconditioning, and ε_v follows from its x_0.

    Args:
        sigma_data: standard deviation of the training images' pixels.
        beta, M, gamma: of `expint.schedules.CLD`.
        architecture: passed to `UNet`: img_channels, img_resolution and its further arguments.

    Source: Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.2 and appendix B.
    """

    label_dim = 0

    def __init__(
        self,
        sigma_data: float,
        beta: float = 4.0,
        M: float = 0.25,
        gamma: float = 0.04,
        **architecture: Any,
    ) -> None:
        super().__init__()
        self.unet = UNet(**architecture)
        self.sigma_data, self.process = sigma_data, CLD(beta, M, gamma)

    def forward(self, u: Tensor, t: Tensor | float) -> Tensor:
        """Predict α' = ε_v − L_vv v/Σ_vv at u = m x_0 + L ε.

        Args:
            u: (B, 2 img_channels, img_resolution, img_resolution), floating.
            t: time(s), scalar or (B,), in (0, 1].

        Returns:
            The expected α', shape (B, img_channels, img_resolution, img_resolution), in the dtype
            of `u`. The score of the velocity is −ε_v/L_vv.
        """
        wide = u.to(torch.promote_types(u.dtype, torch.float32))  # half types do not hold 1/L
        times = torch.as_tensor(t, dtype=torch.float64, device=u.device).reshape(-1).expand(len(u))
        mean, covariance = self.process.kernel(times)
        gain, root = torch.linalg.solve(covariance, mean), torch.linalg.cholesky(covariance)
        precision = (gain * mean).sum(1)
        y = _mixed(gain / precision[:, None], wide)
        clean = preconditioned(self.unet, y, precision.rsqrt(), self.sigma_data, None)
        row = torch.linalg.inv(root)[:, 1]
        noise = _mixed(row, wide - torch.cat([_on(mean[:, i], clean) for i in (0, 1)], 1))
        mixed = _on(root[:, 1, 1] / covariance[:, 1, 1], wide.chunk(2, dim=1)[1])
        return (noise - mixed).to(u.dtype)


def _on(value: Tensor, x: Tensor) -> Tensor:
    """A number per image times the images."""
    return value.to(x.dtype)[:, None, None, None] * x


def _mixed(weights: Tensor, u: Tensor) -> Tensor:
    """A combination of the images and their velocities, with weights of shape (B, 2)."""
    x, v = u.chunk(2, dim=1)
    return _on(weights[:, 0], x) + _on(weights[:, 1], v)
