"""Multistep schemes: earlier steps give the polynomial that is integrated. One evaluation per step,
steps of any length."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, Unpack

from expint.registry import check_choice
from expint.schedules import Schedule
from expint.solvers.interpolation import lagrange_coefficients
from expint.solvers.method import EndSettings, Method
from expint.solvers.seeds import seeds2, seeds3
from expint.solvers.tableau import Stage, Tableau

_ONE = Fraction(1)
STARTS = ("growing", "one-step")


def seeds_ab(order: int = 2, start: str = "growing", **settings: Any) -> Method:
    """1 ← {0, −1, …}: the exponential Adams–Bashforth scheme of `order` nodes, in every form and at
    any ℓ.

    Args:
        order: number of nodes, 1 to 4; the deterministic order in a full step.
        start: "growing": the first steps use as many nodes as there are, so that the first has
            order 1 and the scheme order at most 2. "one-step": they are SEEDS-2 or SEEDS-3 steps,
            which keep the order.
        settings: of the `Method`.

    Source: SEEDS, arXiv 2305.14267, section 4 with history nodes; Hochbruck & Ostermann, Acta
    Numerica 2010, section 2.5.
    """
    source = "exponential Adams-Bashforth, Hochbruck & Ostermann, Acta Numerica 2010"
    tableau = Tableau(f"seeds-ab{order}", (_adams(order),), source)
    return Method(tableau, start_up=_start_up(order, start), **settings)


def _adams(order: int, **kind: Any) -> Stage:
    check_choice("order, the number of nodes,", order, range(1, 5))
    return Stage(_ONE, through=tuple(-j for j in range(order)), **kind)


def _start_up(order: int, start: str) -> tuple[Tableau, ...]:
    check_choice("start", start, STARTS)
    if start == "growing" or order < 3:
        return ()
    return (seeds2(),) * 2 if order == 3 else (seeds3(),) * 3


def _midpoint(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
    """The interpolation polynomial's value in the middle of the step, for the whole step."""
    rows = lagrange_coefficients(nodes)
    return [[sum(q * (c / 2) ** m for m, q in enumerate(row))] for row in rows]


def dpmpp_2m(lower_order_final: bool = False) -> Method:
    """1 ← φ_1 · (value at the middle of the step of the line through 0 and −1), data form, ℓ = 0.

    Args:
        lower_order_final: the last step is of order 1, as the authors do in runs of fewer than 10
            steps that end at σ > 0.

    Source: DPM-Solver++, arXiv 2211.01095, algorithm 2.
    """
    source = "DPM-Solver++, arXiv 2211.01095, algorithm 2"
    tableau = Tableau("dpmpp-2m", (_adams(2, basis=_midpoint),), source)
    return Method(tableau, ell=0.0, lower_order_final=lower_order_final)


def dpmpp_2m_sde(variant: str = "midpoint") -> Tableau:
    """The same in the data form at ℓ = 1.

    Args:
        variant: "midpoint" as `dpmpp_2m`; "heun" integrates the line exactly, as `seeds_ab(2)`
            does.

    Source: DPM-Solver++, arXiv 2211.01095, appendix; the variants are those of k-diffusion.
    """
    check_choice("variant", variant, ("midpoint", "heun"))
    stage = _adams(2, basis=_midpoint if variant == "midpoint" else None)
    return Tableau("dpmpp-2m-sde", (stage,), "DPM-Solver++, arXiv 2211.01095, appendix")


def _half_curvature(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
    """The interpolation polynomial with half its quadratic term."""
    rows = lagrange_coefficients(nodes)
    return [[q / 2 if m == 2 else q for m, q in enumerate(row)] for row in rows]


def dpmpp_3m_sde(published: bool = False, start: str = "growing") -> Method:
    """1 ← {0, −1, −2} in the data form at ℓ = 1.

    Args:
        published: the scheme of k-diffusion and others, which lacks a factor 2 on the second
            difference and is of order 2.
        start: as for `seeds_ab`.

    Source: k-diffusion's dpmpp_3m_sde; corrected.
    """
    stage = _adams(3, basis=_half_curvature if published else None)
    tableau = Tableau("dpmpp-3m-sde", (stage,), "k-diffusion, corrected")
    return Method(tableau, start_up=_start_up(3, start))


def deis(
    order: int = 3,
    variable: str | Schedule = "time",
    start: str = "growing",
    **settings: Unpack[EndSettings],
) -> Method:
    """DEIS tAB: the noise prediction as a polynomial in time (or σ, or λ), integrated in σ; noise
    form, ℓ = 0.

    Args:
        order: number of nodes, 1 to 4. (The paper's tAB-k has k + 1 nodes.)
        variable: "time" is the paper's tAB; "sigma" its ρAB; "clock" is a polynomial in λ, as in
            diffusers; a schedule: its time.
        start: as for `seeds_ab`.
        settings: `lower_order_final`: the order falls to 1 towards the last step.

    Source: DEIS, arXiv 2204.13902, eq. (14) and (15).
    """
    source = "DEIS, arXiv 2204.13902, eq. (15)"
    tableau = Tableau(f"deis-tab{order}", (_adams(order),), source, variable=variable)
    return Method(tableau, form="noise", ell=0.0, start_up=_start_up(order, start), **settings)


def _constants(
    rows: Mapping[int, Sequence[Fraction]],
) -> Callable[[Any, Sequence[Any]], list[list[Any]]]:
    return partial(_constant_rows, rows)


def _constant_rows(rows: Any, c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
    return [[q] for q in rows[len(nodes)]]


# Adams–Bashforth for equal steps, by the number of nodes, the latest first.
_ADAMS = {
    n: [Fraction(q, denominator) for q in numerators]
    for n, denominator, numerators in (
        (1, 1, (1,)),
        (2, 2, (3, -1)),
        (3, 12, (23, -16, 5)),
        (4, 24, (55, -59, 37, -9)),
    )
}


def ipndm(order: int = 4) -> Method:
    """1 ← φ_1 Σ a_j F_{−j} with the constants of Adams–Bashforth for equal steps; noise form, ℓ =
    0.

    The constants are right for steps that are equal in σ; on other grids the order is at most 2,
    and 1 where the steps vary.

    Args:
        order: number of nodes, 1 to 4.

    Source: iPNDM, in DEIS, arXiv 2204.13902, appendix; PNDM, arXiv 2202.09778.
    """
    stage = _adams(order, basis=_constants(_ADAMS))
    tableau = Tableau("ipndm", (stage,), "DEIS, arXiv 2204.13902, appendix")
    return Method(tableau, form="noise", ell=0.0)


def pndm() -> Method:
    """Three steps of the pseudo Runge–Kutta scheme, 4 evaluations each, then iPNDM of order 4;
    nodes half-way in time.

    Source: PNDM, arXiv 2202.09778, eq. (12) and (13) and algorithm 2.
    """
    half, sixth = Fraction(1, 2), Fraction(1, 6)
    stages = (
        Stage(half, through=(0,), rule=_by_phi_1(_ONE)),
        Stage(half, through=(1,), rule=_by_phi_1(_ONE)),
        Stage(_ONE, through=(2,), rule=_by_phi_1(_ONE)),
        Stage(_ONE, through=(0, 1, 2, 3), rule=_by_phi_1(sixth, 2 * sixth, 2 * sixth, sixth)),
    )
    source = "PNDM, arXiv 2202.09778, algorithm 2"
    first = Tableau("pndm", stages, source, variable="time")
    tableau = Tableau("pndm", (_adams(4, basis=_constants(_ADAMS)),), source)
    return Method(tableau, form="noise", ell=0.0, start_up=(first,) * 3)


def _by_phi_1(*constants: Fraction) -> Any:
    """A rule: the same F over the whole way to the stage."""
    return partial(_phi_1_rows, constants)


def _phi_1_rows(constants: Any, c: Any, nodes: Sequence[Any]) -> list[list[tuple[Any, int]]]:
    exact = isinstance(c, Fraction)
    return [[((q if exact else float(q)) * c, 1)] for q in constants]


def lms(order: int = 4, start: str = "growing") -> Method:
    """Adams–Bashforth in σ with the true lengths of the steps, ℓ = 0.

    Args:
        order: number of nodes, 1 to 4.
        start: as for `seeds_ab`.

    Source: k-diffusion's lms; Hairer, Nørsett & Wanner I, section III.5.
    """
    source = "k-diffusion; Hairer, Norsett & Wanner I, III.5"
    return seeds_ab(order, start, name="lms", source=source, form="sigma", ell=0.0)


def _divided_differences(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
    """F + θ d_1 + θ² d_2 with the divided differences d_1, d_2 of the last nodes taken for the
    derivatives at 0."""
    if len(nodes) < 3:
        return [[1]] if len(nodes) == 1 else [[1, -1 / nodes[1]], [0, 1 / nodes[1]]]
    # of F_0, F_−1, F_−2 in d_1 = (F_0 − F_−1)/(0 − θ_−1)
    first = [-1 / nodes[1], 1 / nodes[1], 0]
    before = [0, 1 / (nodes[1] - nodes[2]), -1 / (nodes[1] - nodes[2])]
    second = [(b - a) / nodes[2] for a, b in zip(first, before, strict=True)]
    return [list(row) for row in zip((1, 0, 0), first, second, strict=True)]


def er_sde(order: int = 3, newton: bool = False, noise_scale: Any = "exp-0.3") -> Method:
    """ER-SDE-Solver: D as a polynomial in σ with derivatives from divided differences, integrated
    exactly against 1/φ(σ).

    Args:
        order: 1, 2 or 3 evaluations.
        newton: for order 3, take the interpolation polynomial through the three evaluations, of
            order 3. The published scheme takes the first divided difference for the derivative at
            the start, which leaves it at order 2.
        noise_scale: φ(σ), see `expint.equations.noise_scales`.

    Source: ER-SDE-Solver, arXiv 2309.06169, algorithms 1 to 3; its integrals by Gauss–Legendre
    quadrature.
    """
    stage = _adams(order, basis=None if newton else _divided_differences)
    source = f"ER-SDE-Solver, arXiv 2309.06169, algorithm {order}"
    tableau = Tableau(f"er-sde-{order}", (stage,), source, variable="sigma")
    return Method(tableau, noise_scale=noise_scale)
