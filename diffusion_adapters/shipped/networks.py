"""The shipped networks: one U-Net under the calling conventions of four families.

Every class is called as networks of its family are called by the code that published them, so an
adapter that serves one of these serves those. Inside, each mixes its input into its output in the
way that keeps the U-Net's own task of unit size at every noise level; that is invisible from
outside.
"""

from typing import Any

import torch
from torch import Tensor, nn

from diffusion_adapters.checkpoints.published import preconditioned
from diffusion_adapters.shipped.unet import UNet
from expint.schedules import IDDPM, VP


def _per_image(value: Tensor | float, x: Tensor) -> Tensor:
    """A number or a (B,) tensor as a float64 (B,) tensor on the device of `x`."""
    return torch.as_tensor(value, dtype=torch.float64, device=x.device).reshape(-1).expand(len(x))


def _broadcast(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x.dtype)[:, None, None, None]


class _Network(nn.Module):
    """Owns the U-Net; families add the call."""

    def __init__(
        self, img_channels: int, img_resolution: int, outputs: int = 1, **architecture: Any
    ) -> None:
        super().__init__()
        self.unet = UNet(img_channels, img_resolution, outputs * img_channels, **architecture)
        self.img_channels, self.img_resolution = img_channels, img_resolution
        self.label_dim = self.unet.label_dim


class EDMNetwork(_Network):
    """A network in EDM's convention: `net(x, sigma, class_labels=None)` returns the denoised image.

    Args:
        sigma_data: standard deviation of the training images' pixels.
        sigma_min: smallest noise level that the network knows.
        sigma_max: largest noise level that the network knows.
        architecture: passed to `UNet`: img_channels, img_resolution and its further arguments.

    Source: Karras et al. 2022 (arXiv 2206.00364), eq. 7 and table 1.
    """

    def __init__(
        self,
        sigma_data: float,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        **architecture: Any,
    ) -> None:
        super().__init__(**architecture)
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max

    def forward(
        self, x: Tensor, sigma: Tensor | float, class_labels: Tensor | None = None
    ) -> Tensor:
        """Denoise `x = x_0 + sigma z`.

        Args:
            x: (B, img_channels, img_resolution, img_resolution), floating.
            sigma: noise level(s), scalar or (B,), in units of the data.
            class_labels: (B, label_dim), one-hot; None or zeros for the unconditional network.

        Returns:
            The expected clean image, in the shape and dtype of `x`.
        """
        return preconditioned(self.unet, x, _per_image(sigma, x), self.sigma_data, class_labels)


class VPNetwork(_Network):
    """A network in score_sde's continuous VP convention: `net(x, labels)` with labels = 999 t
    returns the noise.

    Args:
        beta_min: β at t = 0.
        beta_d: β at t = 1 less β at t = 0.
        architecture: passed to `UNet`: img_channels, img_resolution and its further arguments.

    Source: Song et al. 2021 (arXiv 2011.13456), section 3.4 and appendix C.
    """

    def __init__(self, beta_min: float = 0.1, beta_d: float = 19.9, **architecture: Any) -> None:
        super().__init__(**architecture)
        self.marginal = VP(beta_d=beta_d, beta_min=beta_min)

    def forward(self, x: Tensor, labels: Tensor | float) -> Tensor:
        """Predict the noise in `x = alpha x_0 + std eps`.

        Args:
            x: (B, img_channels, img_resolution, img_resolution), floating.
            labels: 999 t, scalar or (B,), with t in (0, 1].

        Returns:
            The expected noise, `-std * score`, in the shape and dtype of `x`.
        """
        t = _per_image(labels, x) / 999
        alpha, std = self.marginal.alpha(t), self.marginal.std(t)
        # eps = std x + alpha v: at t -> 1 the noise is nearly x itself, and what the U-Net adds is
        # of size alpha.
        return _broadcast(std, x) * x + _broadcast(alpha, x) * self.unet(x, t)


class VENetwork(_Network):
    """A network in score_sde's VE convention: `net(x, sigma)` returns the score.

    Args:
        sigma_min: smallest noise level that the network knows.
        sigma_max: largest noise level that the network knows.
        architecture: passed to `UNet`: img_channels, img_resolution and its further arguments.

    Source: Song et al. 2021 (arXiv 2011.13456), section 3.4 and appendix C.
    """

    def __init__(
        self, sigma_min: float = 0.01, sigma_max: float = 50.0, **architecture: Any
    ) -> None:
        super().__init__(**architecture)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """The score of the noised data at `x = x_0 + sigma z`.

        Args:
            x: (B, img_channels, img_resolution, img_resolution), floating.
            sigma: noise level(s), scalar or (B,), in units of the data; the network takes the
                logarithm.

        Returns:
            The gradient of the log-density, in the shape and dtype of `x`.
        """
        levels = _per_image(sigma, x)
        scale = (levels**2 + 1).rsqrt()
        scaled = _broadcast(scale, x) * x
        output = self.unet(scaled, levels.log() / 4)
        # sigma * score = -z: nearly -x/sigma at large sigma, so the U-Net adds only what is of size
        # 1/sigma.
        output = _broadcast(scale, x) * output - _broadcast(levels * scale, x) * scaled
        return output / _broadcast(levels, x)


class IDDPMNetwork(_Network):
    """A network in guided-diffusion's convention: `net(x, ts, y=None)` returns the noise and the
    variance weight.

    Args:
        steps: number of entries M of the cosine table; `ts` lies in [0, M - 1].
        architecture: passed to `UNet`: img_channels, img_resolution and its further arguments.

    Source: Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 15 and 17.
    """

    def __init__(self, steps: int = 1000, **architecture: Any) -> None:
        super().__init__(outputs=2, **architecture)
        self.steps = steps
        self.marginal = IDDPM(M=steps)

    def forward(self, x: Tensor, ts: Tensor | float, y: Tensor | None = None) -> Tensor:
        """Predict the noise in `x = alpha x_0 + std eps`, and where the reverse variance lies
        between its bounds.

        Args:
            x: (B, C, img_resolution, img_resolution), floating.
            ts: indices into the table, 0 .. M - 1, scalar or (B,); fractions are between two
                entries.
            y: (B,) class numbers, integer; only for a network with label_dim > 0.

        Returns:
            (B, 2C, img_resolution, img_resolution): the noise, then v in about [-1, 1] with
            `log variance = (1+v)/2 log beta + (1-v)/2 log beta_tilde`.
        """
        indices = _per_image(ts, x)
        alpha, std = self.marginal.alpha(indices), self.marginal.std(indices)
        labels = None if y is None else nn.functional.one_hot(y, self.label_dim)
        output, variance_weight = self.unet(x, indices / self.steps, labels).chunk(2, dim=1)
        noise = _broadcast(std, x) * x + _broadcast(alpha, x) * output
        return torch.cat([noise, variance_weight], dim=1)


class Classifier(nn.Module):
    """A small convolutional classifier, whose last hidden layer is the feature space of the quality
    figures.

    Args:
        img_channels: channels of the image.
        img_resolution: height and width, in pixels.
        label_dim: number of classes.
        channels: channels of the first layer.
        feature_dim: size of the last hidden layer.
    """

    def __init__(
        self,
        img_channels: int,
        img_resolution: int,
        label_dim: int = 10,
        channels: int = 16,
        feature_dim: int = 32,
    ) -> None:
        super().__init__()
        self.img_channels, self.img_resolution = img_channels, img_resolution
        self.label_dim = label_dim
        layers: list[nn.Module] = []
        width, resolution = img_channels, img_resolution
        for level in range(2 if img_resolution <= 16 else 3):
            target = channels * 2**level
            for channels_in, stride in ((width, 1), (target, 2)):
                convolution = nn.Conv2d(channels_in, target, 3, stride=stride, padding=1)
                layers += [convolution, nn.GroupNorm(4, target), nn.SiLU()]
            width, resolution = target, (resolution + 1) // 2
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Linear(width * resolution**2, feature_dim)
        self.head = nn.Linear(feature_dim, label_dim)

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer, (B, feature_dim), of images (B, C, H, W) in [-1, 1]."""
        return nn.functional.silu(self.hidden(self.convolutions(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, label_dim) of images (B, C, H, W) in [-1, 1]."""
        return self.head(self.features(x))
