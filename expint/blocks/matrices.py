"""Matrices that multiply along the component axis of a state, and matrix functions of time."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64

MatrixFunction = Callable[[Tensor], Tensor]
"""Times of any shape to matrices, shape (*times, rows, columns), float64."""


class Block(Tensor):
    """A matrix that multiplies a state along its component axis, the first after the batch.

    It is a coefficient of a plan, shape (k, m); what torch makes of it is a plain tensor.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    def on(self, x: Tensor) -> Tensor:
        """The product, shape (batch, k, *event), with x of shape (batch, m, *event)."""
        return torch.einsum("km,bm...->bk...", self.as_subclass(Tensor), x)


def square_root(covariance: Tensor) -> Tensor:
    """R with R Rᵀ = Q, shape (*, k, k): Cholesky's factor, and where there is none (Q is singular)
    V √λ of the eigenvectors; after scaling with the standard deviations, which may differ by
    orders of magnitude."""
    std, _, scaled = _correlations(covariance)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    values, vectors = torch.linalg.eigh(scaled)
    singular = vectors * values.clamp(min=0.0).sqrt()[..., None, :]
    bad = failed.bool() | (values[..., 0] < 1e-14)
    return std[..., None] * torch.where(bad[..., None, None], singular, factor)


def symmetric_root(covariance: Tensor) -> Tensor:
    """The symmetric square root, a continuous function of Q, shape (*, k, k)."""
    values, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.mT))
    return (vectors * values.clamp(min=0.0).sqrt()[..., None, :]) @ vectors.mT


def regression(covariance: Tensor, on: Tensor) -> Tensor:
    """Cov(X, Y) Var(Y)⁻¹ from Cov(X, Y) and Var(Y), which may be singular."""
    _, over, scaled = _correlations(on)
    inverse = torch.linalg.pinv(scaled, hermitian=True, rtol=1e-13)
    return (covariance * over[..., None, :]) @ inverse * over[..., None, :]


def _correlations(covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standard deviations, their inverses, and the matrix divided by them, with 0 for what has
    none."""
    std = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt()
    over = torch.where(std > 0, 1.0 / torch.where(std > 0, std, 1.0), 0.0)
    return std, over, covariance * over[..., None] * over[..., None, :]


def matrix_function(name: str, value: Any, start: float, end: float) -> tuple[MatrixFunction, bool]:
    """`value` as a function of times, and whether it is constant.

    Args:
        name: for messages.
        value: a number (one row and column), a matrix of numbers, a sympy matrix in t, or a
            function of time that gives a matrix: of one time, or of an array of times.
        start, end: the times between which it is used.

    Raises:
        ValueError: if it gives no finite matrix of one shape.
    """
    function, constant = _parsed(name, value, torch.tensor([start, end]).double())
    # Away from the ends, where formulas are often singular.
    inside = start + (end - start) * torch.linspace(0.01, 0.99, 7).double()
    shape = finite_at(name, function, inside).shape[1:]
    if len(shape) != 2 or not all(shape):
        raise ValueError(f"{name} must be a matrix, got shape {tuple(shape)}.")
    return function, constant


def finite_at(name: str, function: MatrixFunction, t: Tensor) -> Tensor:
    """The matrices at times `t`, or the first time where they are not finite."""
    found = function(t)
    bad = ~torch.isfinite(found).flatten(t.ndim).all(-1)
    if bad.any():
        raise ValueError(f"{name} must be finite, but at t = {t[bad][0].item():.9g} it is not.")
    return found


def _parsed(name: str, value: Any, span: Tensor) -> tuple[MatrixFunction, bool]:
    sympy = sys.modules.get("sympy")
    if sympy is not None and isinstance(value, sympy.MatrixBase):
        return _from_sympy(name, value, span), False
    if callable(value):
        return _from_callable(name, value, span), False
    try:
        matrix = _matrix(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no matrix of numbers: {error}") from error
    return lambda t: matrix.expand(*t.shape, *matrix.shape), True


def _from_sympy(name: str, value: Any, span: Tensor) -> MatrixFunction:
    from expint.schedules.formula.expressions import compiled, parse, time_symbol

    t, (start, end) = time_symbol("t"), span.tolist()
    entries = [parse(f"{name}[{i}]", entry, t) for i, entry in enumerate(value)]
    functions = [compiled(entry, t, (start, end)) for entry in entries]

    def matrix(times: Tensor) -> Tensor:
        values = [torch.as_tensor(f(times)).double().expand(times.shape) for f in functions]
        return torch.stack(values, -1).unflatten(-1, value.shape)

    return matrix


def _from_callable(name: str, function: Callable[[Any], Any], span: Tensor) -> MatrixFunction:
    """A function of an array of times, of torch or numpy, where that gives the same as one time at
    a time; else of one, a float or a tensor."""
    probe = span[0] + (span[1] - span[0]) * torch.tensor([0.3, 0.45, 0.7, 0.8, 0.9]).double()
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda t: as_float64(function(t)),
        lambda t: as_float64(function(t.numpy())),
        lambda t: torch.stack([_matrix(function(time)) for time in t.tolist()]),
        lambda t: torch.stack([_matrix(function(time)) for time in t.unbind(0)]),
    ]
    results, reason = dict[int, Tensor](), ""
    for i, way in enumerate(ways):
        try:
            with warnings.catch_warnings(action="error"):
                results[i] = way(probe)
        except Exception as error:  # it takes the other kind
            reason = reason or f": {error}"
    right = next((found for i, found in results.items() if i > 1 and found.ndim == 3), None)
    if right is None:
        raise ValueError(f"{name} must give a matrix of numbers of one shape for each time{reason}")
    fits = (i for i, found in results.items() if found.shape == right.shape)
    way = ways[next(i for i in fits if torch.allclose(results[i], right, 1e-12, equal_nan=True))]
    return lambda t: way(t.reshape(-1)).reshape(*t.shape, *right.shape[1:])


def _matrix(value: Any) -> Tensor:
    matrix = as_float64(value)
    return matrix if matrix.ndim else matrix.reshape(1, 1)
