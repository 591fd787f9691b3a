"""The one helper that turns interpolation nodes into φ-weights."""

from collections.abc import Sequence
from math import factorial
from typing import Any


def lagrange_coefficients(nodes: Sequence[Any]) -> list[list[Any]]:
    """Monomial coefficients of the Lagrange basis: L_j(θ) = Σ_m c_jm θ^m, 1 at node j and 0 at the
    others.

    Args:
        nodes: distinct positions: Fractions (exact result), floats or tensors.

    Returns:
        The rows c_j, lowest power first.
    """
    basis = []
    for j, node in enumerate(nodes):
        polynomial: list[Any] = [1]
        for i, other in enumerate(nodes):
            if i != j:  # multiply by (θ − other)/(node − other)
                raised, scaled = [0, *polynomial], [-other * c for c in polynomial] + [0]
                polynomial = [(a + b) / (node - other) for a, b in zip(raised, scaled, strict=True)]
        basis.append(polynomial)
    return basis


def interpolation_weights(target: Any, nodes: Sequence[Any]) -> list[list[tuple[Any, int]]]:
    """Weights of an interpolatory row: F is replaced by the polynomial through `nodes` and
    integrated exactly to `target`.

    With θ = (μ − μ_s)/h the moment of θ^m under the exponential weight is m! c^{m+1} φ_{m+1}(c z),
    z = −ρh, c = `target`, so that

        b_j = Σ_m ℓ_{jm} m! c^{m+1} φ_{m+1}(c z),    L_j(θ) = Σ_m ℓ_{jm} θ^m.

    Args:
        target: position c of the state to be produced, in units of the step.
        nodes: positions of the interpolation nodes; negative ones are earlier steps.

    Returns:
        For each node the list of (q, k) with b_j = Σ q φ_k(c z).
    """
    return moment_weights(target, lagrange_coefficients(nodes))


def moment_weights(
    target: Any, polynomials: Sequence[Sequence[Any]]
) -> list[list[tuple[Any, int]]]:
    """The exact integral of each polynomial in θ up to `target`, as (q, k) with Σ q φ_k(target ·
    z).
    """
    return [
        [
            (coefficient * factorial(m) * target ** (m + 1), m + 1)
            for m, coefficient in enumerate(row)
        ]
        for row in polynomials
    ]
