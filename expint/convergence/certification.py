"""Does a solver keep what its tableau promises? If not, what is off?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Unpack

from torch import Tensor

from expint.convergence.order_fitting import local_orders
from expint.convergence.orders import StartOptions, compare, deterministic_order, weak_order
from expint.convergence.problem import Problem, check_problem
from expint.convergence.stage_covariance import NoiseStudy, noise_covariance, strong_defects
from expint.convergence.strong_certificates import strong_certificates
from expint.convergence.studies import SPREADS, Comparison, OrderStudy
from expint.equations.forms import EXPONENTIAL
from expint.equations.sde import SemiLinearSDE
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.results import Result
from expint.schedules import VP
from expint.solvers import Method, Tableau, get, names, register
from expint.solvers.registry import Solver
from expint.targets import Gaussian, GaussianMixture

# What a measured order, or the lower end of its interval, may lie below the declared one: the
# errors are only nearly asymptotic.
SLACK = {"deterministic": 0.15, "weak": 0.15, "strong": 0.1}
_COVARIANCE_STEPS = 3
_STRONG_DEFECT = 1e-3  # 10 Δλ on the step of `strong_defects`


class Orders(NamedTuple):
    """Orders that a solver declares: without noise, of mean and variance on Gaussian data, and
    along each path.
    """

    deterministic: float
    weak: float
    strong: float


@dataclass(frozen=True)
class Certificate(Result):
    """What `certify` found.

    Attributes:
        solver: its name.
        declared: the orders that were asked for.
        studies: one per kind.
        noise: the stage covariances; None at ℓ = 0, in explicit forms, and with operations around
            the steps.
        findings: what is off, in words; empty if nothing is.
    """

    derived: ClassVar[tuple[str, ...]] = ("passed",)

    solver: str
    declared: Orders
    studies: tuple[OrderStudy, ...]
    noise: NoiseStudy | None
    findings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is off."""
        return not self.findings

    def blocks(self) -> Iterator[str]:
        """Orders, measured and declared, and the findings."""
        yield f"{self.solver}: {'certified' if self.passed else 'NOT certified'}"
        yield from (f"  off: {finding}" for finding in self.findings)
        yield from (f"  {study.kind}: {study.summary()}" for study in self.studies)
        if self.noise is not None:
            yield f"  stage covariances: largest error {self.noise.error:.1e}"

    def figure(self) -> Any:
        """The studies, one panel per kind; a ValueError if no study came to an end."""
        if not self.studies:
            raise ValueError(f"There is nothing to draw: no study of {self.solver} came to an end.")
        return Comparison(self.studies).figure()


def declared_orders(solver: Solver) -> Orders:
    """The orders by the algebraic conditions: of the registered solver of that name, if there is
    one, else of the method itself.

    So a method that was changed under a registered name is held to what that name promises.
    """
    method = get(solver)
    if method.name in names():
        method = get(method.name)
    return Orders(*(float(getattr(method, f"{kind}_order")) for kind in Orders._fields))


def certify(
    solver: Solver,
    problem: Problem,
    *,
    declared: Orders | None = None,
    kinds: Sequence[str] = Orders._fields,
    paths: int = 1024,
    seed: int = 0,
    progress: bool = False,
    studies: Mapping[str, OrderStudy] | None = None,
) -> Certificate:
    """Measure a solver's orders and the covariance of its stages, and name what falls short.

    The plans come from `problem.planner`, so that an engine can be certified as well as a tableau;
    what they are measured against does not: the classical Runge–Kutta method (without noise), the
    moments of Gaussian data (weak), the reverse SDE itself by quadrature (stage covariance), and
    for the strong order a fine run of this library's own `compile_plan`.

    An order falls short if it, or the lower end of its 95 % interval, lies more than `SLACK` below
    the declared one. So every order that the paths leave possible is at most that much too low,
    and an interval that is merely wide enough to hold the declared order is not enough.

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
    unknown = [kind for kind in kinds if kind not in Orders._fields]
    if unknown:
        raise ValueError(f"Unknown kinds {unknown}: choose among {Orders._fields}.")
    method = get(solver)
    wanted = declared or declared_orders(method)
    noise, findings = _stage_covariances(method, problem, wanted.strong)
    for kind, promised in wanted._asdict().items():
        derived = float(getattr(method, f"{kind}_order"))
        if derived < promised:
            findings.append(
                f"tableau: {kind} order {derived:g} by the algebraic conditions, declared "
                f"{promised:g}"
            )
    made: list[OrderStudy] = []
    options: dict[str, Any] = {"paths": paths, "seed": seed, "progress": progress}
    for kind in kinds:
        if kind == "strong" and problem.ell == 0:
            continue
        data = _gaussian(problem) if kind == "weak" else problem
        given = (studies or {}).get(kind)
        try:
            made.append(given or compare([method], data, [kind], **options).studies[0])
        except (ValueError, FloatingPointError) as error:
            findings.append(f"{kind} order: cannot be measured ({' '.join(str(error).split())})")
            continue
        quiet = problem.ell == 0 and not method.operations
        promised = wanted.deterministic if quiet else getattr(wanted, kind)
        findings += shortfall(made[-1], promised)
    return Certificate(method.name, wanted, tuple(made), noise, tuple(findings))


def certify_registration(
    solver: Solver,
    *,
    strong: OrderStudy | None = None,
    weak_steps: Sequence[int] | None = None,
    **options: Unpack[StartOptions],
) -> Certificate:
    """Hold a solver to its own orders, in its own form and at its own ℓ, on the mixture and the
    Gaussian kept for this.

    Without the operations for the order without noise; with them for the law on Gaussian data.

    Args:
        solver: a name, a method or a tableau.
        strong: a study of its strong order, as from `strong_certificates`.
        weak_steps: step counts of the law on Gaussian data.
        options: of the order without noise, see `StartOptions`.
    """
    method = get(solver)
    means, weights = [[1.0, -0.5], [-0.8, 0.6]], [1.0, 2.0]
    problem = Problem(
        GaussianMixture(means, 0.4, weights, VP()), method.form, method.ell, sigma_data=0.5
    )
    bare = replace(method, operations=())
    studies = {"deterministic": deterministic_order(bare, problem, **options)}
    if declared_orders(method).weak > 0:
        gaussian = replace(_gaussian(problem), planner=_own_planner)
        studies["weak"] = weak_order(method, gaussian, steps=weak_steps)
    if strong is not None:
        studies["strong"] = strong
    return certify(method, problem, kinds=tuple(studies), studies=studies)


def _own_planner(sde: SemiLinearSDE, method: Method, grid: Tensor) -> Plan:
    """The plan for the equation that the method is meant for."""
    if method.noise_scale is not None and sde.diffusion:
        sde = method.equation(sde.diffusion.schedule)
    return compile_plan(sde, method, grid)


def register_solver(build: Callable[..., Method | Tableau], summary: str) -> Certificate:
    """Certify the tableau or method that `build()` makes, and register it under its name.

    Args:
        build: makes the tableau or method; called without arguments, and by `solvers.get(name,
            **parameters)` with some.
        summary: one line about it.

    Returns:
        The certificate.

    Raises:
        ValueError: if the name is taken, or the solver does not keep its orders: the message
            lists the findings.

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
    method = get(build())
    if method.name in names():
        raise ValueError(f"There is a solver {method.name!r} already: choose another name.")
    strong = strong_certificates([method]).get(method.name)
    certificate = certify_registration(method, strong=strong)
    if not certificate.passed:
        raise ValueError(f"{method.name!r} is not registered. {certificate.table()}")
    register(method.name, build, summary)
    return certificate


def shortfall(study: OrderStudy, promised: float) -> list[str]:
    """The finding on an order that, or the lower end of whose interval, lies too far below the
    promised one: a miss, too coarse steps, or too few paths.

    A strong order is held to the median over the paths as well as to the root mean square, which a
    few paths may decide where they change the mode of the data.
    """
    least = promised - SLACK[study.kind]
    low, high = study.order_interval or (study.order, study.order)
    median = study.other_orders.get("median", low)
    if low >= least and median >= least:
        return []
    if low >= least or ("median" in study.other_orders and median >= least > high):
        return [
            f"{study.kind} order: measured {study.order:.2f} by the root mean square and "
            f"{median:.2f} by the median over the paths, declared {promised:g}: a few paths decide "
            "the root mean square, or the steps are too coarse; take a smoother problem"
        ]
    part = slice(study.fitted[0], study.fitted[1] + 1)
    local = local_orders(study.steps[part], study.errors[part])
    if max(local) - min(local) > SPREADS[study.kind]:
        first, last = study.fitted_steps
        more = " or more paths" if study.order_interval else ""
        course = ", ".join(f"{order:.2f}" for order in local)
        return [
            f"{study.kind} order: the steps {first} to {last} are not asymptotic, the order "
            f"between neighbours goes {course}; take finer steps{more} to tell whether it is "
            f"{promised:g}"
        ]
    if high >= least:
        return [
            f"{study.kind} order: the interval {low:.2f} to {high:.2f} reaches below {least:g}; "
            f"take more paths to tell whether it is {promised:g}"
        ]
    return [f"{study.kind} order: measured {study.order:.2f}, declared {promised:g}"]


def _stage_covariances(
    method: Method, problem: Problem, strong: float
) -> tuple[NoiseStudy | None, list[str]]:
    """The study, if there is noise, and the SDE's alone, in a form that it knows; what is off."""
    if problem.ell in (0, float("inf")) or method.operations or problem.form not in EXPONENTIAL:
        return None, []
    plan = problem.plan(method, max(_COVARIANCE_STEPS, method.tableau.history + 2))
    try:
        study = noise_covariance(plan, method, ell=problem.ell)
    except ValueError as error:
        return None, [f"stage covariance: cannot be measured ({error})"]
    findings = [study.finding()]
    if strong > 1:
        missed = max(strong_defects(problem, method))
        if missed > _STRONG_DEFECT:
            findings.append(
                f"stage noise: the conditions of strong order 3/2 are missed by {missed:.2g} on a "
                f"step short enough that {_STRONG_DEFECT:g} is allowed"
            )
    return study, [finding for finding in findings if finding]


def _gaussian(problem: Problem) -> Problem:
    """The same equation on Gaussian data."""
    target = Gaussian([0.7, -1.0], [0.3, 2.0], problem.model.schedule)
    return replace(problem, model=target, shape=target.shape)
