"""The losses of the five families, each with its family's target and weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusion_adapters.shipped.networks import EDMNetwork, IDDPMNetwork, VENetwork, VPNetwork
from diffusion_adapters.shipped.phase_space_network import CLDNetwork


def _images(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x.dtype)[:, None, None, None]


def edm_loss(
    net: EDMNetwork,
    x: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    label_dropout: float = 0.2,
) -> Tensor:
    """EDM's loss, `|D - x_0|^2 / c_out^2`, with some of the labels dropped (arXiv 2206.00364,
    section 5).

    Args:
        net: the network.
        x: (B, C, H, W), clean images.
        labels: (B,) class numbers.
        generator: source of randomness.
        label_dropout: share of the images whose label is hidden, so that the network also works
            without one.

    Returns:
        Scalar, the mean over images and pixels.
    """
    batch = x.shape[0]
    # Small images need more noise than EDM's (-1.2, 1.2) before they lose their class; a tenth of
    # the levels spread evenly over the whole range keeps its two ends trained.
    log_sigma = -0.7 + 1.3 * torch.randn(batch, generator=generator, dtype=torch.float64)
    ends = math.log(net.sigma_min), math.log(net.sigma_max)
    spread = ends[0] + (ends[1] - ends[0]) * torch.rand(
        batch, generator=generator, dtype=torch.float64
    )
    everywhere = torch.rand(batch, generator=generator) < 0.1
    sigma = torch.where(everywhere, spread, log_sigma.clamp(*ends)).exp()
    keep = torch.rand(batch, generator=generator) >= label_dropout
    one_hot = torch.nn.functional.one_hot(labels, net.label_dim) * keep[:, None]
    noise = torch.randn(x.shape, generator=generator)
    denoised = net(x + _images(sigma, x) * noise, sigma, one_hot)
    weight = (sigma**2 + net.sigma_data**2) / (sigma * net.sigma_data) ** 2
    return (_images(weight, x) * (denoised - x) ** 2).mean()


def vp_loss(net: VPNetwork, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Weighted squared error of the noise over t in (1e-4, 1]; arguments as in `edm_loss`."""
    uniform = torch.rand(x.shape[0], generator=generator, dtype=torch.float64)
    # Half of the times are drawn densely near 0, where the noise level changes fastest.
    dense = torch.rand(x.shape[0], generator=generator) < 0.5
    t = 1e-4 + (1 - 1e-4) * torch.where(dense, uniform**2, uniform)
    alpha, std = net.marginal.alpha(t), net.marginal.std(t)
    noise = torch.randn(x.shape, generator=generator)
    predicted = net(_images(alpha, x) * x + _images(std, x) * noise, 999 * t)
    # eps = std x_t + alpha v: dividing by alpha leaves the error of v, whose size does not depend
    # on t. The plain error of the noise would leave the noisiest times untrained.
    return ((predicted - noise) / _images(alpha, x)).square().mean()


def ve_loss(net: VENetwork, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """`|sigma score + z|^2`, weighted by `1 + sigma^2`; arguments as in `edm_loss`."""
    batch = x.shape[0]
    low, high = math.log(net.sigma_min), math.log(net.sigma_max)
    spread = low + (high - low) * torch.rand(batch, generator=generator, dtype=torch.float64)
    centred = (-0.7 + 1.3 * torch.randn(batch, generator=generator, dtype=torch.float64)).clamp(
        low, high
    )
    sigma = torch.where(torch.rand(batch, generator=generator) < 0.3, spread, centred).exp()
    noise = torch.randn(x.shape, generator=generator)
    score = net(x + _images(sigma, x) * noise, sigma)
    return (_images(1 + sigma**2, x) * (_images(sigma, x) * score + noise) ** 2).mean()


def cld_loss(net: CLDNetwork, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Hybrid score matching: the error of ε_v in u_t given x_0, the initial velocity integrated
    out (arXiv 2112.07068, section 3.2); arguments as in `edm_loss`.

    Its weight is that of `edm_loss` at the σ of the network's combination of both.
    """
    batch, process = x.shape[0], net.process
    ends = (-process.lam([1e-3, 1.0])).tolist()
    log_sigma = -0.7 + 1.3 * torch.randn(batch, generator=generator, dtype=torch.float64)
    spread = ends[0] + (ends[1] - ends[0]) * torch.rand(
        batch, generator=generator, dtype=torch.float64
    )
    everywhere = torch.rand(batch, generator=generator) < 0.1
    t = process.t_of_lam(-torch.where(everywhere, spread, log_sigma.clamp(*ends)))
    mean, covariance = process.kernel(t)
    root = torch.linalg.cholesky(covariance)
    noise = torch.randn(x.shape[0], 2, *x.shape[1:], generator=generator)
    u = mean.to(x)[:, :, None, None, None] * x[:, None]
    u = u + torch.einsum("bij,bj...->bi...", root.to(x), noise)
    mixed = _images(root[:, 1, 1] / covariance[:, 1, 1], x) * u[:, 1]
    predicted = net(u.flatten(1, 2), t) + mixed
    # ε_v is linear in the network's x_0: dividing by the slope leaves the error of x_0.
    slope = torch.linalg.solve_triangular(root, mean[..., None], upper=False)[:, 1, 0]
    precision = (mean * torch.linalg.solve(covariance, mean)).sum(1)
    weight = (precision + net.sigma_data**-2) / slope**2
    return (_images(weight, x) * (predicted - noise[:, 1]) ** 2).mean()


def iddpm_loss(net: IDDPMNetwork, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """The hybrid loss `L_simple + 0.001 L_vlb` (arXiv 2102.09672, eq. 16); arguments as in
    `edm_loss`.

    Half of the indices are whole, as in the paper; the others lie between two entries of the table,
    so that the network is usable there too. `L_vlb`, which exists for whole indices only, moves the
    variance and not the mean.
    """
    batch = x.shape[0]
    ts = (net.steps - 1) * torch.rand(batch, generator=generator, dtype=torch.float64)
    whole = torch.arange(batch) < batch // 2
    ts = torch.where(whole, torch.randint(net.steps, (batch,), generator=generator).double(), ts)
    alpha, std = net.marginal.alpha(ts), net.marginal.std(ts)
    noise = torch.randn(x.shape, generator=generator)
    noised = _images(alpha, x) * x + _images(std, x) * noise
    predicted, weight = net(noised, ts).chunk(2, dim=1)
    simple = (
        ((predicted - noise) / _images(alpha, x)).square().mean()
    )  # the weight of `vp_loss`, for its reason
    half = batch // 2
    terms = _variational_terms(
        net, ts[:half].long(), x[:half], noised[:half], predicted[:half].detach(), weight[:half]
    )
    # L_vlb is a sum over the M indices, of which one per image is drawn.
    return simple + 0.001 * net.steps * terms.mean()


def _variational_terms(
    net: IDDPMNetwork, ts: Tensor, x: Tensor, noised: Tensor, predicted: Tensor, weight: Tensor
) -> Tensor:
    """One term of L_vlb per image, in bits per pixel: KL of the posterior from the model; a
    likelihood at index 0.
    """
    alpha_bar = net.marginal.alpha(torch.arange(net.steps, dtype=torch.float64)) ** 2
    previous = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    beta = 1 - alpha_bar / previous
    posterior = beta * (1 - previous) / (1 - alpha_bar)
    posterior[0] = posterior[
        1
    ]  # zero at the first index; the next one stands in for it, as in the paper's code
    log_beta, log_posterior = _images(beta.log()[ts], x), _images(posterior.log()[ts], x)
    log_variance = (1 + weight) / 2 * log_beta + (1 - weight) / 2 * log_posterior

    # Posterior mean  mu = (sqrt(a_prev) beta x_0 + sqrt(1 - beta) (1 - a_prev) x_t) / (1 - a_bar):
    # the two means differ by their x_0 alone, and x_0 - x_0' = (eps' - eps) std/alpha.
    on_clean = (previous.sqrt() * beta / (1 - alpha_bar))[ts]
    clean = (noised - _images((1 - alpha_bar).sqrt()[ts], x) * predicted) / _images(
        alpha_bar.sqrt()[ts], x
    )
    clean = clean.clamp(-1, 1)
    squared = (_images(on_clean, x) * (x - clean)) ** 2
    divergence = 0.5 * (log_variance - log_posterior + (log_posterior - log_variance).exp() - 1)
    divergence = divergence + 0.5 * squared * (-log_variance).exp()
    likelihood = 0.5 * (squared * (-log_variance).exp() + log_variance + math.log(2 * math.pi))
    terms = torch.where(_images(ts == 0, x) > 0, likelihood, divergence)
    return terms.mean(dim=(1, 2, 3)) / math.log(2)
