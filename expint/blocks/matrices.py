"""Matrices that multiply along the component axis of a state, and matrix functions of time."""

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64

TimeFunction = Callable[[Tensor], Tensor]
"""Of times of any shape, float64; matrices have the shape (*times, rows, columns)."""


class Block(Tensor):
    """A matrix that multiplies a state along its component axis.

    It is a coefficient of a plan, shape (k, m); what torch makes of it is a plain tensor.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    def on(self, x: Tensor, axis: int = 1) -> Tensor:
        """The product, shape (batch, k, *event), with x of shape (batch, m, *event), or with other
        places of the components."""
        return (x.movedim(axis, -1) @ self.as_subclass(Tensor).mT).movedim(-1, axis)

    def __deepcopy__(self, memo: Any) -> "Block":
        return self.clone().as_subclass(Block)


def square_root(covariance: Tensor) -> Tensor:
    """R with R Rᵀ = Q, shape (*, k, k): Cholesky's factor, and where there is none (Q is singular)
    the symmetric root; after scaling with the standard deviations, which may differ by orders of
    magnitude."""
    std, _, scaled = _correlations(covariance)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    singular = failed.bool() | (factor.diagonal(dim1=-2, dim2=-1).amin(-1) < 1e-7)
    if singular.any():
        factor = torch.where(singular[..., None, None], symmetric_root(scaled), factor)
    return std[..., None] * factor


def symmetric_root(covariance: Tensor) -> Tensor:
    """The symmetric square root, a continuous function of Q, shape (*, k, k).

    Raises:
        ValueError: if Q carries gradients, which are not finite where eigenvalues are equal.
    """
    if covariance.requires_grad:
        raise ValueError("Integrals and singular noise have no gradients in A and G: detach them.")
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


def matrix_function(
    name: str, value: Any, start: float, end: float, rows: int | None = None
) -> tuple[TimeFunction, Tensor, bool]:
    """`value` as a function of times, its matrices at some of them, and whether it is constant.

    Args:
        name: for messages.
        value: a number (one row and column), a matrix of numbers, a sympy matrix in t, or a
            function of time that gives a matrix: of one time, or of an array of times.
        start, end: the times between which it is used.
        rows: how many there must be.

    Raises:
        ValueError: if it gives no finite matrix of one shape, or one of other rows.
    """
    # Away from the ends, where formulas are often singular.
    inside = start + (end - start) * torch.linspace(0.005, 0.995, 67).double()
    sympy = sys.modules.get("sympy")
    if sympy is not None and isinstance(value, sympy.MatrixBase):
        value = _from_sympy(name, value, (start, end))
    parse = _from_callable if callable(value) else _from_numbers
    function = partial(_finite_at, name, parse(name, value, inside))
    found = function(inside)
    shape = found.shape[1:]
    if len(shape) != 2 or not all(shape):
        raise ValueError(f"{name} must be a matrix, got shape {tuple(shape)}.")
    if rows not in (None, shape[0]):
        words = f"got {shape[0]} x {shape[1]}"
        raise ValueError(f"{name} must have as many rows as A, which is {rows} x {rows}, {words}.")
    return function, found, not callable(value)


def _finite_at(name: str, function: TimeFunction, t: Tensor) -> Tensor:
    """The matrices at times `t`, or the first time where they are not finite."""
    found = function(t)
    bad = ~torch.isfinite(found).flatten(t.ndim).all(-1)
    if bad.any():
        raise ValueError(f"{name} must be finite, but at t = {t[bad][0].item():.9g} it is not.")
    return found


def _from_numbers(name: str, value: Any, _: Tensor) -> TimeFunction:
    try:
        matrix = torch.atleast_2d(as_float64(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no matrix of numbers: {error}") from error
    return lambda t: matrix.expand(*t.shape, *matrix.shape)


def _from_sympy(name: str, value: Any, span: tuple[float, float]) -> TimeFunction:
    from expint.schedules.formula.expressions import compiled, parse, time_symbol

    t = time_symbol("t")
    parsed = [parse(f"{name}[{i}]", entry, t) for i, entry in enumerate(value)]
    entries = [compiled(entry, t, span) for entry in parsed]
    return lambda t: torch.stack([entry(t) for entry in entries], -1).unflatten(-1, value.shape)


def _from_callable(name: str, function: Callable[[Any], Any], probe: Tensor) -> TimeFunction:
    """A function of an array of times, of torch or numpy, where that gives a matrix for each, and
    the same ones for fewer times; else of one time, a float or a tensor."""
    one = lambda time: torch.atleast_2d(as_float64(function(time)))  # noqa: E731
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda t: as_float64(function(t)),
        lambda t: as_float64(function(t.numpy())),
        lambda t: torch.stack([*map(one, t.tolist())]),
        lambda t: torch.stack([*map(one, t.unbind(0))]),
    ]
    reason = ""
    for way in ways:
        try:
            with warnings.catch_warnings(action="error"):
                found, fewer = way(probe), way(probe[:4])
            same = torch.allclose(found[:4], fewer, 1e-12, equal_nan=True)
            if same and found.shape[:-2] == probe.shape:
                return lambda t: way(t.reshape(-1)).reshape(*t.shape, *found.shape[1:])
        except Exception as error:  # it takes the other kind
            reason = f": {error}"
    raise ValueError(f"{name} must give a matrix of numbers of one shape for each time{reason}")
