"""Multistep schemes: earlier steps give the polynomial that is integrated.

One evaluation per step, steps of any length.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from expint.schedules import Schedule
from expint.solvers.interpolation import lagrange_coefficients
from expint.solvers.registry import register
from expint.solvers.seeds import seeds2, seeds3
from expint.solvers.tableau import Stage, Tableau

__all__ = [
    "deis",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "er_sde",
    "ipndm",
    "lms",
    "pndm",
    "seeds_ab",
]

_ONE = Fraction(1)
STARTS = ("growing", "one-step")


def seeds_ab(order: int = 2, start: str = "growing", **settings: Any) -> Tableau:
    """1 ← {0, −1, …}: the exponential Adams–Bashforth scheme of `order` nodes, in every form and at
    any ℓ.

    Args:
        order: number of nodes, 1 to 4; the deterministic order in a full step.
        start: "growing": the first steps use as many nodes as there are, so that the first has
            order 1 and the scheme order at most 2. "one-step": they are SEEDS-2 or SEEDS-3 steps,
            which keep the order.
        settings: of the `Tableau`.

    Source: SEEDS, arXiv 2305.14267, section 4 with history nodes; Hochbruck & Ostermann, Acta
    Numerica 2010, section 2.5.
    """
    name = settings.pop("name", f"seeds-ab{order}")
    first = _start(name, order, start)
    source = settings.pop(
        "source", "exponential Adams-Bashforth, Hochbruck & Ostermann, Acta Numerica 2010"
    )
    return Tableau(name, (_adams(order),), source, start=first, **settings)


def _adams(order: int, **kind: Any) -> Stage:
    if not (isinstance(order, int) and 1 <= order <= 4):
        raise ValueError(f"order is the number of nodes, an integer from 1 to 4, got {order!r}.")
    return Stage(_ONE, through=tuple(-j for j in range(order)), **kind)


def _start(name: str, order: int, start: str) -> tuple[Tableau, ...]:
    if start not in STARTS:
        raise ValueError(f"{name} starts {' or '.join(map(repr, STARTS))}, got {start!r}.")
    if start == "growing" or order < 3:
        return ()
    return (seeds2(), seeds2()) if order == 3 else (seeds3(), seeds3(), seeds3())


@register(
    "seeds-ab2",
    (
        "two-step Adams-Bashforth in every form; in data form at ell=1 SDE-DPM-Solver++(2M), heun "
        "variant"
    ),
)
def _seeds_ab2(start: str = "growing") -> Tableau:
    return seeds_ab(2, start)


@register("seeds-ab3", "three-step Adams-Bashforth in every form")
def _seeds_ab3(start: str = "growing") -> Tableau:
    return seeds_ab(3, start)


@register("seeds-ab4", "four-step Adams-Bashforth in every form")
def _seeds_ab4(start: str = "growing") -> Tableau:
    return seeds_ab(4, start)


def _midpoint(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
    """The interpolation polynomial's value in the middle of the step, for the whole step."""
    return [
        [sum(q * (c / 2) ** m for m, q in enumerate(row))] for row in lagrange_coefficients(nodes)
    ]


@register("dpmpp-2m", "DPM-Solver++(2M)")
def dpmpp_2m(lower_order_final: bool = False) -> Tableau:
    """1 ← φ_1 · (value at the middle of the step of the line through 0 and −1), data form, ℓ = 0.

    Args:
        lower_order_final: the last step is of order 1, as the authors do in runs of fewer than 10
            steps that end at σ > 0.

    Source: DPM-Solver++, arXiv 2211.01095, algorithm 2.
    """
    source = "DPM-Solver++, arXiv 2211.01095, algorithm 2"
    return Tableau(
        "dpmpp-2m", (_adams(2, basis=_midpoint),), source, ell=0.0, shrink=lower_order_final
    )


@register("dpmpp-2m-sde", "SDE-DPM-Solver++(2M), midpoint or heun")
def dpmpp_2m_sde(variant: str = "midpoint") -> Tableau:
    """The same in the data form at ℓ = 1.

    Args:
        variant: "midpoint" as `dpmpp_2m`; "heun" integrates the line exactly, as `seeds_ab(2)`
            does.

    Source: DPM-Solver++, arXiv 2211.01095, appendix; the variants are those of k-diffusion.
    """
    if variant not in ("midpoint", "heun"):
        raise ValueError(f"dpmpp-2m-sde has the variants 'midpoint' and 'heun', got {variant!r}.")
    stage = _adams(2, basis=_midpoint if variant == "midpoint" else None)
    return Tableau("dpmpp-2m-sde", (stage,), "DPM-Solver++, arXiv 2211.01095, appendix")


def _half_curvature(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
    """The interpolation polynomial with half its quadratic term."""
    return [
        [q / 2 if m == 2 else q for m, q in enumerate(row)] for row in lagrange_coefficients(nodes)
    ]


@register("dpmpp-3m-sde", "SDE-DPM-Solver++(3M), with the right second difference")
def dpmpp_3m_sde(published: bool = False, start: str = "growing") -> Tableau:
    """1 ← {0, −1, −2} in the data form at ℓ = 1.

    Args:
        published: the scheme of k-diffusion and others, which lacks a factor 2 on the second
            difference and is of order 2.
        start: as for `seeds_ab`.

    Source: k-diffusion's dpmpp_3m_sde; corrected.
    """
    stage = _adams(3, basis=_half_curvature if published else None)
    return Tableau(
        "dpmpp-3m-sde", (stage,), "k-diffusion, corrected", start=_start("dpmpp-3m-sde", 3, start)
    )


def deis(
    order: int = 3,
    variable: str | Schedule = "time",
    start: str = "growing",
    lower_order_final: bool = False,
) -> Tableau:
    """DEIS tAB: the noise prediction as a polynomial in time (or σ, or λ), integrated in σ; noise
    form, ℓ = 0.

    Args:
        order: number of nodes, 1 to 4. (The paper's tAB-k has k + 1 nodes.)
        variable: "time" is the paper's tAB; "sigma" its ρAB; "clock" is a polynomial in λ, as in
            diffusers; a schedule: its time.
        start: as for `seeds_ab`.
        lower_order_final: the order falls to 1 towards the last step.

    Source: DEIS, arXiv 2204.13902, eq. (14) and (15).
    """
    name = f"deis-tab{order}"
    return Tableau(
        name,
        (_adams(order),),
        "DEIS, arXiv 2204.13902, eq. (15)",
        form="noise",
        ell=0.0,
        variable=variable,
        start=_start(name, order, start),
        shrink=lower_order_final,
    )


@register("deis-tab1", "DEIS tAB with one node: DDIM")
def _deis_tab1(variable: str | Schedule = "time") -> Tableau:
    return deis(1, variable)


@register("deis-tab2", "DEIS tAB with two nodes")
def _deis_tab2(variable: str | Schedule = "time", lower_order_final: bool = False) -> Tableau:
    return deis(2, variable, lower_order_final=lower_order_final)


@register("deis-tab3", "DEIS tAB with three nodes")
def _deis_tab3(
    variable: str | Schedule = "time", start: str = "growing", lower_order_final: bool = False
) -> Tableau:
    return deis(3, variable, start, lower_order_final)


def _constants(
    rows: Mapping[int, Sequence[Fraction]],
) -> Callable[[Any, Sequence[Any]], list[list[Any]]]:
    return lambda c, nodes: [[q] for q in rows[len(nodes)]]


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


@register("ipndm", "iPNDM: Adams-Bashforth constants whatever the lengths of the steps")
def ipndm(order: int = 4) -> Tableau:
    """1 ← φ_1 Σ a_j F_{−j} with the constants of Adams–Bashforth for equal steps; noise form, ℓ =
    0.

    The constants are right for steps that are equal in σ; on other grids the order is at most 2,
    and 1 where the steps vary.

    Args:
        order: number of nodes, 1 to 4.

    Source: iPNDM, in DEIS, arXiv 2204.13902, appendix; PNDM, arXiv 2202.09778.
    """
    return Tableau(
        "ipndm",
        (_adams(order, basis=_constants(_ADAMS)),),
        "DEIS, arXiv 2204.13902, appendix",
        form="noise",
        ell=0.0,
    )


@register("pndm", "PNDM (F-PNDM): pseudo Runge-Kutta start, then Adams-Bashforth constants")
def pndm() -> Tableau:
    """Three steps of the pseudo Runge–Kutta scheme, 4 evaluations each, then iPNDM of order 4;
    nodes half-way in time.

    Source: PNDM, arXiv 2202.09778, eq. (12) and (13) and algorithm 2.
    """
    half, sixth = Fraction(1, 2), Fraction(1, 6)

    def alone(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
        return [[1]]

    def runge_kutta(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
        return [[sixth], [2 * sixth], [2 * sixth], [sixth]]

    source = "PNDM, arXiv 2202.09778, algorithm 2"
    stages = (
        Stage(half, through=(0,), rule=_by_phi_1(alone)),
        Stage(half, through=(1,), rule=_by_phi_1(alone)),
        Stage(_ONE, through=(2,), rule=_by_phi_1(alone)),
        Stage(_ONE, through=(0, 1, 2, 3), rule=_by_phi_1(runge_kutta)),
    )
    first = Tableau("pndm", stages, source, form="noise", ell=0.0, variable="time")
    return Tableau(
        "pndm",
        (_adams(4, basis=_constants(_ADAMS)),),
        source,
        form="noise",
        ell=0.0,
        start=(first, first, first),
    )


def _by_phi_1(constants: Callable[[Any, Sequence[Any]], list[list[Any]]]) -> Any:
    """A rule: the same F over the whole way to the stage."""
    return lambda c, nodes: [[(_like(row[0], c) * c, 1)] for row in constants(c, nodes)]


def _like(q: Any, c: Any) -> Any:
    return q if isinstance(c, Fraction) else float(q)


@register("lms", "linear multistep in sigma (k-diffusion's lms)")
def lms(order: int = 4, start: str = "growing") -> Tableau:
    """Adams–Bashforth in σ with the true lengths of the steps, ℓ = 0.

    Args:
        order: number of nodes, 1 to 4.
        start: as for `seeds_ab`.

    Source: k-diffusion's lms; Hairer, Nørsett & Wanner I, section III.5.
    """
    return seeds_ab(
        order,
        start,
        name="lms",
        source="k-diffusion; Hairer, Norsett & Wanner I, III.5",
        form="sigma",
        ell=0.0,
    )


def _divided_differences(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
    """F + θ d_1 + θ² d_2 with the divided differences d_1, d_2 of the last nodes taken for the
    derivatives at 0.
    """
    rows: list[list[Any]] = [[1]] if len(nodes) == 1 else [[1, -1 / nodes[1]], [0, 1 / nodes[1]]]
    if len(nodes) < 3:
        return rows
    first = [-1 / nodes[1], 1 / nodes[1], 0]  # of F_0, F_−1, F_−2 in d_1 = (F_0 − F_−1)/(0 − θ_−1)
    before = [0, 1 / (nodes[1] - nodes[2]), -1 / (nodes[1] - nodes[2])]
    second = [(b - a) / nodes[2] for a, b in zip(first, before, strict=True)]
    return [[one, slope, curve] for one, slope, curve in zip((1, 0, 0), first, second, strict=True)]


def er_sde(order: int = 3, newton: bool = False, noise_scale: Any = "exp-0.3") -> Tableau:
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
    basis = None if newton else _divided_differences
    return Tableau(
        f"er-sde-{order}",
        (_adams(order, basis=basis),),
        f"ER-SDE-Solver, arXiv 2309.06169, algorithm {order}",
        variable="sigma",
        noise_scale=noise_scale,
    )


@register("er-sde-1", "ER-SDE-Solver-1, noise scale x(exp(x^0.3)+10)")
def _er_sde_1(noise_scale: Any = "exp-0.3") -> Tableau:
    return er_sde(1, noise_scale=noise_scale)


@register("er-sde-2", "ER-SDE-Solver-2, with exact integrals")
def _er_sde_2(noise_scale: Any = "exp-0.3") -> Tableau:
    return er_sde(2, noise_scale=noise_scale)


@register("er-sde-3", "ER-SDE-Solver-3, with exact integrals")
def _er_sde_3(newton: bool = False, noise_scale: Any = "exp-0.3") -> Tableau:
    return er_sde(3, newton, noise_scale)
