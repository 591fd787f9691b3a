"""Predictor–corrector schemes. With `reuse` (PEC) the corrector takes the evaluation that the next
step needs in any case."""

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any, Unpack

from expint.registry import check_choice
from expint.solvers.interpolation import interpolation_weights
from expint.solvers.method import EndSettings, Method
from expint.solvers.tableau import Stage, Tableau

_ONE = Fraction(1)


def _latest(count: int) -> tuple[int, ...]:
    return tuple(-j for j in range(count))


def _unipc(variant: str, corrector: bool, c: Any, nodes: Sequence[Any]) -> Any:
    """UniPC's weights: those of interpolation, except that where there is one difference quotient
    its weight is B(h)/2.

    B_1(h) = h and B_2(h) = e^h − 1 in the authors' signs: in units of the step's own weight 1 and
    φ_1.
    """
    if len(nodes) != 2:
        return interpolation_weights(c, nodes)
    slope = 1 / (2 * (nodes[0] if corrector else nodes[-1]))
    kind = (1, 0) if variant == "bh1" else (1,)
    zero, other = [(1, 1), (-slope, *kind)], [(slope, *kind)]
    return [other, zero] if corrector else [zero, other]


def _pair(predictor: int, corrector: int, variant: str | None = None) -> tuple[Stage, ...]:
    """Predictor through `predictor` evaluations and corrector through `corrector`, the new one
    included, with the weights of interpolation or of a variant of UniPC."""
    rules = [partial(_unipc, variant, late) if variant else None for late in (False, True)]
    first = Stage(_ONE, through=_latest(predictor), rule=rules[0])
    if corrector == 0:
        return (first,)
    return first, Stage(_ONE, through=(1, *_latest(corrector - 1)), rule=rules[1])


def unipc(order: int = 2, variant: str = "bh2", **settings: Unpack[EndSettings]) -> Method:
    """UniPC-p: predictor through p evaluations, corrector through one more; data form, ℓ = 0; no
    evaluation for the corrector.

    Args:
        order: p, 1 to 3.
        variant: B(h): "bh1" is h, "bh2" is e^h − 1; of influence only where there is a single
            difference quotient.
        settings: `lower_order_final`: the order falls to 1 towards the last step, as the authors do
            on few steps; `correct_last`: the last step of a grid that ends at σ > 0 is corrected,
            for one more evaluation. Both are off by default.

    Source: UniPC, arXiv 2302.04867, algorithms 1 and 2 and eq. (9).
    """
    check_choice("UniPC's order", order, (1, 2, 3))
    check_choice("UniPC's B(h)", variant, ("bh1", "bh2"))
    stages = _pair(order, order + 1, variant)
    tableau = Tableau(f"unipc-{order}", stages, "UniPC, arXiv 2302.04867", reuse=True)
    return Method(tableau, ell=0.0, **(EndSettings(correct_last=False) | settings))


def sa_solver(
    predictor: int = 3,
    corrector: int = 4,
    tau: float = 1.0,
    few_steps: bool = False,
    **settings: Unpack[EndSettings],
) -> Method:
    """Adams–Bashforth through `predictor` evaluations, Adams–Moulton through `corrector`, in the
    data form at ℓ = τ (PEC).

    For τ(t) sample with `noise_scale=expint.equations.noise_scales.window(...)` or
    `noise_scale_from_ell(...)`.

    Args:
        predictor: evaluations of the predictor, 1 to 4.
        corrector: evaluations of the corrector, the new one included, 1 to 4; 0 for none.
        tau: the ℓ of the SDE.
        few_steps: the authors' mode for few steps: where there are two nodes, their difference
            quotient has the weight h/2.
        settings: `lower_order_final`: the orders fall towards the last step, as the authors do on
            few steps; `correct_last`: the last step of a grid that ends at σ > 0 is corrected, for
            one more evaluation. Both are off by default.

    Source: SA-Solver, arXiv 2309.05019, eq. (14) and (17) and algorithm 1.
    """
    check_choice("SA-Solver's predictor", predictor, range(1, 5))
    check_choice("SA-Solver's corrector", corrector, range(5))
    stages = _pair(predictor, corrector, "bh1" if few_steps else None)
    tableau = Tableau("sa-solver", stages, "SA-Solver, arXiv 2309.05019", reuse=bool(corrector))
    return Method(tableau, ell=tau, **(EndSettings(correct_last=not corrector) | settings))


def pece(order: int = 2) -> Tableau:
    """Adams–Bashforth through `order` evaluations, an evaluation, Adams–Moulton through one more,
    and an evaluation there.

    Args:
        order: 1 to 3.

    Source: Hairer, Nørsett & Wanner I, section III.1, in exponential form.
    """
    check_choice("PECE's order", order, (1, 2, 3))
    source = "exponential PECE; Hairer, Norsett & Wanner I, III.1"
    return Tableau(f"pece-{order}", _pair(order, order + 1), source)
