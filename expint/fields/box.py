"""A box, real orthonormal modes on it, and the SDE of the modes of a field."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import torch
from scipy.fft import next_fast_len as fast
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.fields.axes import DENSE, Axis, along
from expint.numerics.float64 import are_numbers, as_float64, is_whole

_KINDS = {
    "modes": ("an integer >= 1", lambda n: is_whole(n) and n >= 1),
    "lengths": ("a finite number > 0", lambda v: are_numbers(v) and 0 < v < inf),
    "boundary": (f"one of {tuple(DENSE)}", tuple(DENSE).__contains__),
}


def _each(name: str, given: Any, axes: int = 0) -> tuple[Any, ...]:
    """One value for each axis, of which there are any number if `axes` is 0."""
    kind, fine = _KINDS["modes" if name == "points" else name]
    values = tuple(given) if isinstance(given, list | tuple) else (given,) * max(1, axes)
    if not values or not all(map(fine, values)) or len(values) != (axes or len(values)):
        raise ValueError(f"{name} is {kind}, or one for each axis of the box, got {given!r}.")
    return values


@dataclass(frozen=True)
class Box:
    """A box [0, L_1] × … in 1 to 3 dimensions with real orthonormal modes e, products of sines and
    cosines of its axes, in which the Laplacian is diagonal.

    A field is held by its modes û = ∫ u e dx, real numbers of shape (batch, *components, *modes).
    As the modes are real, nothing must be kept Hermitian: independent noise in each of them is real
    noise of the field.

    Args:
        modes: how many on each axis, an integer or one for each axis.
        lengths: of the axes, a number > 0 or one for each.
        boundary: "periodic", "neumann" (no flux) or "dirichlet" (zero), or one for each.

    Raises:
        ValueError: for anything else, or more than 3 axes.

    Example:
        >>> from expint import compile_plan
        >>> from expint.fields import Box
        >>> box = Box(64, boundary="neumann")
        >>> heat = box.sde(0.1, 1.0, span=(0.0, 1.0))  # du = 0.1 Δu dt + white noise
        >>> compile_plan(heat, "seeds-1", [0.0, 1.0]).rows[0].scale.shape
        torch.Size([64])
    """

    modes: Any
    lengths: Any = 1.0
    boundary: Any = "periodic"

    def __post_init__(self) -> None:
        count = len(_each("modes", self.modes))
        if count > 3:
            raise ValueError(f"A box has 1 to 3 axes, got modes = {self.modes!r}.")
        for name in _KINDS:
            object.__setattr__(self, name, _each(name, getattr(self, name), count))

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes."""
        return tuple(map(Axis, self.modes, self.lengths, self.boundary))

    @cached_property
    def laplacian(self) -> Tensor:
        """The eigenvalues −|k|² of Δ, float64, of the shape of the modes."""
        return -torch.stack(torch.meshgrid([a.waves**2 for a in self.axes], indexing="ij")).sum(0)

    def points(self, degree: int = 2) -> tuple[int, ...]:
        """On how many points of each axis a polynomial of the field of this degree is free of
        aliasing: (degree + 1)/2 times the modes, rounded up to even numbers without large prime
        factors. For degree 2 this is the 2/3 rule. Exceptions: the last mode of an even number of
        periodic or of sine modes, and even powers of sine modes, which are no sums of sines."""
        if not is_whole(degree) or degree < 1:
            raise ValueError(f"degree is an integer >= 1, got {degree!r}.")
        return tuple(2 * fast(-(-(degree + 1) * n // 4), True) for n in self.modes)  # pyright: ignore

    def places(self, points: Any) -> tuple[Tensor, ...]:
        """Coordinates of the points of each axis, float64, each of the shape `points`, an integer
        or one for each axis."""
        sizes = _each("points", points, len(self.modes))
        return torch.meshgrid(*map(Axis.places, self.axes, sizes), indexing="ij")

    def to_points(self, x: Tensor, points: Any = None) -> Tensor:
        """The field at the points, shape (*batch, *points), from its modes, shape (*batch, *modes);
        by default at as many points as modes. Half types are transformed in float32.

        Raises:
            ValueError: for another shape, or fewer points than modes.
        """
        shape = _each("points", points or self.modes, len(self.modes))
        x = self._real(x, "modes", self.modes)
        for dim, axis, n in zip(range(-len(shape), 0), self.axes, shape, strict=True):
            x = along(axis, x, dim, n)
        return x

    def to_modes(self, u: Tensor, points: Any = None) -> Tensor:
        """The modes, shape (*batch, *modes), of values at any number of points, at least as many as
        modes, shape (*batch, *points); `points`, if given, is what their number must be.

        Raises:
            ValueError: for another shape, or fewer points than modes.
        """
        u = self._real(u, "points", points and _each("points", points, len(self.modes)))
        for dim, axis in enumerate(self.axes[::-1], 1):  # the last first: so fewest are copied
            u = along(axis, u, -dim, u.shape[-dim], back=True)
        return u

    def derivative(self, x: Tensor, axis: int = 0) -> Tensor:
        """Modes of the derivative along a periodic axis; the unpaired last cosine of an even number
        of modes has none."""
        if (kind := self.boundary[axis]) != "periodic":
            raise ValueError(
                f"{kind} modes turn into others: there is only that along a periodic axis."
            )
        x, dim = self._real(x, "modes", self.modes), range(-len(self.modes), 0)[axis]
        return self.axes[axis].derivative(x.transpose(dim, -1)).transpose(dim, -1)

    def nonlinearity(self, f: Callable[..., Any], degree: int = 2) -> Callable[..., Tensor]:
        """F of the engine, in modes, for a reaction f(u, t) that acts point by point.

        Args:
            f: takes values of the field, shape (batch, *components, *points), and the time, and
                gives values of the same shape.
            degree: of f as a polynomial in u; where it is none, a larger one makes the error of
                aliasing smaller. See `points`.
        """
        points = self.points(degree)
        return lambda x, t: self.to_modes(f(self.to_points(x, points), t), points)

    def sde(
        self, linear: Any, spectrum: Any = 0.0, *, span: tuple[float, float], **options: Any
    ) -> SemiLinearSDE:
        """The SDE of the modes of u_t = L u + F(u, t) + noise.

        Args:
            linear: of L = ν Δ the number ν, or a function of the eigenvalues of Δ (a float64 tensor
                ≤ 0) that gives those of L: `lambda d: -d - d**2` is −Δ − Δ². They are real: what is
                odd in k, such as u_x, turns cosines and sines into each other, and belongs to F.
            spectrum: of the noise, which is white in time: the variance per unit of time that each
                mode is driven with, ≥ 0. A number (1 is space-time white noise, however many the
                modes), a tensor that broadcasts against the modes, or a function of |k|.
            span, options: see `SemiLinearSDE.from_coefficients`.

        Raises:
            ValueError: for coefficients that are not finite or do not fit the modes, and a negative
                spectrum.
        """
        made = linear if callable(linear) else as_float64(linear).mul
        waves = torch.sqrt(-self.laplacian)
        power = self._coefficient("spectrum", spectrum(waves) if callable(spectrum) else spectrum)
        if (power < 0).any():
            k, least = waves.flatten()[power.argmin()], power.min()
            raise ValueError(f"spectrum is a variance, >= 0, got {least:.6g} for |k| = {k:.6g}.")
        rates = self._coefficient("linear", made(self.laplacian))
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # 2 x 2 is no matrix
            return SemiLinearSDE.from_coefficients(rates, 1.0, power.sqrt(), span=span, **options)

    def _coefficient(self, name: str, value: Any) -> Tensor:
        made = as_float64(value)
        sizes = zip(made.shape[::-1], self.modes[::-1], strict=False)
        if made.ndim > len(self.modes) or not all(n in (1, own) for n, own in sizes):
            raise ValueError(
                f"{name} must broadcast against the modes, {self.modes}, got shape "
                f"{tuple(made.shape)}."
            )
        if not torch.isfinite(made).all():
            raise ValueError(f"{name} must be finite, got {made[~torch.isfinite(made)][0]}.")
        return made.expand(self.modes)

    def _real(self, x: Any, what: str, sizes: tuple[int, ...] | None) -> Tensor:
        """The field as float32 or wider, once its last dimensions are checked."""
        own, count = tuple(getattr(x, "shape", ())), len(self.modes)
        real = isinstance(x, Tensor) and not x.is_complex()
        if not real or len(own) < count or (sizes and own[-count:] != sizes):
            raise ValueError(
                f"A field in {what} has these dimensions last, {sizes or f'{count} dimensions'}, "
                f"got {own}, and is real, got {getattr(x, 'dtype', 'a')} {type(x).__name__}."
            )
        return x.to(torch.promote_types(x.dtype, torch.float32))
