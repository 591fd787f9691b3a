"""SEEDS-1, -2 and -3 (at ℓ = 0: DPM-Solver-1, -2 and -3) as tableaus."""

from fractions import Fraction

from expint.solvers.tableau import Number, Stage, Tableau, Term, rational

_ONE = Fraction(1)


def seeds1() -> Tableau:
    """1 ← {0}. Source: SEEDS, arXiv 2305.14267, eq. (13); at ℓ = 0 DDIM, arXiv 2010.02502."""
    return Tableau(
        "seeds-1", (Stage(_ONE, through=(0,)),), "SEEDS-1, arXiv 2305.14267; DDIM, arXiv 2010.02502"
    )


def seeds2(c: Number = Fraction(1, 2)) -> Tableau:
    """c ← {0}; 1 ← (1 − 1/(2c)) φ_1 F_0 + 1/(2c) φ_1 F_c, which for c = 1/2 is the interpolatory
    row 1 ← {c}.

    Args:
        c: node of the stage, 0 < c ≤ 1.

    Source: SEEDS, arXiv 2305.14267, algorithm 3; DPM-Solver, arXiv 2206.00927, algorithm 1.
    """
    node = rational(c)
    if not 0 < node <= 1:
        raise ValueError(f"seeds-2 needs a node with 0 < c <= 1, got {c!r}.")
    late = 1 / (2 * node)
    weights = {0: (Term(1 - late, 1, _ONE),), 1: (Term(late, 1, _ONE),)}
    plain = node == Fraction(1, 2)
    final = Stage(_ONE, through=(1,)) if plain else Stage(_ONE, weights=weights)
    source = "SEEDS-2, arXiv 2305.14267; DPM-Solver-2, arXiv 2206.00927"
    return Tableau("seeds-2", (Stage(node, through=(0,)), final), source)


def _three_stage_nodes(name: str, r1: Number, r2: Number) -> tuple[Fraction, Fraction]:
    first, second = rational(r1), rational(r2)
    if not 0 < first < second <= 1:
        raise ValueError(f"{name} needs nodes with 0 < r1 < r2 <= 1, got r1={r1!r} and r2={r2!r}.")
    return first, second


def seeds3(
    r1: Number = Fraction(1, 3), r2: Number = Fraction(2, 3), *, published_row: bool = False
) -> Tableau:
    """r1 ← {0}; r2 ← {0, r1}; 1 ← {0, r2}, which is of order 3 for r2 = 2/3.

    For other r2 the last two rows are those of Luan & Ostermann, of order 3 for all nodes but r1 =
    2/3:

        2(γ r1 + r2) = 3(γ r1² + r2²),    a_32 = γ r1 φ_2(r1 z) + (r2²/r1) φ_2(r2 z),
        b_2 = γ φ_2/(γ r1 + r2),    b_3 = φ_2/(γ r1 + r2).

    Args:
        r1, r2: nodes, 0 < r1 < r2 ≤ 1.
        published_row: keep the rows r2 ← {0, r1}; 1 ← {0, r2} as published also where they are of
            order 2 only.

    Source: SEEDS, arXiv 2305.14267, algorithm 4; DPM-Solver, arXiv 2206.00927, algorithm 2; Luan &
    Ostermann, SINUM 2013.
    """
    c2, c3 = _three_stage_nodes("seeds-3", r1, r2)
    source = "SEEDS-3, arXiv 2305.14267; DPM-Solver-3, arXiv 2206.00927"
    stages = (Stage(c2, through=(0,)), Stage(c3, through=(0, 1)), Stage(_ONE, through=(0, 2)))
    if not published_row and c3 != Fraction(2, 3):
        stages = (stages[0], *_luan_ostermann(c2, c3))
        source += "; rows of Luan & Ostermann, SINUM 2013"
    return Tableau("seeds-3", stages, source)


def _luan_ostermann(c2: Fraction, c3: Fraction) -> tuple[Stage, Stage]:
    """The last two rows of the schemes of order 3."""
    if c2 == Fraction(2, 3):
        raise ValueError(
            "seeds-3 with r1 = 2/3 has no third-order row: choose another r1, or "
            "published_row=True."
        )
    gamma = c3 * (3 * c3 - 2) / (c2 * (2 - 3 * c2))
    weight = 1 / (gamma * c2 + c3)
    slope = (Term(gamma * c2, 2, c2), Term(c3**2 / c2, 2, c3))
    second = Stage(c3, weights={0: (Term(c3, 1, c3), *_negated(slope)), 1: slope})
    middle, late = (Term(gamma * weight, 2, _ONE),), (Term(weight, 2, _ONE),)
    first = (Term(_ONE, 1, _ONE), *_negated(middle), *_negated(late))
    return second, Stage(_ONE, weights={0: first, 1: middle, 2: late})


def seeds3b(r1: Number = Fraction(1, 3), r2: Number = Fraction(2, 3)) -> Tableau:
    """r1 ← {0}; r2 ← {0, r1}; 1 ← {0, r1, r2}: of order 3 for r2 = 2/3; for other r2 of order 2, as
    the stage at r1 gets weight.

    Args:
        r1, r2: nodes, 0 < r1 < r2 ≤ 1.

    Source: SEEDS, arXiv 2305.14267, appendix; Hochbruck & Ostermann, Acta Numerica 2010.
    """
    c2, c3 = _three_stage_nodes("seeds-3b", r1, r2)
    stages = (Stage(c2, through=(0,)), Stage(c3, through=(0, 1)), Stage(_ONE, through=(0, 1, 2)))
    return Tableau(
        "seeds-3b", stages, "arXiv 2305.14267, appendix; Hochbruck & Ostermann, Acta Numerica 2010"
    )


def _negated(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    return tuple(Term(-term.q, term.k, term.scale) for term in terms)
