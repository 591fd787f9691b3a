"""Distances between distributions, of samples and of Gaussians. All compute in float64."""

from typing import Any

import torch
from torch import Tensor

from expint.noise.source import fill_normals, generators
from expint.numerics.float64 import as_float64

_DIRECTION_STREAM = 0x2545F491
_ROWS = 2048  # pairwise distances are formed for this many samples at a time


def gaussian_wasserstein(mean_1: Any, covariance_1: Any, mean_2: Any, covariance_2: Any) -> Tensor:
    """Wasserstein-2 distance of two Gaussians: W² = |m_1 − m_2|² + tr(C_1 + C_2 − 2 (C_1^½ C_2
    C_1^½)^½).

    Args:
        mean_1, mean_2: shape (d,).
        covariance_1, covariance_2: both of shape (d, d), or both variances of shape (d,).

    Returns:
        The distance (not its square), float64, 0-dimensional.

    Raises:
        ValueError: for shapes that do not fit.

    Source: Dowson & Landau, J. Multivariate Analysis 12 (1982); Olkin & Pukelsheim, Linear Algebra
    Appl. 48 (1982).

    Example:
        >>> float(gaussian_wasserstein([0.0, 0.0], [1.0, 4.0], [3.0, 0.0], [1.0, 36.0]))
        5.0
    """
    m_1, c_1, m_2, c_2 = map(as_float64, (mean_1, covariance_1, mean_2, covariance_2))
    alike = m_1.shape == m_2.shape and c_1.shape == c_2.shape and m_1.ndim == 1
    if not alike or c_1.shape not in (m_1.shape, 2 * m_1.shape):
        shapes = [tuple(value.shape) for value in (m_1, c_1, m_2, c_2)]
        raise ValueError(
            f"Means are (d,), covariances both (d, d) or both (d,); got shapes {shapes}."
        )
    squared = ((m_1 - m_2) ** 2).sum()
    if c_1.ndim == 1:
        return torch.sqrt(squared + ((torch.sqrt(c_1) - torch.sqrt(c_2)) ** 2).sum())
    values, vectors = torch.linalg.eigh(c_1)
    root = vectors * torch.sqrt(values.clamp(min=0.0)) @ vectors.T
    cross = torch.sqrt(torch.linalg.eigvalsh(root @ c_2 @ root).clamp(min=0.0)).sum()
    return torch.sqrt((squared + c_1.trace() + c_2.trace() - 2.0 * cross).clamp(min=0.0))


def frechet_distance(x: Any, y: Any) -> Tensor:
    """Fréchet distance of two sets of samples or features: squared Wasserstein-2 distance of the
    Gaussians fitted to them.

    With features of an Inception network this is the FID.

    Args:
        x, y: shapes (n, d) and (m, d), at least 2 samples each.

    Returns:
        The squared distance, float64, 0-dimensional.

    Source: Heusel et al., arXiv 1706.08500, eq. (6).
    """
    x, y = _samples(x, y)
    # torch.cov gives a number for one column.
    covariances = [torch.cov(samples.T).reshape(2 * x.shape[1:]) for samples in (x, y)]
    return gaussian_wasserstein(x.mean(0), covariances[0], y.mean(0), covariances[1]) ** 2


def sliced_wasserstein(x: Any, y: Any, directions: int = 128, seed: int = 0) -> Tensor:
    """Sliced Wasserstein-2 distance of two sets of samples: root mean square of W_2 of their
    projections on random directions.

    Args:
        x, y: shapes (n, d) and (m, d).
        directions: how many unit vectors.
        seed: of the directions.

    Returns:
        The distance, float64, 0-dimensional.

    Source: Bonneel et al., J. Mathematical Imaging and Vision 51 (2015).
    """
    x, y = _samples(x, y)
    normals = torch.empty(1, directions, x.shape[1], dtype=torch.float64)
    fill_normals(generators([seed], _DIRECTION_STREAM, normals.device), normals)
    units = normals[0] / normals[0].norm(dim=1, keepdim=True)
    first, second = (torch.sort(samples @ units.T, dim=0).values for samples in (x, y))
    # Between neighbouring levels of either distribution function both quantile functions are
    # constant.
    parts = [torch.arange(1, n + 1, dtype=torch.float64) / n for n in (len(x), len(y))]
    levels = torch.sort(torch.cat(parts)).values
    widths = torch.diff(levels, prepend=levels.new_zeros(1))
    middle = levels - 0.5 * widths
    at_x, at_y = ((middle * len(s)).to(torch.int64).clamp(max=len(s) - 1) for s in (x, y))
    return torch.sqrt((widths[:, None] * (first[at_x] - second[at_y]) ** 2).sum(0).mean())


def energy_distance(x: Any, y: Any) -> Tensor:
    """Energy distance of two sets of samples: 2 E|X − Y| − E|X − X'| − E|Y − Y'|, with all pairs
    counted (≥ 0; 0 for equal sets).

    Args:
        x, y: shapes (n, d) and (m, d).

    Returns:
        The (squared) distance, float64, 0-dimensional.

    Source: Székely & Rizzo, J. Statistical Planning and Inference 143 (2013), eq. (6.1).
    """
    x, y = _samples(x, y)
    return 2.0 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)


def _mean_distance(x: Tensor, y: Tensor) -> Tensor:
    # Without the matrix product, which loses digits for close points.
    mode = "donot_use_mm_for_euclid_dist"
    parts = [torch.cdist(part, y, compute_mode=mode).sum() for part in x.split(_ROWS)]
    return torch.stack(parts).sum() / (len(x) * len(y))


def _samples(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    first, second = as_float64(x).detach().cpu(), as_float64(y).detach().cpu()
    alike = first.ndim == second.ndim == 2 and first.shape[1] == second.shape[1]
    if not alike or min(len(first), len(second)) < 2:
        raise ValueError(
            f"Samples are (n, d) and (m, d), n, m >= 2, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}: flatten events first."
        )
    return first, second
