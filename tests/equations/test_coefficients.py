"""SDEs from their coefficients: the generic route against closed forms, orders against a reference
solution, and refusals.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from quadrature import ReverseSDE
from scipy import integrate as quad
from scipy.integrate import solve_ivp
from scipy.special import dawsn
from torch import Tensor
from toy_models import wavy

from expint import SemiLinearSDE, compile_plan, execute, grids, integrate, noise, reverse_sde
from expint.equations.sde import Clock, NoiseClock
from expint.numerics.quadrature import Primitive
from expint.schedules import EDM, VP
from expint.solvers import Stage, Tableau

X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
from_coefficients = SemiLinearSDE.from_coefficients
SOLVERS = {"seeds-1": 1, "seeds-2": 2, "seeds-3": 3}


def vp_coefficients(ell: float) -> tuple[Callable[[np.ndarray], np.ndarray], ...]:
    """A, b, g of VP's reverse SDE with F = D, written down from β(t) = 0.1 + 19.9 t."""

    def parts(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        beta, log_alpha = 0.1 + 19.9 * t, -0.25 * 19.9 * t**2 - 0.05 * t
        return beta, np.exp(log_alpha), -np.expm1(2 * log_alpha)

    def drift(t: np.ndarray) -> np.ndarray:
        beta, _, variance = parts(t)
        return -0.5 * beta + 0.5 * (1 + ell**2) * beta / variance

    def factor(t: np.ndarray) -> np.ndarray:
        beta, alpha, variance = parts(t)
        return -0.5 * (1 + ell**2) * beta * alpha / variance

    return drift, factor, lambda t: ell * np.sqrt(parts(t)[0])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("ell", [0.0, 0.5, 1.0])
def test_generic_route_is_the_data_form_of_vp(solver: str, ell: float):
    schedule = VP()
    grid = grids.uniform_lambda(schedule, 8, final="none")
    generic = from_coefficients(
        *vp_coefficients(ell), span=(1.0, 1e-3), clock_start=float(schedule.alpha(1.0))
    )
    closed = reverse_sde(schedule, "data", ell)
    model = wavy(schedule)
    z = torch.randn(24, *X.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    source = noise.Replay(z) if ell else None
    ours = integrate(generic, model, X, grid, solver, source).x
    torch.testing.assert_close(
        ours, execute(compile_plan(closed, solver, grid), model, X, source), rtol=1e-10, atol=1e-10
    )
    # The clocks differ by a constant factor and a constant, which nothing depends on.
    mu, lam = generic.clock(grid), closed.clock(grid)
    torch.testing.assert_close(mu - mu[0], (1 + ell**2) * (lam - lam[0]), rtol=1e-11, atol=1e-11)


def test_another_clock_start_is_another_clock():
    """What clock_start is for: without it the nodes lie elsewhere, and the results differ by
    discretisation errors only.
    """
    schedule = VP()
    grid = grids.uniform_lambda(schedule, 8, final="none")
    closed = integrate(
        from_coefficients(*vp_coefficients(0.0), span=(1.0, 1e-3)),
        wavy(schedule),
        X,
        grid,
        "seeds-3",
    ).x
    other = execute(
        compile_plan(reverse_sde(schedule, "data", 0.0), "seeds-3", grid), wavy(schedule), X
    )
    assert 1e-8 < (closed - other).abs().max() < 1e-1


def same_plans(*sdes: SemiLinearSDE, grid: Any) -> None:
    plans = [compile_plan(sde, "seeds-3", grid) for sde in sdes]
    for plan in plans[1:]:
        for row, first in zip(plan.rows, plans[0].rows, strict=True):
            assert row.scale == pytest.approx(first.scale, rel=1e-12) and row.time == pytest.approx(
                first.time, rel=1e-12
            )
            assert [w for _, w in row.weights] == pytest.approx(
                [w for _, w in first.weights], rel=1e-11
            )
            assert float(plan.noise_std(row)) == pytest.approx(
                float(plans[0].noise_std(first)), rel=1e-11
            )


def test_strings_expressions_and_functions_agree():
    t, s = sympy.Symbol("t"), sympy.Symbol("t", positive=True)
    same_plans(
        from_coefficients("-1 - t/2", "exp(-t)", "sqrt(1+t)/3", span=(0.0, 2.0)),
        from_coefficients(-1 - t / 2, sympy.exp(-t), sympy.sqrt(1 + t) / 3, span=(0.0, 2.0)),
        from_coefficients(-1 - s / 2, sympy.exp(-s), sympy.sqrt(1 + s) / 3, span=(0.0, 2.0)),
        from_coefficients(
            lambda t: -1 - t / 2,
            lambda t: np.exp(-t),
            lambda t: np.sqrt(1 + t) / 3,
            span=(0.0, 2.0),
        ),
        grid=[0.0, 0.3, 1.1, 2.0],
    )


@pytest.mark.parametrize("A", [-1.5, 0.8, 0.0])
@pytest.mark.parametrize("span", [(0.0, 2.0), (2.0, 0.5)])
def test_constants_agree_with_functions(A: float, span: tuple[float, float]):
    """The closed form of constant coefficients against quadrature; numbers, strings, expressions
    and scalar tensors are one.
    """
    grid = np.linspace(*span, 4)
    same_plans(
        *(
            from_coefficients(v, -0.7, 0.3, span=span)
            for v in (A, str(A), sympy.Float(A), torch.tensor(A, dtype=torch.float64))
        ),
        grid=grid,
    )
    exact = from_coefficients(A, -0.7, 0.3, span=span)
    functions = [
        from_coefficients(lambda t: A, lambda t: -0.7, lambda t: 0.3, span=span, clock=c)
        for c in ("auto", "linear")
    ]
    ones = lambda x, t: torch.ones_like(x)  # noqa: E731
    z = noise.Replay(
        torch.randn(3, *X.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    expected = integrate(exact, ones, X, grid, "seeds-1", z).x
    for sde in functions:
        torch.testing.assert_close(
            integrate(sde, ones, X, grid, "seeds-1", z).x, expected, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("clock", ["auto", "exponential", "linear"])
@pytest.mark.parametrize("span", [(0.0, 3.0), (3.0, 0.0)])
@pytest.mark.parametrize(
    ("A", "integral", "b"),
    [("cos(3*t)", lambda t: np.sin(3 * t) / 3, "1+t"), ("-2*t", lambda t: -(t**2), "-exp(t)")],
)
def test_integrals_by_quadrature(
    A: str, integral: Callable[[Any], Any], b: str, span: tuple[float, float], clock: str
):
    """Propagator, response to F = 1 and to F = sin, and noise of one interval, in either direction
    of time.
    """
    sde = from_coefficients(A, b, "1+t**2", span=span, clock=clock)
    s, t = (span[0] + share * (span[1] - span[0]) for share in (0.2, 0.9))
    ends = [torch.tensor(v, dtype=torch.float64) for v in (s, t)]
    assert float(sde.propagator(t) / sde.propagator(s)) == pytest.approx(
        math.exp(integral(t) - integral(s)), rel=1e-12
    )
    factor = {"1+t": lambda u: 1 + u, "-exp(t)": lambda u: -np.exp(u)}[b]
    kernel = lambda u: math.exp(integral(t) - integral(u))  # noqa: E731
    response, _ = quad.quad(lambda u: kernel(u) * factor(u), s, t, epsabs=0, epsrel=1e-13)
    plan = compile_plan(sde, "seeds-1", [s, t])
    assert plan.rows[0].weights[0][1] == pytest.approx(response, rel=1e-11)
    variance, _ = quad.quad(
        lambda u: kernel(u) ** 2 * (1 + u**2) ** 2, s, t, epsabs=0, epsrel=1e-13
    )
    assert float(plan.noise_std(plan.rows[0])) == pytest.approx(math.sqrt(abs(variance)), rel=1e-12)
    mu = torch.linspace(*(float(sde.clock(v)) for v in ends), 7, dtype=torch.float64)
    torch.testing.assert_close(sde.clock(sde.clock.time(mu)), mu, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 1e-3])
def test_almost_constant_weight(rate: float):
    """A logarithmic clock that begins at 1/rate would lose all digits: it is neither chosen nor
    given when it is asked for.
    """
    for clock in ("auto", "exponential"):
        sde = from_coefficients(
            lambda t: -np.ones_like(t),
            lambda t: np.exp((rate - 1) * t),
            span=(0.0, 1.0),
            clock=clock,
        )
        x = integrate(sde, lambda x, t: torch.ones_like(x), X, np.linspace(0, 1, 11), "seeds-3").x
        torch.testing.assert_close(
            x, math.exp(-1) * (X + np.expm1(rate) / rate if rate else X + 1), rtol=1e-12, atol=1e-12
        )


# ---- orders


def errors(
    A: str,
    F: Any,
    span: tuple[float, float],
    clock: str,
    solver: Any,
    steps: list[int],
    x0: float = 0.7,
) -> list[float]:
    drift = sympy.lambdify(sympy.Symbol("t"), A)

    def right(t: float, x: np.ndarray) -> np.ndarray:
        return drift(t) * x + F(torch.as_tensor(x), t).numpy()

    exact = solve_ivp(right, span, [x0], rtol=1e-13, atol=1e-13, method="DOP853").y[0, -1]
    sde = from_coefficients(A, span=span, clock=clock)
    x = torch.full((1, 1), x0, dtype=torch.float64)
    return [
        abs(integrate(sde, F, x, np.linspace(*span, n + 1), solver).x.item() / exact - 1)
        for n in steps
    ]


def orders(values: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in itertools.pairwise(values)]


def slow(x: torch.Tensor, t: Any) -> torch.Tensor:
    """Bounded, nonlinear, and without fast oscillations where the state grows."""
    return torch.tanh(x) ** 2 + math.sin(2 * float(t)) / (1 + x**2)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("clock", ["auto", "linear"])
@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("A", ["-1-t", "1+t", "-3", "2", "cos(4*t)"])
def test_orders(A: str, span: tuple[float, float], clock: str, solver: str):
    """Forwards and backwards in time, with weights that grow and that decay."""
    assert orders(errors(A, slow, span, clock, solver, [64, 128, 256])) == pytest.approx(
        [SOLVERS[solver]] * 2, abs=0.15
    )


def test_orders_can_fail():
    """A midpoint stage that is left out of the last row: order 1."""
    broken = Tableau("broken", (Stage(0.5, through=(0,)), Stage(1, through=(0,))))
    assert orders(errors("-1-t", slow, (0.0, 1.0), "auto", broken, [64, 128])) == pytest.approx(
        [1.0], abs=0.15
    )


def test_orders_where_the_state_grows_and_F_oscillates_in_it():
    """With A = 1 + t the state grows from 0.7 to about 60, and F = sin(x + t) turns many times in a
    step: before a step resolves that, the error falls irregularly, and afterwards with the order of
    the scheme.
    """
    for solver, order in (("seeds-2", 2), ("seeds-3", 3)):
        found = errors(
            "1.0+t", lambda x, t: torch.sin(x + t), (0.0, 2.0), "auto", solver, [50, 100, 800, 1600]
        )
        assert orders(found[:2]) != pytest.approx([order], abs=0.4)
        assert orders(found[2:]) == pytest.approx([order], abs=0.15)


# ---- the coefficients again


def test_coefficients_are_given_back():
    sde = from_coefficients("-1-t", "-exp(t)", "sqrt(1+t)", span=(0.0, 2.0))
    t = torch.tensor([0.0, 0.7, 2.0], dtype=torch.float64)
    for value, expected in zip(
        sde.coefficients_at(t), (-1 - t, -torch.exp(t), torch.sqrt(1 + t)), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("ell", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("form", ["data", "noise", "precond"])
@pytest.mark.parametrize("schedule", [VP(), EDM()], ids=["vp", "edm"])
def test_coefficients_of_the_forms(form: str, ell: float, schedule: VP | EDM):
    """By differentiating the clocks: also the clock of the preconditioned form, which for ℓ = 0.5
    comes from scipy.
    """
    sde = reverse_sde(schedule, form, ell, sigma_data=0.7)
    exact = ReverseSDE(schedule, sde.diffusion.prediction, ell, 0.7)
    t = torch.tensor(
        [schedule.t_of_sigma(sigma) for sigma in (9.0, 1.0, 0.05)], dtype=torch.float64
    )
    A, b, g = sde.coefficients_at(t)
    for value, expected in zip((A, b), exact.coefficients(t), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        g, ell * torch.sqrt(schedule.diffusion_squared(t)), rtol=1e-9, atol=1e-12
    )


def test_coefficients_of_a_diagonal_sde_from_its_clocks():
    """Every component has its own derivative."""
    k = torch.arange(4.0, dtype=torch.float64)
    sde = SemiLinearSDE(
        log_propagator=lambda t: -k * t**2,
        clock=Clock(lambda t: t, lambda mu: mu, rho=k, kappa=2.0),
        noise=NoiseClock(lambda t: torch.log(t) + k * 0.0),
    )
    for t in (
        torch.tensor(0.5, dtype=torch.float64),
        torch.tensor([[0.5], [1.5]], dtype=torch.float64),
    ):
        A, b, g = sde.coefficients_at(t)
        torch.testing.assert_close(A, -2 * k * t, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(
            (b + 0 * k), 2 * torch.exp(-k * t**2 + k * t), rtol=1e-13, atol=0
        )
        torch.testing.assert_close(g, torch.exp(-k * t**2), rtol=1e-13, atol=0)


def test_clocks_that_cannot_be_differentiated():
    sde = SemiLinearSDE(lambda t: t.detach(), lambda t: t, lambda mu: mu, name="frozen")
    with pytest.raises(
        ValueError,
        match=r"clocks of SemiLinearSDE\(frozen\) are not differentiable: give its coefficients",
    ):
        sde.coefficients_at(0.5)


# ---- refusals


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("k*t",), {}, r"A = k\*t has the free symbol k: give it a value; only t may stay free"),
        ((0, "c"), {}, "b = c has the free symbol c"),
        (("t", "1", sympy.Symbol("q") * 2), {}, r"g = 2\*q has the free symbol q"),
        (("foo(t)",), {}, r"A = foo\(t\) has the unknown function foo\(t\)"),
        (("1+",), {}, "A = '1\\+' is not an expression in t"),
        (("t > 1",), {}, "A = 't > 1' is not an expression in t, but StrictGreaterThan"),
        (("I*t",), {}, r"A = I\*t is not a real expression in t"),
        ((math.nan,), {}, "A must be finite, got nan"),
        ((0, torch.tensor([1.0, math.inf])), {}, "b must be finite, got tensor"),
        (
            ("t", "t-0.5"),
            {},
            r"b must keep one sign on the span, but it vanishes or changes sign near t = 0\.5",
        ),
        (("t", "abs(t-0.5)+t-0.5"), {}, r"b must keep one sign .* near t = 0\.001"),
        (("t", 0), {"clock": "exponential"}, "b = 0 leaves no weight of F"),
        (("t", 0), {"clock_start": 1.0}, "b = 0 leaves no weight of F"),
        (("1/(t-0.25)",), {}, r"A is not finite at t = 0\.25|A is too rough near t = 0\.2[45]"),
        (("t", 1, "1/t"), {}, r"\(g/a\)\^2 is (not finite|too rough) (at|near) t = "),
        (("Heaviside(t-0.3)",), {}, r"A is too rough near t = 0\.3 .* split the span there"),
        ((torch.ones(3), "1+t"), {}, "Coefficients that are tensors must all be constant in time"),
        (
            ("t",),
            {"clock": "log"},
            r"Unknown clock 'log': choose one of \('auto', 'exponential', 'linear'\)",
        ),
        (
            ("t",),
            {"clock": "linear", "clock_start": 1.0},
            "clock_start belongs to the exponential clock",
        ),
        (("t",), {"clock_start": 0.0}, "clock_start is the value of a positive primitive, got 0.0"),
        (
            ("t",),
            {"span": (1.0, 1.0)},
            r"span must be two different finite times, got \(1.0, 1.0\)",
        ),
        (("t",), {"span": (0.0, math.inf)}, "span must be two different finite times"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        from_coefficients(*arguments, **{"span": (0.0, 1.0)} | options)


@pytest.mark.parametrize(
    ("A", "b", "what"),
    [
        ("t", 1.0, "the weight b/a of F"),
        (-1.0, 1.0, "the coefficients"),
        ([1.0, 2.0], 1.0, "the coefficients"),
        ("t", 0.0, "the"),
    ],
)
def test_a_grid_that_leaves_the_span(A: Any, b: float, what: str):
    for span, grid in (((0.0, 1.0), [0.0, 1.5]), ((1.0, 0.0), [1.5, 0.0])):
        with pytest.raises(
            ValueError, match=rf"t = 1\.5 is outside the span from 0 to 1 of {what}"
        ):
            compile_plan(from_coefficients(A, b, span=span), "seeds-1", grid)


def test_a_grid_in_single_precision_does_not_leave_the_span_of_constants():
    grid = torch.linspace(0.0, 0.1, 4)
    assert float(grid[-1]) > 0.1
    assert len(compile_plan(from_coefficients(-1.0, span=(0.0, 0.1)), "seeds-2", grid).rows) == 6


@pytest.mark.parametrize("span", [(0.0, 2.0), (2.0, 0.0)])
@pytest.mark.parametrize("b", [0.0, "0*t", lambda t: 0.0 * t])
def test_without_F(b: Any, span: tuple[float, float]):
    """b = 0 is a linear SDE: propagator and noise are those of any other b, and F has no weight."""
    linear, other = (from_coefficients("-cos(t)", factor, "1+t", span=span) for factor in (b, 1.0))
    grid = np.linspace(*span, 4)
    plan, exact = (compile_plan(sde, "seeds-1", grid) for sde in (linear, other))
    for row, first in zip(plan.rows, exact.rows, strict=True):
        assert row.scale == pytest.approx(first.scale, rel=1e-13) and [
            w for _, w in row.weights
        ] == [0.0]
        assert float(plan.noise_std(row)) == pytest.approx(float(exact.noise_std(first)), rel=1e-13)
    assert (
        linear.rho == 0.0 and linear.kappa == 0.0 and float(linear.coefficients_at(0.5)[1]) == 0.0
    )
    for solver in SOLVERS:
        z = noise.Replay(torch.zeros(9, *X.shape, dtype=torch.float64))
        x = integrate(linear, lambda x, t: torch.sin(x), X, grid, solver, z).x
        torch.testing.assert_close(
            x, X * math.exp(math.sin(span[0]) - math.sin(span[1])), rtol=1e-12, atol=1e-12
        )


def test_functions_for_numpy_torch_and_plain_python_agree():
    same_plans(
        from_coefficients("-cos(t)", "exp(-t)", "2-t/3", span=(0.0, 2.0)),
        from_coefficients(
            lambda t: -np.cos(t), lambda t: np.exp(-t), lambda t: 2 - t / 3, span=(0.0, 2.0)
        ),
        from_coefficients(
            lambda t: -torch.cos(t), lambda t: torch.exp(-t), lambda t: 2 - t / 3, span=(0.0, 2.0)
        ),
        from_coefficients(
            lambda t: -math.cos(t), lambda t: math.exp(-t), lambda t: 2 - t / 3, span=(0.0, 2.0)
        ),
        grid=[0.0, 0.3, 1.1, 2.0],
    )


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (
            lambda t: "x",
            (
                r"A\(0\.618\) must be a real number, got 'x'; A must be a real function of t, "
                r"written for numpy arrays"
            ),
        ),
        (
            lambda t: {}[t],
            (
                r"written for numpy arrays, torch tensors or one float at a time, but A\(0\.618\) "
                r"fails with KeyError"
            ),
        ),
        (lambda: 1.0, r"fails with TypeError: .*takes 0 positional arguments"),
    ],
)
def test_functions_that_give_no_numbers(A: Any, message: str):
    with pytest.raises(TypeError, match=message):
        from_coefficients(A, span=(0.0, 1.0))


@pytest.mark.parametrize("A", [1.0, "1+t"])
def test_a_grid_against_the_direction_of_the_span(A: Any):
    with pytest.raises(
        ValueError,
        match=r"must increase along the grid, "
        r"but between grid\[0\] = 1 and grid\[1\] = 0.5 it goes",
    ):
        compile_plan(from_coefficients(A, span=(0.0, 1.0)), "seeds-1", [1.0, 0.5, 0.0])


# ---- primitives


def test_primitive_keeps_its_digits_at_both_ends():
    primitive = Primitive(lambda t: torch.exp(-40 * t), 0.0, 1.0)
    t = torch.tensor([0.0, 1e-9, 0.3, 0.999, 1.0], dtype=torch.float64)
    torch.testing.assert_close(primitive(t), -torch.expm1(-40 * t) / 40, rtol=1e-12, atol=1e-17)
    tail = torch.exp(-40 * t) * -torch.expm1(-40 * (1 - t)) / 40
    torch.testing.assert_close(primitive.to_high(t), tail, rtol=1e-12, atol=1e-30)
    assert primitive(torch.tensor(1.0 + 1e-14, dtype=torch.float64)) == pytest.approx(
        -math.expm1(-40) / 40, rel=1e-12
    )


@pytest.mark.parametrize("rate", [400.0, 1000.0, 20_000.0])
def test_a_stiff_linear_part_that_depends_on_time(rate: float):
    """A = −2 · rate · t, whose propagator leaves the floating-point numbers. The variance of the
    linear SDE at t = 1 is g² ∫ e^{−2 rate (1 − s²)} ds, Dawson's integral; with F = cos 3t the mean
    is ∫ cos 3s e^{−rate (1 − s²)} ds, up to what the start leaves."""

    def drift(t: Tensor) -> Tensor:
        return -2.0 * rate * t

    linear = SemiLinearSDE.from_coefficients(drift, 0.0, 0.3, span=(0.0, 1.0))
    plan = compile_plan(linear, "seeds-1", torch.linspace(0.0, 1.0, 21, dtype=torch.float64))
    variance: Any = 0.0
    for row in plan.rows:
        variance = variance * row.scale**2 + sum(value**2 for value in row.noise)
    root = math.sqrt(2.0 * rate)
    assert variance == pytest.approx(0.09 * dawsn(root) / root, rel=1e-9)

    sde, x = (
        SemiLinearSDE.from_coefficients(drift, span=(0.0, 1.0)),
        torch.ones(1, 1, dtype=torch.float64),
    )
    exact, _ = quad.quad(
        lambda s: math.cos(3.0 * s) * math.exp(-rate * (1.0 - s * s)),
        0.0, 1.0, points=[1.0 - 20.0 / rate, 1.0 - 2.0 / rate], epsabs=1e-16, epsrel=1e-12,
    )  # fmt: skip
    errors = []
    for n in (32, 128):
        ends = compile_plan(sde, "seeds-3", torch.linspace(0.0, 1.0, n + 1, dtype=torch.float64))
        end = execute(ends, lambda x, t: torch.cos(3.0 * t) + 0.0 * x, x)
        errors.append(abs(end.item() - exact))
    assert errors[1] < errors[0] / 10 < 1e-3 / rate


@pytest.mark.parametrize("span", ["01", (0.0, 1.0, 2.0), None, 1.0, (1.0, 1.0), (0.0, math.inf)])
def test_spans_that_are_none(span: Any):
    with pytest.raises((ValueError, TypeError), match=r"span must be|as real numbers"):
        SemiLinearSDE.from_coefficients(-1.0, span=span)


def test_a_clock_that_starts_at_a_text():
    with pytest.raises(ValueError, match="clock_start is the value of a positive primitive"):
        SemiLinearSDE.from_coefficients("-t", span=(0.0, 1.0), clock_start="1")  # type: ignore[arg-type]
