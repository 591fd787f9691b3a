"""A small U-Net, the one backbone of every shipped network."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def _normalisation(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _zero(module: nn.Conv2d) -> nn.Conv2d:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the condition scales and shifts the features between them."""

    def __init__(self, channels_in: int, channels_out: int, condition_dim: int) -> None:
        super().__init__()
        self.norm_in = _normalisation(channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(condition_dim, 2 * channels_out)
        self.norm_out = _normalisation(channels_out)
        self.conv_out = _zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = self.conv_in(functional.silu(self.norm_in(x)))
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.norm_out(hidden) * (1 + scale) + shift
        return self.skip(x) + self.conv_out(functional.silu(hidden))


class _Attention(nn.Module):
    """Self-attention over the pixels, with 4 heads or fewer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, min(4, channels // 16))
        self.norm = _normalisation(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, -1, height * width)
        query, key, value = qkv.transpose(-1, -2).unbind(1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return x + self.out(mixed.transpose(-1, -2).reshape(batch, channels, height, width))


def _through(module: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    return module(x, condition) if isinstance(module, _ResidualBlock) else module(x)


class UNet(nn.Module):
    """A U-Net with residual blocks, conditioned on one number per image and, if wanted, on a class.

    The image is folded by `patch` into channels first (a cheap stem for larger images), goes down
    one level per entry of `multipliers`, with attention on the lowest one, and up again. The last
    convolution starts at zero, so an untrained network returns zeros.

    Args:
        img_channels: channels of the image.
        img_resolution: height and width of the image, in pixels; divisible by
            `patch * 2 ** (len(multipliers) - 1)`.
        out_channels: channels of the result (`img_channels` if None).
        channels: channels of the first level.
        multipliers: channels of every level, as multiples of `channels`.
        blocks: residual blocks per level on the way down; one more on the way up.
        patch: side of the square of pixels that is folded into channels.
        attention: whether the lowest level has self-attention.
        label_dim: number of classes; 0 for none.
        max_frequency: highest angular frequency at which the conditioning number is read.

    Raises:
        ValueError: if the resolution cannot be halved as often as `multipliers` asks.
    """

    def __init__(
        self,
        img_channels: int,
        img_resolution: int,
        out_channels: int | None = None,
        channels: int = 32,
        multipliers: tuple[int, ...] | list[int] = (1, 2),
        blocks: int = 1,
        patch: int = 1,
        attention: bool = True,
        label_dim: int = 0,
        max_frequency: float = 30.0,
    ) -> None:
        super().__init__()
        divisor = patch * 2 ** (len(multipliers) - 1)
        if img_resolution % divisor:
            raise ValueError(
                f"img_resolution must be divisible by patch * 2**(levels - 1) = {divisor}, got "
                f"{img_resolution}; use fewer multipliers or a smaller patch."
            )
        self.img_channels, self.img_resolution = img_channels, img_resolution
        self.out_channels = img_channels if out_channels is None else out_channels
        self.label_dim, self.patch, self.max_frequency = label_dim, patch, max_frequency
        self.frequencies = channels // 2
        condition_dim = 2 * channels

        self.condition = nn.Sequential(
            nn.Linear(2 * self.frequencies, condition_dim),
            nn.SiLU(),
            nn.Linear(condition_dim, condition_dim),
        )
        self.label = nn.Linear(label_dim, condition_dim, bias=False) if label_dim else None
        widths = [channels * m for m in multipliers]
        self.stem = nn.Conv2d(img_channels * patch**2, widths[0], 3, padding=1)

        self.down = nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for level, target in enumerate(widths):
            if level:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(_ResidualBlock(width, target, condition_dim))
                width = target
                skips.append(width)
        self.middle = nn.ModuleList([_ResidualBlock(width, width, condition_dim)])
        if attention:
            self.middle.append(_Attention(width))
        self.up = nn.ModuleList()
        for level, target in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(_ResidualBlock(width + skips.pop(), target, condition_dim))
                width = target
            if level:
                self.up.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.norm = _normalisation(width)
        self.head = _zero(nn.Conv2d(width, self.out_channels * patch**2, 3, padding=1))

    def forward(self, x: Tensor, level: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Apply the network, in the dtype of its weights.

        Args:
            x: (B, img_channels, img_resolution, img_resolution), any floating dtype.
            level: (B,), the conditioning number, of order one.
            class_labels: (B, label_dim), one-hot, any dtype; None or zeros for no class.

        Returns:
            (B, out_channels, img_resolution, img_resolution), in the dtype of `x`.

        Raises:
            ValueError: if `x` has another shape.
        """
        expected = (self.img_channels, self.img_resolution, self.img_resolution)
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"x must have shape (B, {', '.join(map(str, expected))}), got {tuple(x.shape)}."
            )
        dtype = self.stem.weight.dtype
        # Geometric frequencies are computed here, in float64, rather than kept in a buffer, which
        # `.half()` would degrade.
        exponents = torch.linspace(0, 1, self.frequencies, dtype=torch.float64, device=x.device)
        frequencies = 0.5 * torch.exp(exponents * math.log(2 * self.max_frequency))
        angles = level.to(torch.float64)[:, None] * frequencies
        condition = self.condition(torch.cat([angles.cos(), angles.sin()], dim=1).to(dtype))
        if self.label is not None and class_labels is not None:
            # One-hot labels have length 1; the factor gives them the size of the other features.
            condition = condition + self.label(class_labels.to(dtype) * math.sqrt(self.label_dim))
        condition = functional.silu(condition)

        hidden = self.stem(functional.pixel_unshuffle(x.to(dtype), self.patch))
        skips = [hidden]
        for module in self.down:
            hidden = _through(module, hidden, condition)
            skips.append(hidden)
        for module in self.middle:
            hidden = _through(module, hidden, condition)
        for module in self.up:
            if isinstance(module, _ResidualBlock):
                hidden = torch.cat([hidden, skips.pop()], dim=1)
            hidden = _through(module, hidden, condition)
        hidden = self.head(functional.silu(self.norm(hidden)))
        return functional.pixel_shuffle(hidden, self.patch).to(x.dtype)
