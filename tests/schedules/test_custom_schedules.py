"""Schedules that a user writes down, as formulas or functions: admissible ones are accurate, others
are refused.
"""

import ast
import math
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
import pytest
import sympy
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from torch import Tensor

import expint
from expint.convergence import fitted_order, gaussian_moments
from expint.numerics.roots import TimeLine, bracketed_root
from expint.schedules import (
    VE,
    VP,
    Cosine,
    Discrete,
    Flow,
    FromCallables,
    Schedule,
    SubVP,
    Symbolic,
)

INF = math.inf
# No shrinking: a failing example takes a second, and says enough as it is.
few = settings(
    deadline=None, max_examples=20, derandomize=True, phases=[Phase.explicit, Phase.generate]
)


def b(t: object) -> object:
    return 9.95 * t * t + 0.1 * t  # type: ignore[operator]


CLOSED_AND_WRITTEN: dict[str, tuple[Schedule, Schedule]] = {
    "from_beta": (VP(), Symbolic.from_beta("0.1 + 19.9*t")),
    "alpha_std": (
        VP(),
        Symbolic("exp(-(9.95*t^2 + 0.1*t)/2)", "sqrt(1 - exp(-(9.95*t^2 + 0.1*t)))"),
    ),
    "from_drift": (VP(), Symbolic.from_drift("-(0.1 + 19.9*t)/2", "sqrt(0.1 + 19.9*t)")),
    "from_lam": (VP(), Symbolic.from_lam("-log(exp(9.95*t**2 + 0.1*t) - 1)/2")),
    "torch": (
        VP(),
        FromCallables(
            lambda t: torch.exp(-b(t) / 2), lambda t: torch.sqrt(-torch.expm1(-b(t))), (0, 1)
        ),
    ),
    "numpy": (
        VP(),
        FromCallables(lambda t: np.exp(-b(t) / 2), lambda t: np.sqrt(-np.expm1(-b(t))), (0, 1)),
    ),
    "math": (
        VP(),
        FromCallables(
            lambda t: math.exp(-b(t) / 2), lambda t: math.sqrt(-math.expm1(-b(t))), (0, 1)
        ),
    ),
    "subvp": (SubVP(), Symbolic("exp(-(9.95*t**2 + 0.1*t)/2)", "1 - exp(-(9.95*t**2 + 0.1*t))")),
    "subvp drift": (
        SubVP(),
        Symbolic.from_drift(
            "-(0.1 + 19.9*t)/2", "sqrt((0.1 + 19.9*t)*(1 - exp(-2*(0.1*t + 9.95*t**2))))"
        ),
    ),
    "flow": (Flow(), Symbolic(1 - sympy.Symbol("t"), sympy.Symbol("t"))),
    "flow drift": (Flow(), Symbolic.from_drift("-1/(1 - t)", "sqrt(2*t/(1 - t))")),
    "shifted flow": (Flow(shift=3.0), Symbolic("(1 - u)/(1 + 2*u)", "3*u/(1 + 2*u)", t="u")),
    "ve": (VE(), Symbolic.from_sigma("sqrt(t)", domain=(0, INF))),
    "ve drift": (VE(sigma_max=0.9), Symbolic.from_drift(0, 1)),
    "cosine": (
        Cosine(t_max=1.0),
        Symbolic.from_sigma(
            "sqrt(sin(w*t)*sin(w*t + 2*w*8/1000))/cos(w*(t + 8/1000))".replace("w", "(pi*125/252)"),
            variance_preserving=True,
        ),
    ),
    "snr": (Flow(), Symbolic.from_snr("(1 - t)**2/t**2")),
}


@pytest.mark.parametrize("name", CLOSED_AND_WRITTEN)
def test_written_and_closed_forms_agree(name: str):
    closed, written = CLOSED_AND_WRITTEN[name]
    high = min(written.domain[1], 5e3)
    t = torch.cat([torch.logspace(-12, -2, 41), torch.linspace(0.01, 0.999, 101) * high]).double()
    torch.testing.assert_close(written.lam(t), closed.lam(t), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(written.t_of_lam(closed.lam(t)), t, rtol=1e-12, atol=1e-13)
    if name != "snr":  # α is another there
        torch.testing.assert_close(written.alpha(t), closed.alpha(t), rtol=1e-12, atol=0)
        torch.testing.assert_close(written.std(t), closed.std(t), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["from_beta", "subvp", "flow", "shifted flow", "torch", "ve"])
def test_forward_sde_of_written_schedules(name: str):
    closed, written = CLOSED_AND_WRITTEN[name]
    t = torch.linspace(1e-6, 0.99, 50, dtype=torch.float64)
    torch.testing.assert_close(written.drift(t), closed.drift(t), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(
        written.diffusion_squared(t), closed.diffusion_squared(t), rtol=1e-10, atol=1e-13
    )
    if isinstance(written, Symbolic):
        for expression, method in (
            (written.kernel.drift, written.drift),
            (written.kernel.diffusion_squared, written.diffusion_squared),
        ):
            exact = [float(expression.subs(written.symbol, sympy.Float(x, 30))) for x in (0.2, 0.7)]
            assert method(torch.tensor([0.2, 0.7], dtype=torch.float64)).tolist() == pytest.approx(
                exact, rel=1e-9, abs=1e-12
            )


def test_sub_vp_is_songs_sde():
    """Song et al.: dx = −½β x dt + √(β (1 − e^{−2∫β})) dω."""
    schedule = SubVP(beta_d=7.0, beta_min=0.3)
    t = torch.linspace(1e-3, 1.0, 60, dtype=torch.float64)
    beta, integral = 0.3 + 7.0 * t, 0.3 * t + 3.5 * t**2
    torch.testing.assert_close(schedule.drift(t), -0.5 * beta, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        schedule.diffusion_squared(t), -beta * torch.expm1(-2 * integral), rtol=1e-10, atol=0
    )
    assert (schedule.std(t) < VP(7.0, 0.3).std(t)).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Symbolic.from_beta("0.1 + 19.9*t"),
        lambda: Symbolic("1 - t", "t"),
        lambda: Symbolic.from_sigma("0.01*5000**t"),
        lambda: Symbolic.from_lam("5 - 10*t - 3*t**2"),
        lambda: Symbolic("sqrt(1 - t**2)", "t"),
        lambda: Symbolic.from_lam("-log(tan(pi*t/2))"),
        lambda: Symbolic.from_lam("5 - 10*t - 3*t**3"),
        lambda: Symbolic.from_beta("0.1 + 20*sin(t)**2*exp(t**2)"),
    ],
)
def test_the_inverse_returns_lambda_to_1e_12(build: Callable[[], Symbolic]):
    start = time.perf_counter()
    schedule = build()
    line = TimeLine(*schedule.domain)
    lam = schedule.lam(line(line.nodes(20.0, 81)))
    torch.testing.assert_close(schedule.lam(schedule.t_of_lam(lam)), lam, rtol=1e-12, atol=1e-12)
    assert time.perf_counter() - start < 5.0  # about 0.1 s on an idle machine


def test_a_formula_gives_the_same_schedule_however_busy_the_machine_is(
    monkeypatch: pytest.MonkeyPatch,
):
    """No thread, foreign function or clock is in the formulas' way."""
    formulas: list[Callable[[], Symbolic]] = [
        lambda: Symbolic.from_beta("0.1 + 20*sin(t)**2*exp(t**2)"),
        lambda: Symbolic.from_beta("1 + 8*sin(3*t)**2"),
        lambda: Symbolic.from_drift("-1/(1 - t)", "sqrt(2*t/(1 - t))"),
        lambda: Symbolic.from_lam("5 - 10*t - 3*t**2"),
    ]
    before = [build() for build in formulas]
    latex = [schedule.latex() for schedule in before]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a formula depends on threads or on time")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for clock in ("time", "monotonic", "perf_counter", "process_time"):
        monkeypatch.setattr(time, clock, refuse)
    sympy.core.cache.clear_cache()
    after = [build() for build in formulas]
    assert after == before and [schedule.latex() for schedule in after] == latex


def test_the_schedules_import_no_threads_foreign_functions_or_clocks():
    root = Path(expint.schedules.__file__).parent
    files = list(root.rglob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            found = {name.split(".")[0] for name in names}
            assert not found & {"threading", "ctypes", "time", "signal"}, (file, found)


def test_functions_and_coefficients_need_no_sympy():
    code = (
        "import sys, expint, torch; from expint import schedules as s;"
        "s.FromCallables(1.0, lambda t: t, (0, 1)).t_of_sigma(0.5);"
        "expint.SemiLinearSDE.from_coefficients(-1.0, lambda t: 1 + t, span=(0, 1));"
        "assert 'sympy' not in sys.modules;"
        "expint.SemiLinearSDE.from_coefficients('-t', span=(0, 1));"
        "assert 'sympy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_function_without_a_value_at_the_end_takes_its_limit():
    for schedule in (
        Symbolic("sin(t)/t", "t**2*(1 + 1/t)", domain=(0, 3)),
        FromCallables(lambda t: torch.sin(t) / t, lambda t: t**2 / t, (0, 3)),
    ):
        assert schedule.alpha(0.0) == pytest.approx(1.0, rel=1e-13) and schedule.sigma(0.0) == 0.0
        assert schedule.t_of_lam(INF) == 0.0
    with pytest.raises(ValueError, match=r"at the end t = 0 .* give no noise level"):
        Symbolic("1 + sin(1/t)/2", "t*exp(2*t)*(2 + sin(1/t))/10", domain=(0, 1))


def test_a_schedule_may_start_flat():
    """λ = 5 − 10 t³ is the same float64 number at all t < 1e-5: that is not a flat stretch."""
    schedule = Symbolic.from_lam("5 - 10*t**3")
    assert schedule.t_of_lam(4.0) == pytest.approx(0.1 ** (1 / 3), rel=1e-14)
    with pytest.raises(ValueError, match="must decrease strictly with t"):
        Symbolic.from_lam("5 - 10*Max(t - 1/100, 0)")


@pytest.mark.parametrize(
    ("beta", "closed"),
    [
        ("1/10 + 3*t**(5/2)", True),
        ("1/10 + 8*sin(3*t)**2", True),
        ("1/10 + sin(2*t) + cos(t)", True),
        ("1/10 + 2*exp(t/3)", False),
        ("t*exp(t**2)", False),
        ("3**t", False),
        ("3/(1 + 2*t) + t", True),
        ("1/10 + t/((1 + t)*(2 + t)**2) + 3**t", False),  # the logarithms cancel near t = 0
        ("1/(1 + t**2)", False),
        ("exp(sin(t))", False),
    ],
)
def test_integrals_by_rule_and_by_quadrature(beta: str, closed: bool):
    schedule = Symbolic.from_beta(beta)
    assert schedule.kernel.alpha.has(sympy.Integral) != closed
    function = sympy.lambdify("t", sympy.sympify(beta), "mpmath")
    with mpmath.workdps(30):
        for t in (1e-9, 1e-3, 0.4, 1.0):
            area = mpmath.quad(function, mpmath.linspace(0, t, 5))
            assert schedule.lam(t) == pytest.approx(
                float(-mpmath.log(mpmath.expm1(area)) / 2), rel=1e-13, abs=1e-13
            )


def test_precision_near_the_clean_end():
    """α and σ̄ as one writes them cancel completely at t = 1e-17; the schedule does not."""
    for schedule in (
        Symbolic("exp(-t**2)", "sqrt(1 - exp(-2*t**2))"),
        Symbolic.from_drift("-2*t", "sqrt(4*t)"),
        Symbolic.from_beta("4*t"),
    ):
        for t in (1e-17, 1e-9, 1e-3):
            assert schedule.sigma(t) == pytest.approx(math.sqrt(math.expm1(2 * t * t)), rel=1e-13)
    assert Symbolic("cos(t)", "1 - cos(t)", domain=(0, 1)).std(1e-9) == pytest.approx(
        5e-19, rel=1e-12
    )
    powers = Symbolic("3**(-t)", "sqrt(1 - 9**(-t))")
    assert powers.std(1e-12) == pytest.approx(math.sqrt(2e-12 * math.log(3.0)), rel=1e-11)
    fractions = Symbolic("1/sqrt(1 + t**2)", "sqrt(1 - 1/(1 + t**2))")
    assert fractions.std(1e-12) == pytest.approx(1e-12, rel=1e-13)


def test_functions_in_floats_have_derivatives_at_the_ends_of_the_domain():
    schedule = FromCallables(math.cos, math.sin, (0.1, 1.0))
    for t in (0.1, 1.0):
        assert schedule.drift(t) == pytest.approx(-math.tan(t), rel=1e-5)


@pytest.mark.parametrize("kind", ["symbolic", "callables"])
def test_ends_with_no_signal_and_with_no_noise(kind: str):
    build = {
        "symbolic": lambda: Symbolic("cos(t)", "sin(t)", domain=(0, math.pi / 2)),
        "callables": lambda: FromCallables(math.cos, math.sin, domain=(0, math.pi / 2)),
    }
    schedule = build[kind]()
    assert (schedule.lam(0.0), schedule.lam(math.pi / 2)) == (INF, -INF)
    assert (schedule.t_of_lam(INF), schedule.t_of_lam(-INF)) == (0.0, math.pi / 2)
    assert schedule.sampling_range == pytest.approx((math.pi / 2, math.atan(0.002)))
    unbounded = (
        FromCallables(1.0, lambda t: t, (0, INF))
        if kind == "callables"
        else Symbolic(1, "t", domain=(0, INF))
    )
    assert unbounded.sampling_range == (80.0, 0.002) and unbounded.t_of_lam(INF) == 0.0
    noisy = (
        FromCallables(1.0, lambda t: t, (0.01, 5))
        if kind == "callables"
        else Symbolic(1, "t", domain=(0.01, 5))
    )
    assert (
        noisy.sampling_range == (5.0, 0.01)
        and noisy.t_of_lam(INF) == -INF
        and noisy.t_of_lam(noisy.lam(5.0)) == 5.0
    )
    with pytest.raises(
        ValueError, match=r"lambda = 9 is not reached: it runs from 4\.6\d+ down to -1\.6\d+"
    ):
        noisy.t_of_lam(9.0)


def test_gradients_reach_the_parameters_of_functions():
    rate = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    schedule = FromCallables(
        lambda t: torch.exp(-rate * t), lambda t: torch.sqrt(-torch.expm1(-2 * rate * t)), (0, 1)
    )
    lam = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    t = schedule.t_of_lam(lam)
    by_rate, by_lam = torch.autograd.grad(t.sum(), (rate, lam))
    # t = log(1 + e^{−2λ})/(2 rate)
    assert by_rate.item() == pytest.approx(-t.item() / 3.0, rel=1e-10)
    assert by_lam.item() == pytest.approx(-1 / (3.0 * (1 + math.exp(0.6))), rel=1e-10)


def test_a_formula_prints_pickles_and_compares():
    schedule = Symbolic.from_beta("0.1 + 19.9*t")
    assert (
        pickle.loads(pickle.dumps(schedule))
        == schedule
        == Symbolic.from_beta(sympy.sympify("0.1 + 19.9*t"))
    )
    assert r"\alpha_{t}" in schedule.latex() and schedule._repr_latex_().startswith("$$")
    assert repr(schedule).startswith("Symbolic(exp(-199*t**2/40 - t/20), sqrt(1 - exp(")
    with pytest.raises(AttributeError):
        schedule.kernel = None  # type: ignore[misc, assignment]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Symbolic("exp(-b*t)", "t"),
            r"alpha = exp\(-b\*t\) has the free symbol b: give it a value; only t may stay",
        ),
        (
            lambda: Symbolic.from_beta("beta*t + gamma"),
            r"beta = .* has the free symbols beta, gamma",
        ),
        (lambda: Symbolic("1 -", "t"), r"alpha = '1 -' is not an expression"),
        (lambda: Symbolic(sympy.sqrt(-1), "t"), r"alpha = I is not a real expression"),
        (lambda: Symbolic(1, "besselj(0, t)"), r"besselj is not among .*cos.*exp"),
        (lambda: Symbolic("1 - 2*t", "t"), r"alpha must be positive .* between t = 0\.5 and t = 1"),
        (
            lambda: Symbolic("1 - t", "t - 1/4"),
            r"std must be positive .* between t = .* and t = 0\.2\d+",
        ),
        (
            lambda: Symbolic(1, "t*(1.2 - t)"),
            r"between t = 0\.59\d+ and t = 1 it goes from 1\.02.* to 1\.6.*restrict the domain",
        ),
        (
            lambda: FromCallables(1.0, lambda t: t * (1.2 - t), (0, 1)),
            r"between t = 0\.59\d+ and t = 1 it goes",
        ),
        (
            lambda: Symbolic("t", "1 - t"),
            r"Time seems to run from noise to data here: replace t by 1 - t",
        ),
        (
            lambda: FromCallables(lambda t: 1 - 2 * t, lambda t: t, (0, 1)),
            r"alpha must be positive .* between t = 0\.5 ",
        ),
        (
            lambda: FromCallables(lambda t: 1 - t, lambda t: t, (1, 0)),
            r"domain must be .* low < high, got \(1, 0\)",
        ),
        (
            lambda: Symbolic("1 - t", "t", sampling_range=(0.1, 0.9)),
            r"data end < noise end <= 1, got \(0\.1, 0\.9\)",
        ),
        (lambda: Symbolic.from_beta("1/t"), r"integral of 1/s over \(0\.0, 1\.0\) does not settle"),
        (lambda: Symbolic.from_beta("t", domain=(-INF, 1)), r"must start at a finite time"),
        (lambda: Flow(shift=0.0), r"shift > 0, got 0\.0"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_place(build: Callable[[], Schedule], message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"alpha must be a function of t or a number, got 'cos'"):
        FromCallables("cos", 1.0, (0, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"alpha\(0\.5\) must be a real number, got 'x'"):
        FromCallables(lambda t: "x", 1.0, (0, 1))  # type: ignore[arg-type, return-value]


def test_bracketed_root_keeps_its_bits():
    target = torch.linspace(-3, 3, 101, dtype=torch.float64)
    root = bracketed_root(
        lambda x: x**3 - target, torch.full_like(target, -2.0), torch.full_like(target, 2.0)
    )
    torch.testing.assert_close(
        root, torch.sign(target) * target.abs() ** (1 / 3), rtol=1e-14, atol=1e-90
    )


# Random admissible schedules.


def spline(times: np.ndarray, lam: np.ndarray) -> FromCallables:
    """Variance preserving, λ the monotone spline of t through these points."""
    curve = PchipInterpolator(times, lam)

    def alpha(t: float) -> np.ndarray:
        return np.exp(-0.5 * np.logaddexp(0, -2 * curve(t)))

    def std(t: float) -> np.ndarray:
        return np.exp(-0.5 * np.logaddexp(0, 2 * curve(t)))

    return FromCallables(alpha, std, (0.0, float(times[-1])))


@st.composite
def admissible(draw: st.DrawFn) -> Schedule:
    kind = draw(st.sampled_from(["spline", "beta", "sigma", "lam", "pair", "table", "cubic table"]))
    p, q, r = (draw(st.floats(0.3, 3.0)) for _ in range(3))
    if kind == "spline":
        pieces = draw(
            st.lists(st.tuples(st.floats(0.2, 1.0), st.floats(0.5, 3.0)), min_size=4, max_size=6)
        )
        gaps, drops = (
            np.concatenate([[0.0], np.cumsum(column)]) for column in zip(*pieces, strict=True)
        )
        return spline(gaps, 5.0 - 8.0 * drops / drops[-1])
    if kind == "beta":
        return Symbolic.from_beta(f"{p:.3f} + {4 * q:.3f}*t**{1 + r:.2f}")
    if kind == "sigma":
        return Symbolic.from_sigma(f"{p:.3f}*t**{1 + q:.3f} + {r:.3f}*t", variance_preserving=r > 1)
    if kind == "lam":
        return Symbolic.from_lam(f"4 - {3 * p:.3f}*t - {2 * q:.3f}*sin(t) - {r:.3f}*t**3")
    if kind == "pair":
        return Symbolic(f"exp(-{p:.3f}*t)", f"{q:.3f}*tanh({r:.3f}*t)")
    betas = torch.linspace(0.001 * p, 0.02 * q, 300, dtype=torch.float64) * (
        1 + 0.3 * torch.sin(r * torch.arange(300) / 50)
    )
    return Discrete.from_betas(betas, "cubic" if kind == "cubic table" else "linear")


def interior(schedule: Schedule, points: int) -> Tensor:
    """Times from σ = 0.01 (or the data end) to the noise end, without the very ends."""
    first, last = schedule.sampling_range
    low = max(schedule.lam(first), -6.0)
    return schedule.t_of_lam(
        torch.linspace(low, min(schedule.lam(last), 4.6), points + 2, dtype=torch.float64)[1:-1]
    )


@few
@given(schedule=admissible())
def test_a_random_schedule_is_consistent(schedule: Schedule):
    lam = schedule.lam(interior(schedule, 60))
    torch.testing.assert_close(schedule.lam(schedule.t_of_lam(lam)), lam, rtol=1e-9, atol=1e-9)
    t = schedule.t_of_lam(lam)
    assert (lam.diff() > 0).all() and (t.diff() < 0).all()
    if isinstance(schedule, Discrete):
        t = torch.floor(t) + 0.5
    h = 1e-3 * (t - schedule.domain[0]).minimum(schedule.domain[1] - t)
    if isinstance(
        schedule, FromCallables
    ):  # a spline has jumps in λ'': there the differences on both sides of a knot disagree
        slopes = schedule.diffusion_squared(torch.stack([t - 6 * h, t, t + 6 * h]))
        smooth = (slopes[0] + slopes[2] - 2 * slopes[1]).abs() < 1e-2 * slopes[1]
        t, h = t[smooth], 0.1 * h[smooth]

    def slope(f: Callable[[Tensor], Tensor]) -> Tensor:
        return (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)

    drift = slope(schedule.log_alpha)
    scale = drift.abs().max().item() + 1.0
    torch.testing.assert_close(schedule.drift(t), drift, rtol=1e-4, atol=1e-6 * scale)
    g2 = slope(lambda u: schedule.std(u) ** 2) - 2 * drift * schedule.std(t) ** 2
    torch.testing.assert_close(
        schedule.diffusion_squared(t), g2, rtol=1e-4, atol=1e-5 * g2.max().item()
    )


def errors_of(schedule: Schedule, solver: str, ell: float, grids: list[Tensor]) -> list[float]:
    """Largest error in the moments of the sampler's law on Gaussian data, relative to the
    data's.
    """
    target = expint.targets.Gaussian([1.0, -0.5], [0.25, 1.0], schedule)
    found = []
    for grid in grids:
        plan = expint.compile_plan(expint.reverse_sde(schedule, "data", ell), solver, grid)
        start = float(schedule.std(grid[0].item()))
        mean, variance = gaussian_moments(
            plan, target, initial=(torch.zeros(2), torch.full((2,), start**2))
        )
        exact = ideal(schedule, ell, grid, target)
        found.append(
            max((mean - exact[0]).abs().max().item(), (variance / exact[1] - 1).abs().max().item())
        )
    return found


def ideal(
    schedule: Schedule, ell: float, grid: Tensor, target: expint.targets.Gaussian
) -> tuple[Tensor, Tensor]:
    """The exact law at the end of the grid when the start is N(0, σ̄²) rather than the marginal.

    With V = v + σ², x = α(m + y) and D = m + v/V y, the reverse SDE is dy = (1+ℓ²)/2 y d log V +
    noise: y scales by (V_t/V_s)^{(1+ℓ²)/2}, the factor for which the marginal variance V is
    stationary. Deviations from the marginal shrink by it.
    """
    (alpha_s, alpha_t), (sigma_s, sigma_t) = (
        (f(grid[0].item()), f(grid[-1].item())) for f in (schedule.alpha, schedule.sigma)
    )
    big, small = target.variances + sigma_s**2, target.variances + sigma_t**2
    if math.isinf(sigma_s):
        return alpha_t * target.mean, alpha_t**2 * small
    factor = (small / big) ** (0.5 * (1 + ell**2))
    assert alpha_s > 0
    return alpha_t * target.mean * (1 - factor), alpha_t**2 * (
        small + factor**2 * (sigma_s**2 - big)
    )


@pytest.mark.parametrize("ell", [0.0, 1.0])
@few
@given(schedule=admissible())
def test_seeds_2_has_order_2_on_every_random_schedule(ell: float, schedule: Schedule):
    noise, data = schedule.sampling_range
    low = max(schedule.lam(noise), -3.0)
    high = min(schedule.lam(data), low + 4.0)
    steps = [40, 56, 80]
    grids = [
        schedule.t_of_lam(torch.linspace(low, high, n + 1, dtype=torch.float64)) for n in steps
    ]
    assert fitted_order(steps, errors_of(schedule, "seeds-2", ell, grids)) == pytest.approx(
        2.0, abs=0.1
    )


def test_a_time_line_resolves_both_ends():
    for low, high in ((0.0, 1.0), (0.0, INF), (-INF, 3.0), (-INF, INF), (2.0, 5.0)):
        t = TimeLine(low, high)(TimeLine(low, high).nodes(30.0, 101))
        assert (t.diff() > 0).all() and t[0] > low and t[-1] < high
