"""Where a point of a Brownian path lies, and which combination of the path's random variables its
value and integral are.

One side of the path is B(x), x = |τ| > 0. It is laid out in u = log x: leaf j is the interval [x_j,
x_{j+1}], x_j = e^{j/resolution}, of length Δ. With θ = (x − x_j)/Δ and q = θ(1 − θ), the bridge β =
B − (its chord) on a leaf is Gaussian with

    Var β_θ = Δ q,   Var ∫_0^1 β = Δ³/12 (in x),   Cov(β_θ, ∫_0^1 β) = Δ² q/2,
    J_θ = ∫_0^θ β:   Var J_θ = Δ³ (θ³/3 − θ⁴/4),   Cov(J_θ, ∫_0^1 β) = Δ³ (θ²/4 − θ³/6),   Cov(β_θ,
    J_θ) = Δ² (1−θ) θ²/2.

Conditioning (β_θ, J_θ) on the whole integral ∫_0^1 β = √(Δ³/12) R and factoring what remains by
Cholesky gives, with three standard normals R, Z₁, Z₂ per leaf,

    β_θ = √Δ [√3 q R + √(q (1 − 3q)) Z₁],
    (1) J_θ = √Δ³ [√12 (θ²/4 − θ³/6) R + q^{3/2} (1 − 2θ) / (2√(1 − 3q)) Z₁ + q^{3/2} / √(12 (1 −
    3q)) Z₂].             (2)

Source: the bridge moments are elementary integrals of min(s, t) − s t; the coefficients are derived
here.
"""

import math
from typing import NamedTuple

# Random variables by kind: X_j = B(x_j)/√x_j at the left end of leaf j, and the normals R, Z₁, Z₂
# of leaf j.
END, WHOLE, VALUE, PARTIAL = range(4)

Terms = dict[tuple[int, int], float]
"""A linear combination: {(j, kind): coefficient}."""

# An integral from 0, or over more e-folds than this, leaves out what lies further down: about
# e^(−37.5) < 1e-16 of the rest.
_FOLDS = 25


class Leaf(NamedTuple):
    """Leaf j: its two ends as √x_j and √x_{j+1}, and its length Δ as √Δ."""

    j: int
    root_left: float
    root_right: float
    root_length: float


def _leaf(j: int, resolution: int) -> Leaf:
    root_left = math.exp(0.5 * j / resolution)
    growth = math.expm1(1.0 / resolution)
    return Leaf(j, root_left, root_left * math.sqrt(1.0 + growth), root_left * math.sqrt(growth))


def leaf_of(x: float, resolution: int) -> tuple[int, float]:
    """The leaf that x > 0 lies in and its place θ there."""
    j = math.floor(math.log(x) * resolution)
    # The quotient, not the difference of logarithms, keeps neighbouring floats in order. The
    # logarithm may be off by an ulp.
    theta = (x / math.exp(j / resolution) - 1.0) / math.expm1(1.0 / resolution)
    return j, min(max(theta, 0.0), 1.0)


def value_terms(x: float, resolution: int) -> Terms:
    """B(x): the chord between the leaf's ends plus (1)."""
    j, theta = leaf_of(x, resolution)
    leaf = _leaf(j, resolution)
    q = theta * (1.0 - theta)
    return {
        (j, END): leaf.root_left * (1.0 - theta),
        (j + 1, END): leaf.root_right * theta,
        (j, WHOLE): leaf.root_length * math.sqrt(3.0) * q,
        (j, VALUE): leaf.root_length * math.sqrt(q * (1.0 - 3.0 * q)),
    }


def integral_terms(low: float, high: float, resolution: int) -> Terms:
    """∫_low^high B(x) dx, 0 ≤ low ≤ high, summed over the leaves."""
    terms: Terms = {}
    if not low < high:
        return terms
    last, theta_high = leaf_of(high, resolution)
    first, theta_low = leaf_of(low, resolution) if low > 0.0 else (-math.inf, 0.0)
    if first < last - _FOLDS * resolution:
        first, theta_low = last - _FOLDS * resolution, 0.0
    for j in range(int(first), last + 1):
        leaf = _leaf(j, resolution)
        upper = _partial(leaf, theta_high if j == last else 1.0)
        lower = _partial(leaf, theta_low if j == first else 0.0)
        for key, a, b in zip(
            ((j, END), (j + 1, END), (j, WHOLE), (j, VALUE), (j, PARTIAL)),
            upper,
            lower,
            strict=True,
        ):
            terms[key] = terms.get(key, 0.0) + (a - b)
    return terms


def _partial(leaf: Leaf, theta: float) -> tuple[float, float, float, float, float]:
    """∫ of B over the part [0, θ] of a leaf: coefficients of X_j, X_{j+1}, R, Z₁, Z₂.

    Chord plus (2).
    """
    length = leaf.root_length * leaf.root_length
    area = length * leaf.root_length
    q = theta * (1.0 - theta)
    rest = q * math.sqrt(q / (1.0 - 3.0 * q))
    return (
        length * leaf.root_left * theta * (1.0 - 0.5 * theta),
        length * leaf.root_right * 0.5 * theta * theta,
        area * math.sqrt(12.0) * theta * theta * (0.25 - theta / 6.0),
        area * rest * (0.5 - theta),
        area * rest / math.sqrt(12.0),
    )
