"""Taylor methods: instead of earlier or interior evaluations, derivatives of F along the
solution.
"""

from fractions import Fraction

from expint.solvers.method import Method
from expint.solvers.tableau import Stage, Tableau, Term

_ONE = Fraction(1)


def taylor2() -> Method:
    """Second-order Taylor method for the probability-flow ODE (ℓ = 0), by a Jacobian-vector product
    through the network:

        x_t = (a_t/a_s) x_s + κ a_t e^{ρμ_t} h [φ_1(z) F_s + h φ_2(z) (dF/dμ)_s],    z = −ρh,

    with dF/dμ the total derivative along the ODE. For F = ε in the clock σ (ρ = 0) it is the
    truncated Taylor method that GENIE distils, x_t/α_t = x_s/α_s + Δσ ε + ½ (Δσ)² dε/dσ; here the
    linear part is exact in every form.

    It takes an evaluation and a Jacobian-vector product per step, counted as two evaluations; the
    product costs about as much as two. The network must be differentiable in forward mode, in its
    time too (`expint.runs.forward_mode.along`).

    Source: Dockhorn, Vahdat & Kreis, GENIE, arXiv 2210.05475, section 3 (there through networks
    that predict the derivative).

    Example:
        >>> from expint import sample, targets
        >>> from expint.schedules import EDM
        >>> target = targets.Gaussian([0.0, 0.0], 0.25, EDM())
        >>> sample(target, (3, 2), taylor2(), steps=4, progress=False).shape
        torch.Size([3, 2])
    """
    stage = Stage(_ONE, through=(0,), slope={0: (Term(_ONE, 2, _ONE),)})
    return Method(Tableau("taylor-2", (stage,), "GENIE, arXiv 2210.05475, section 3"), ell=0.0)
