"""Semi-linear SDEs whose linear part is a matrix that acts on a component axis."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.blocks import LinearSystem
from expint.blocks.matrices import matrix_function
from expint.equations.coefficients import span_ends
from expint.equations.sde import Clock, SemiLinearSDE
from expint.equations.time_clock import time_clock
from expint.numerics.float64 import is_whole
from expint.numerics.roots import invert_monotone
from expint.schedules.formula.callables import on_tensors


def sde_from_blocks(
    A: Any,
    B: Any = None,
    G: Any = None,
    *,
    span: tuple[float, float],
    clock: Any = None,
    axis: int = 1,
    name: str = "",
) -> SemiLinearSDE:
    """The SDE du = [A(t) u + B(t) F(u, t)] dt + G(t) dω for states of k components, shape (batch,
    k, *event), with matrices that all coordinates of the event share. It is integrated from span[0]
    to span[1], forwards or backwards in time.

    Over a step the linear part and the noise are exact: Φ' = AΦ, the weights are ∫ Φ B L_j du with
    the interpolation polynomials L_j of F, and the noise of each interval between two nodes has the
    covariance ∫ Φ G Gᵀ Φᵀ du, with k normals for each coordinate. A may be defective, singular or
    stiff, and G of any rank.

    Args:
        A, B, G: matrices, k × k, k × m and k × n: numbers, sympy matrices in t, or functions of
            time (of one time, or of an array of times) that return arrays or tensors. F then has
            the shape (batch, m, *event). Default: B = 1, with m = k, and G = 0.
        span: first and last time.
        clock: the transformed time in which F is interpolated and nodes are placed, a function of
            time that increases along the integration; default: the time.
        axis: of the state, on which its components lie, and those of F: any but the batch, 0, and
            negative ones from the end: -3 are the channels of images (batch, *any, k, height,
            width).
        name: for print-outs.

    Returns:
        The SDE. Constant matrices are integrated by scaling and doubling, at any |A|h. Others
        by collocation to 1e-11, decaying ones at any |A|h; a step in which they make thousands of
        oscillations is refused.

    Raises:
        ValueError: for matrices whose shapes do not fit or that are not finite, an empty span, a
            clock that does not increase, or axis 0; in a run, for a state without k components on
            that axis.

    Source: variation of constants; Van Loan, IEEE TAC 23 (1978), for the covariance.

    Example:
        >>> import torch
        >>> from expint import SemiLinearSDE, integrate, noise
        >>> pendulum = SemiLinearSDE.from_blocks(
        ...     [[0, 1], [-4, -0.5]], [[0], [1]], [[0], [0.3]], span=(0.0, 5.0)
        ... )
        >>> u = torch.zeros(3, 2, dtype=torch.float64)  # position and velocity
        >>> grid = torch.linspace(0, 5, 26, dtype=torch.float64)
        >>> force = lambda u, t: torch.cos(2 * t) - u[:, :1] ** 3
        >>> integrate(pendulum, force, u, grid, "seeds-2", noise.Gaussian(range(3))).x.shape
        torch.Size([3, 2])
    """
    start, end = span_ends(span)
    if not is_whole(axis) or axis == 0:
        raise ValueError(f"axis is an integer other than 0, which is the batch, got {axis!r}.")
    drift, found, one = matrix_function("A", A, start, end)
    k, m = found.shape[1:]
    if k != m:
        raise ValueError(f"A must be square, got {k} x {m}.")
    B, G = np.eye(k) if B is None else B, np.zeros((k, 1)) if G is None else G
    weight, found, two = matrix_function("B", B, start, end, k)
    diffusion, _, three = matrix_function("G", G, start, end, k)
    times = torch.linspace(start, end, 1025, dtype=torch.float64)
    sizes, noisy = (k, found.shape[-1]), bool(diffusion(times[1:-1]).any())
    system = LinearSystem(drift, weight, diffusion, one and two and three, sizes, noisy, axis)
    return SemiLinearSDE(
        _no_propagator,
        time_clock(start, end) if clock is None else _clock(clock, times),
        coefficients=lambda t: (drift(t), weight(t), diffusion(t)),
        span=(start, end),
        name=name or f"{k} x {k} blocks on [{start:g}, {end:g}]{', own clock' if clock else ''}",
        blocks=system,
    )


def _no_propagator(t: Tensor) -> Tensor:
    raise ValueError("Equations with matrices have no scalar propagator; plans have the matrices.")


def _clock(clock: Any, times: Tensor) -> Clock:
    start, end = times[0].item(), times[-1].item()
    mu = on_tensors("clock", clock, start + 0.618 * (end - start))
    rise = mu(times).diff()
    wrong = torch.nonzero(~(torch.isfinite(rise) & (rise > 0)))
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            "The clock must be finite and increase along the integration, but from t = "
            f"{times[i].item():.6g} to {times[i + 1].item():.6g} it rises by {rise[i].item():.6g}."
        )
    elapsed = time_clock(start, end).mu  # refuses times outside the span
    time = lambda value: invert_monotone(mu, value, start, end)  # noqa: E731
    return Clock(lambda t: mu(t) + 0.0 * elapsed(t), time, 0.0)
