"""Predictor–corrector schemes. With `reuse` (PEC) the corrector takes the evaluation that the next
step needs in any case."""

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from expint.solvers.interpolation import interpolation_weights
from expint.solvers.method import Method
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


def unipc(
    order: int = 2,
    variant: str = "bh2",
    lower_order_final: bool = False,
    correct_last: bool = False,
) -> Method:
    """UniPC-p: predictor through p evaluations, corrector through one more; data form, ℓ = 0; no
    evaluation for the corrector.

    Args:
        order: p, 1 to 3.
        variant: B(h): "bh1" is h, "bh2" is e^h − 1; of influence only where there is a single
            difference quotient.
        lower_order_final: the order falls to 1 towards the last step, as the authors do on few
            steps.
        correct_last: whether the last step of a grid that ends at σ > 0 is corrected, for one more
            evaluation.

    Source: UniPC, arXiv 2302.04867, algorithms 1 and 2 and eq. (9).
    """
    if order not in (1, 2, 3):
        raise ValueError(f"UniPC has orders 1, 2 and 3, got {order!r}.")
    if variant not in ("bh1", "bh2"):
        raise ValueError(f"UniPC's B(h) is 'bh1' or 'bh2', got {variant!r}.")
    through = _latest(order)
    stages = (
        Stage(_ONE, through=through, rule=partial(_unipc, variant, False)),
        Stage(_ONE, through=(1, *through), rule=partial(_unipc, variant, True)),
    )
    return Method(
        Tableau(f"unipc-{order}", stages, "UniPC, arXiv 2302.04867", reuse=True),
        ell=0.0,
        lower_order_final=lower_order_final,
        correct_last=correct_last,
    )


def sa_solver(
    predictor: int = 3,
    corrector: int = 4,
    tau: float = 1.0,
    lower_order_final: bool = False,
    correct_last: bool = False,
    few_steps: bool = False,
) -> Method:
    """Adams–Bashforth through `predictor` evaluations, Adams–Moulton through `corrector`, in the
    data form at ℓ = τ (PEC).

    For τ(t) sample with `noise_scale=expint.equations.noise_scales.window(...)` or
    `noise_scale_from_ell(...)`.

    Args:
        predictor: evaluations of the predictor, 1 to 4.
        corrector: evaluations of the corrector, the new one included, 1 to 4; 0 for none.
        tau: the ℓ of the SDE.
        lower_order_final: the orders fall towards the last step, as the authors do on few steps.
        correct_last: whether the last step of a grid that ends at σ > 0 is corrected, for one more
            evaluation.
        few_steps: the authors' mode for few steps: where there are two nodes, their difference
            quotient has the weight h/2.

    Source: SA-Solver, arXiv 2309.05019, eq. (14) and (17) and algorithm 1.
    """
    if not (1 <= predictor <= 4 and 0 <= corrector <= 4):
        raise ValueError(
            f"SA-Solver takes predictor 1 to 4 and corrector 0 to 4, got {predictor!r} and "
            f"{corrector!r}."
        )
    rules = [partial(_unipc, "bh1", late) if few_steps else None for late in (False, True)]
    stages = [Stage(_ONE, through=_latest(predictor), rule=rules[0])]
    if corrector:
        stages.append(Stage(_ONE, through=(1, *_latest(corrector - 1)), rule=rules[1]))
    return Method(
        Tableau("sa-solver", tuple(stages), "SA-Solver, arXiv 2309.05019", reuse=bool(corrector)),
        ell=tau,
        lower_order_final=lower_order_final,
        correct_last=correct_last or not corrector,
    )


def pece(order: int = 2) -> Tableau:
    """Adams–Bashforth through `order` evaluations, an evaluation, Adams–Moulton through one more,
    and an evaluation there.

    Args:
        order: 1 to 3.

    Source: Hairer, Nørsett & Wanner I, section III.1, in exponential form.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"PECE has orders 1, 2 and 3, got {order!r}.")
    stages = (Stage(_ONE, through=_latest(order)), Stage(_ONE, through=(1, *_latest(order))))
    source = "exponential PECE; Hairer, Norsett & Wanner I, III.1"
    return Tableau(f"pece-{order}", stages, source)
