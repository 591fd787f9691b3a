"""Does a solver keep what its tableau promises? If not, what is off?"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from torch import Tensor

from expint.convergence.common_path import Problem
from expint.convergence.ode_orders import check_problem
from expint.convergence.order_fitting import local_orders
from expint.convergence.orders import SPREADS, deterministic_order, strong_order, weak_order
from expint.convergence.stage_covariance import NoiseStudy, noise_covariance
from expint.convergence.studies import Comparison, OrderStudy
from expint.equations.forms import EXPONENTIAL, reverse_sde
from expint.equations.sde import SemiLinearSDE
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.schedules import VP
from expint.solvers import Entry, Tableau, get, names, registry
from expint.targets import Gaussian, GaussianMixture

__all__ = [
    "Certificate",
    "Orders",
    "certify",
    "certify_registration",
    "declared_orders",
    "register_solver",
]

# What a measured order, or the upper end of its interval, may lie below the declared one: the
# errors are only nearly asymptotic.
_SLACK = {"deterministic": 0.15, "weak": 0.15, "strong": 0.1}
_KINDS = ("deterministic", "weak", "strong")
_COVARIANCE_STEPS = 3


class Orders(NamedTuple):
    """Orders that a solver declares: without noise, of mean and variance on Gaussian data, and
    along each path.
    """

    deterministic: float
    weak: float
    strong: float


@dataclass(frozen=True)
class Certificate:
    """What `certify` found.

    Attributes:
        solver: its name.
        declared: the orders that were asked for.
        studies: one per kind.
        noise: the stage covariances; None at ℓ = 0.
        findings: what is off, in words; empty if nothing is.
    """

    solver: str
    declared: Orders
    studies: tuple[OrderStudy, ...]
    noise: NoiseStudy | None
    findings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is off."""
        return not self.findings

    def table(self, *, markdown: bool = False) -> str:
        """Orders, measured and declared, and the findings."""
        verdict = f"{self.solver}: certified" if self.passed else f"{self.solver}: NOT certified"
        lines = [
            verdict,
            *(f"  off: {finding}" for finding in self.findings),
            *(f"  {s.kind}: {s.summary()}" for s in self.studies),
        ]
        if self.noise is not None:
            lines.append(f"  stage covariances: largest error {self.noise.error:.1e}")
        return "\n".join(f"- {line.strip()}" for line in lines) if markdown else "\n".join(lines)

    def plot(self, path: str | Path | IO[bytes]) -> None:
        """Draw the studies, one panel per kind.

        Raises:
            ValueError: if no study came to an end.
        """
        if not self.studies:
            raise ValueError(f"There is nothing to draw: no study of {self.solver} came to an end.")
        Comparison(self.studies).plot(path)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON-able values."""
        return {
            "solver": self.solver,
            "passed": self.passed,
            "findings": list(self.findings),
            "declared": self.declared._asdict(),
            "studies": [study.to_dict() for study in self.studies],
            "noise": None if self.noise is None else self.noise.to_dict(),
        }

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def declared_orders(solver: str | Tableau) -> Orders:
    """The orders by the algebraic conditions: of the registered solver of that name, if there is
    one, else of the tableau itself.

    So a tableau that was changed under a registered name is held to what that name promises.
    """
    tableau = get(solver)
    promised = get(tableau.name) if tableau.name in names() else tableau
    return Orders(
        float(promised.deterministic_order),
        float(promised.weak_order),
        float(promised.strong_order),
    )


def certify(
    solver: str | Tableau,
    problem: Problem,
    *,
    declared: Orders | None = None,
    kinds: tuple[str, ...] = _KINDS,
    paths: int = 1024,
    seed: int = 0,
    progress: bool = False,
    studies: dict[str, OrderStudy] | None = None,
) -> Certificate:
    """Measure a solver's orders and the covariance of its stages, and name what falls short.

    The plans come from `problem.planner`, so that an engine can be certified as well as a tableau;
    what they are measured against does not: the classical Runge–Kutta method (without noise), the
    moments of Gaussian data (weak), the reverse SDE itself by quadrature (stage covariance), and
    for the strong order a fine run of this library's own `compile_plan`.

    Args:
        solver: a name or a tableau.
        problem: what is integrated; the weak order is measured on Gaussian data with the same
            schedule.
        declared: the orders to hold it to; default: `declared_orders(solver)`.
        kinds: which orders to measure.
        paths, seed, progress: of the strong study.
        studies: studies made before, by kind, that need not be made again.

    Raises:
        TypeError: for a model in the place of the problem.
        ValueError: for an unknown kind.

    Example:
        >>> from expint.schedules import EDM
        >>> from expint.targets import Gaussian, GaussianMixture
        >>> certify(
        ...     "seeds-1", Problem(Gaussian([0.5], [0.3], EDM()), ell=0.0), kinds=("deterministic",)
        ... ).passed
        True
    """
    check_problem(problem)
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown:
        raise ValueError(f"Unknown kinds {unknown}: choose among {_KINDS}.")
    tableau = get(solver)
    wanted = declared or declared_orders(tableau)
    findings: list[str] = []
    noise = _stage_covariances(tableau, problem, findings)
    own = Orders(
        float(tableau.deterministic_order), float(tableau.weak_order), float(tableau.strong_order)
    )
    for kind, promised, derived in zip(_KINDS, wanted, own, strict=True):
        if derived < promised:
            findings.append(
                f"tableau: {kind} order {derived:g} by the algebraic conditions, declared "
                f"{promised:g}"
            )
    measure: dict[str, Callable[[], OrderStudy]] = {
        "deterministic": lambda: deterministic_order(tableau, problem, seed=seed),
        "weak": lambda: weak_order(tableau, _gaussian(problem)),
        "strong": lambda: strong_order(tableau, problem, paths=paths, seed=seed, progress=progress),
    }
    made: list[OrderStudy] = []
    for kind in kinds:
        if kind == "strong" and problem.ell == 0:
            continue
        promised = wanted.deterministic if problem.ell == 0 else getattr(wanted, kind)
        try:
            study = (studies or {}).get(kind) or measure[kind]()
        except (ValueError, FloatingPointError) as error:
            findings.append(f"{kind} order: cannot be measured ({' '.join(str(error).split())})")
            continue
        made.append(study)
        findings += _shortfall(study, promised)
    return Certificate(tableau.name, wanted, tuple(made), noise, tuple(findings))


def certify_registration(tableau: Tableau, *, strong: bool = False, **options: Any) -> Certificate:
    """Hold a tableau to its own orders, in its own form and at its own ℓ, on the mixture and the
    Gaussian kept for this.

    Without the operations for the order without noise; with them for the law on Gaussian data.

    Args:
        tableau: the solver.
        strong: also measure the strong order, which samples and takes longer.
        options: `steps` and `starts` of the study without noise, `weak_steps` of the other, `paths`
            of the strong one.
    """
    means, weights = [[1.0, -0.5], [-0.8, 0.6]], [1.0, 2.0]
    problem = Problem(
        GaussianMixture(means, 0.4, weights, VP()), tableau.form, tableau.ell, sigma_data=0.5
    )
    bare = replace(tableau, operations=())
    wanted = declared_orders(tableau)
    lab = {name: options[name] for name in ("steps", "starts") if name in options}
    studies = {"deterministic": deterministic_order(bare, problem, **lab)}
    gaussian = replace(_gaussian(problem), planner=_own_planner)
    if wanted.weak > 0:
        studies["weak"] = weak_order(tableau, gaussian, steps=options.get("weak_steps"))
    if strong and wanted.strong > 0 and tableau.ell > 0 and tableau.noise_scale is None:
        studies["strong"] = strong_order(bare, problem, paths=options.get("paths", 512))
    findings: list[str] = []
    for kind, study in studies.items():
        quiet = kind == "weak" and tableau.ell == 0 and not tableau.operations
        promised = wanted.deterministic if quiet else getattr(wanted, kind)
        findings += _shortfall(study, promised)
    noise = None
    if (
        tableau.ell > 0
        and not tableau.operations
        and tableau.noise_scale is None
        and tableau.form in EXPONENTIAL
    ):
        noise = _stage_covariances(tableau, problem, findings)
    return Certificate(tableau.name, wanted, tuple(studies.values()), noise, tuple(findings))


def _own_planner(sde: SemiLinearSDE, tableau: Tableau, grid: Tensor) -> Plan:
    """The plan for the equation that the tableau is meant for."""
    if tableau.noise_scale is not None and sde.schedule is not None:
        sde = reverse_sde(sde.schedule, noise_scale=tableau.noise_scale)
    return compile_plan(sde, tableau, grid)


def register_solver(build: Callable[..., Tableau], summary: str) -> Certificate:
    """Certify the tableau that `build()` makes, and register it under its name.

    Args:
        build: makes the tableau; called without arguments, and by `solvers.get(name, **parameters)`
            with some.
        summary: one line about it.

    Returns:
        The certificate.

    Raises:
        ValueError: if the name is taken, or the solver does not keep its orders: the findings say
            what is off.

    Example:
        >>> from fractions import Fraction
        >>> from expint.solvers import Stage, Tableau
        >>> def ralston():
        ...     c = Fraction(2, 3)
        ...     return Tableau(
        ...         "ralston",
        ...         (Stage(c, through=(0,)), Stage(1, through=(0, 1))),
        ...         "the exponential form of Ralston",
        ...     )
        >>> register_solver(ralston, "two stages, node 2/3").passed
        True
    """
    tableau = build()
    if tableau.name in names():
        raise ValueError(f"There is a solver {tableau.name!r} already: choose another name.")
    certificate = certify_registration(tableau)
    if not certificate.passed:
        raise ValueError(f"{tableau.name!r} is not registered. {certificate.table()}")
    registry.add(
        Entry(
            tableau.name, build, summary, {study.kind: study.order for study in certificate.studies}
        )
    )
    return certificate


def _shortfall(study: OrderStudy, promised: float) -> list[str]:
    """What to say of an order that, or the upper end of whose interval, lies too far below the
    promised one.
    """
    enough = (study.order_interval or (0.0, study.order))[1] >= promised - _SLACK[study.kind]
    return [] if enough else [_missed(study, promised)]


def _missed(study: OrderStudy, promised: float) -> str:
    """A fitted order below the promised one: a miss where the errors follow a power law, and
    otherwise too coarse steps.
    """
    first, last = study.fitted
    local = local_orders(study.steps[first : last + 1], study.errors[first : last + 1])
    if max(local) - min(local) <= SPREADS[study.kind]:
        return f"{study.kind} order: measured {study.order:.2f}, declared {promised:g}"
    more = " or more paths" if study.order_interval else ""
    course = ", ".join(f"{order:.2f}" for order in local)
    return (
        f"{study.kind} order: the steps {study.steps[first]} to {study.steps[last]} are not "
        f"asymptotic, the order between neighbours goes {course}; take finer steps{more} to tell "
        f"whether it is {promised:g}"
    )


def _stage_covariances(
    tableau: Tableau, problem: Problem, findings: list[str]
) -> NoiseStudy | None:
    if problem.ell == 0:
        return None
    try:
        study = noise_covariance(
            problem.plan(tableau, max(_COVARIANCE_STEPS, tableau.history + 2)),
            tableau,
            ell=problem.ell,
        )
    except ValueError as error:
        findings.append(f"stage covariance: cannot be measured ({error})")
        return None
    finding = study.finding()
    if finding is not None:
        findings.append(finding)
    return study


def _gaussian(problem: Problem) -> Problem:
    """The same equation on Gaussian data."""
    return Problem(
        Gaussian([0.7, -1.0], [0.3, 2.0], problem.model.schedule),
        problem.form,
        problem.ell,
        problem.sigmas,
        problem.sigma_data,
        planner=problem.planner,
    )
