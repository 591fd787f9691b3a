"""Exponential schemes of strong order 3/2: they use the space-time integral of the path, and two
Gaussians per step.
"""

from fractions import Fraction

from expint.solvers.tableau import Stage, Tableau, Term

_ONE = Fraction(1)


def seeds_sra() -> Tableau:
    """3/4 ← {0} with noise a (3/2) U/Δτ; 1 ← {0, 3/4}.

    Source: SRA1 of Rößler, SIAM J. Numer. Anal. 48 (2010), section 6.2, in exponential form. The
    factor 3/2 is the limit for h → 0 of 2 (τ_i − τ_s)/Δτ, which makes the covariance of stage and
    step noise exact for every clock.
    """
    stages = (
        Stage(Fraction(3, 4), through=(0,), increment_weight=Fraction(0)),
        Stage(_ONE, through=(0, 1)),
    )
    return Tableau("seeds-sra", stages, "exponential form of SRA1, Roessler, SINUM 48 (2010)")


def seeds_sra3() -> Tableau:
    """1/3 ← {0}, increment weight 2/9; 5/6 ← F_0 and (5/2) φ_2 F_1, increment weight −5/18;
    1 ← {0, 1/3, 5/6}.

    With the last row interpolating through nodes c_2, c_3, deterministic order 3 fixes a_32 =
    φ_2(c_3 z)/(3 b_3 c_2). The conditions of strong order 3/2 leave the weights of the increment
    p_i = ±s/b_i with s² (1/b_2 + 1/b_3) − 2 s (c_2 − c_3) = 1/6; these nodes are the simplest with
    positive weights, (1/10, 1/2, 2/5), for which s is rational (s = 1/9).

    Source: derived here from the conditions in `expint.solvers.order_conditions`.
    """
    c2, c3 = Fraction(1, 3), Fraction(5, 6)
    slope = Term(Fraction(5, 2), 2, c3)
    weights = {0: (Term(c3, 1, c3), slope._replace(q=-slope.q)), 1: (slope,)}
    stages = (
        Stage(c2, through=(0,), increment_weight=Fraction(2, 9)),
        Stage(c3, weights=weights, increment_weight=Fraction(-5, 18)),
        Stage(_ONE, through=(0, 1, 2)),
    )
    source = "expint, from the order conditions of Luan & Ostermann (2013) and Roessler (2010)"
    return Tableau("seeds-sra3", stages, source)
