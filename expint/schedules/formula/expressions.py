"""From sympy expressions of time to float64 torch functions, and what is needed around that:
parsing, precision, time limits.
"""

import ctypes
import math
import operator
import threading
from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import mpmath
import sympy
import torch
from sympy.codegen.cfunctions import expm1, log1p
from sympy.parsing.sympy_parser import convert_xor, parse_expr, standard_transformations
from torch import Tensor

from expint.numerics.antiderivative import Antiderivative

__all__ = [
    "TimeFunction",
    "compiled",
    "log1mexp",
    "parse",
    "precise",
    "rewritten",
    "softplus",
    "within",
]

R = TypeVar("R")
TimeFunction = Callable[[Tensor], Tensor]

# Names that sympy gives a meaning of its own; in a schedule they are parameters that were
# forgotten.
_NOT_FUNCTIONS = ("beta", "gamma", "zeta", "lamda", "S", "N", "Q", "O", "I", "C")


class softplus(sympy.Function):  # noqa: N801  (as sympy names its functions)
    """log(1 + e^x)."""


class log1mexp(sympy.Function):  # noqa: N801
    """log(1 − e^x) for x < 0."""


class one_minus_exp(sympy.Function):  # noqa: N801
    """1 − e^x, mostly for x < 0: unlike −expm1(x) it does not hide a sign from the rules for
    logarithms.
    """


def parse(name: str, given: Any, t: sympy.Symbol) -> sympy.Expr:
    """`given` (string, sympy expression, number) as an expression in `t`, decimal numbers taken at
    their printed value.

    Strings are read by sympy's parser, which evaluates them as Python: do not pass strings from
    strangers.

    Raises:
        ValueError: for anything that is not a real expression whose only free symbol is called like
            `t`.
    """
    try:
        if isinstance(given, str):
            known = {t.name: t} | {n: sympy.Symbol(n) for n in _NOT_FUNCTIONS if n != t.name}
            expression = parse_expr(
                given, known, transformations=(*standard_transformations, convert_xor)
            )
        else:
            expression = sympy.sympify(given)
    except Exception as error:  # the parser raises whatever Python raises
        raise ValueError(f"{name} = {given!r} is not an expression: {error}.") from None
    if not isinstance(expression, sympy.Expr):
        raise ValueError(
            f"{name} = {given!r} is not an expression in {t.name} (sympy read it as "
            f"{type(expression).__name__})."
        )
    expression = expression.subs({s: t for s in expression.free_symbols if str(s) == t.name})
    strange = sorted(str(s) for s in expression.free_symbols - {t})
    if strange:
        plural = "s" if len(strange) > 1 else ""
        raise ValueError(
            f"{name} = {expression} has the free symbol{plural} {', '.join(strange)}; only "
            f"{t.name} may be free. Put numbers in first, for example {name}.subs({strange[0]!r}, "
            f"1), or name the time with t={strange[0]!r}."
        )
    if expression.has(sympy.I, sympy.nan, sympy.zoo):
        raise ValueError(f"{name} = {expression} is not a real expression.")
    return sympy.nsimplify(expression, rational=True) if expression.has(sympy.Float) else expression


def rewritten(expression: Any) -> Any:
    """The same expression with c e^x − c, c − c cos x and log(1 + x) in forms that do not cancel
    near x = 0.
    """
    return expression.replace(lambda e: e.is_Add, _without_cancellation).replace(
        lambda e: (
            isinstance(e, sympy.log) and e.args[0].is_Add and e.args[0].as_coeff_Add()[0] == 1
        ),
        lambda e: log1p(e.args[0] - 1),
    )


def _without_cancellation(total: Any) -> Any:
    constant, _ = total.as_coeff_Add()
    for term in total.args if constant != 0 else ():
        factor, function = term.as_coeff_Mul()
        if factor == -constant and isinstance(function, sympy.exp):
            name: Any = one_minus_exp if constant > 0 else expm1
            return total - constant - term + abs(constant) * name(function.args[0])
        if factor == -constant and isinstance(function, sympy.cos):
            half: Any = function.args[0] / sympy.Integer(2)  # pyright: ignore[reportOperatorIssue]  (sympy does not type args)
            return total - constant - term + 2 * constant * sympy.sin(half) ** 2
    return total


class _TimeIsUp(BaseException):
    """Raised in a thread whose time is up; not an Exception, which sympy catches in many places."""


def within(seconds: float, function: Callable[[], R], default: R) -> R:
    """`function()`, or `default` if it fails or takes longer than `seconds`.

    sympy's algorithms may run for ever on an innocent expression. They are Python, so a thread that
    runs one can be made to raise an exception between two instructions; this also works on systems
    and in threads that have no alarm signal.
    """
    results: list[R] = []

    def run() -> None:
        try:
            results.append(function())
        except (_TimeIsUp, Exception):
            return

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive() and worker.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(worker.ident), ctypes.py_object(_TimeIsUp)
        )
        worker.join(1.0)
    return results[0] if results else default


def precise(expression: Any, t: sympy.Symbol, times: list[float]) -> list[float]:
    """The expression at exactly these times, from 60-digit arithmetic; NaN where it is no real
    number.
    """
    function = sympy.lambdify(t, expression, "mpmath")
    values = []
    with mpmath.workdps(60):
        for time in times:
            try:
                value = function(mpmath.mpf(time))
                values.append(float(value) if not isinstance(value, mpmath.mpc) else math.nan)
            except (ZeroDivisionError, ValueError, OverflowError, TypeError):
                values.append(math.nan)
    return values


def _max(*values: Any) -> Tensor:
    return reduce(torch.maximum, _tensors(values))


def _min(*values: Any) -> Tensor:
    return reduce(torch.minimum, _tensors(values))


def _tensors(values: tuple[Any, ...]) -> list[Tensor]:
    return [torch.as_tensor(v, dtype=torch.float64) for v in values]


def _power(base: Any, exponent: Any) -> Any:
    if exponent == 0.5:
        return torch.sqrt(base)
    return 1.0 / base if exponent == -1.0 else base**exponent


def _piecewise(*parts: Any) -> Tensor:
    """Values and conditions in turn; the first condition that holds decides, and where none does
    there is no number.
    """
    result = torch.tensor(math.nan, dtype=torch.float64)
    for value, condition in reversed(list(zip(parts[::2], parts[1::2], strict=True))):
        result = torch.where(torch.as_tensor(condition), *_tensors((value, result)))
    return result


_OPERATIONS: dict[Any, Callable[..., Any]] = {
    sympy.Add: lambda *terms: reduce(operator.add, terms),
    sympy.Mul: lambda *factors: reduce(operator.mul, factors),
    sympy.Pow: _power,
    sympy.exp: torch.exp,
    sympy.log: torch.log,
    sympy.Abs: torch.abs,
    sympy.sign: torch.sign,
    sympy.sin: torch.sin,
    sympy.cos: torch.cos,
    sympy.tan: torch.tan,
    sympy.cot: lambda x: 1.0 / torch.tan(x),
    sympy.sec: lambda x: 1.0 / torch.cos(x),
    sympy.csc: lambda x: 1.0 / torch.sin(x),
    sympy.asin: torch.asin,
    sympy.acos: torch.acos,
    sympy.atan: torch.atan,
    sympy.acot: lambda x: torch.atan(1.0 / x),
    sympy.sinh: torch.sinh,
    sympy.cosh: torch.cosh,
    sympy.tanh: torch.tanh,
    sympy.coth: lambda x: 1.0 / torch.tanh(x),
    sympy.sech: lambda x: 1.0 / torch.cosh(x),
    sympy.csch: lambda x: 1.0 / torch.sinh(x),
    sympy.asinh: torch.asinh,
    sympy.acosh: torch.acosh,
    sympy.atanh: torch.atanh,
    sympy.erf: torch.erf,
    sympy.erfc: torch.erfc,
    sympy.erfinv: torch.erfinv,
    sympy.loggamma: torch.lgamma,
    sympy.Max: _max,
    sympy.Min: _min,
    sympy.Piecewise: _piecewise,
    sympy.StrictLessThan: operator.lt,
    sympy.LessThan: operator.le,
    sympy.StrictGreaterThan: operator.gt,
    sympy.GreaterThan: operator.ge,
    sympy.And: lambda *parts: reduce(operator.and_, parts),
    sympy.Or: lambda *parts: reduce(operator.or_, parts),
    expm1: torch.expm1,
    log1p: torch.log1p,
    one_minus_exp: lambda x: -torch.expm1(x),
    softplus: lambda x: torch.logaddexp(torch.zeros_like(x), x),
    log1mexp: lambda x: torch.log(-torch.expm1(x)),
}


def compiled(expression: Any, t: sympy.Symbol, domain: tuple[float, float]) -> TimeFunction:
    """The expression as a differentiable function of a float64 tensor; common parts are computed
    once.

    Integrals ∫_c^t that sympy left as they are become quadratures over the domain.

    Raises:
        ValueError: for a function of sympy that has no counterpart in torch.
    """
    tape: list[tuple[Callable[..., Any], tuple[int, ...]]] = []
    places: dict[Any, int] = {}

    def place(node: Any) -> int:
        if node not in places:
            if node == t:
                entry = (lambda time: time, ())
            elif (
                node.is_number
                if isinstance(node, sympy.Expr)
                else node in (sympy.true, sympy.false)
            ):
                entry = (_constant(node), ())
            elif isinstance(node, sympy.Integral):
                entry = (_antiderivative(node, t, domain), ())
            elif isinstance(node, sympy.Piecewise):
                parts = tuple(place(part) for pair in node.args for part in pair.args)
                entry = (_piecewise, parts)
            elif node.func in _OPERATIONS:
                entry = (_OPERATIONS[node.func], tuple(place(part) for part in node.args))
            else:
                known = ", ".join(
                    sorted(f.__name__ for f in _OPERATIONS if f.__name__[0].islower())
                )
                raise ValueError(
                    f"Cannot compute {node} with torch: {node.func.__name__} is not among {known}."
                )
            tape.append(entry)
            places[node] = len(tape) - 1
        return places[node]

    place(expression)

    def function(time: Tensor) -> Tensor:
        values: list[Any] = []
        for operation, arguments in tape:
            values.append(
                operation(*(values[i] for i in arguments)) if arguments else operation(time)
            )
        if isinstance(values[-1], Tensor) and values[-1].shape == time.shape:
            return values[-1]
        return torch.where(torch.isfinite(time), 0.0 * time, 0.0) + values[-1]

    return function


def _constant(node: Any) -> Callable[[Tensor], Any]:
    value = bool(node) if node in (sympy.true, sympy.false) else float(node)
    return lambda time: value


def _antiderivative(node: Any, t: sympy.Symbol, domain: tuple[float, float]) -> TimeFunction:
    ((variable, low, high),) = node.limits
    if high != t or low.free_symbols:
        raise ValueError(f"Cannot compute {node}: integrals must run from a number to {t.name}.")
    return Antiderivative(
        compiled(node.function.subs(variable, t), t, domain),
        float(low),
        domain[1],
        str(node.function),
    )
