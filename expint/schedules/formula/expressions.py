"""From strings and sympy expressions of time to float64 torch functions that lose no digits."""

import math
import operator
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, cast

import mpmath
import sympy
import torch
from sympy.codegen.cfunctions import expm1, log1p
from sympy.core.function import AppliedUndef
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.parsing.sympy_parser import convert_xor, parse_expr, standard_transformations
from torch import Tensor

from expint.numerics.quadrature import Primitive, RealFunction

Expr = Any  # a sympy expression; sympy's own annotations lose track of them

# Names that sympy gives a meaning of its own; here they are parameters that were forgotten.
_NOT_FUNCTIONS = ("beta", "gamma", "zeta", "lamda", "S", "N", "Q", "O", "C")


class softplus(sympy.Function):  # noqa: N801  (as sympy names its functions)
    """log(1 + e^x)."""


class log1mexp(sympy.Function):  # noqa: N801
    """log(1 − e^x) for x < 0."""


class one_minus_exp(sympy.Function):  # noqa: N801
    """1 − e^x, mostly for x < 0: unlike −expm1(x) it does not hide a sign from the rules for
    logarithms.
    """


def time_symbol(name: Any, low: float = -math.inf) -> sympy.Symbol:
    """The symbol of a time that is at least `low`, from its name or another symbol.

    Raises:
        ValueError: if it is neither.
    """
    text = name.name if isinstance(name, sympy.Symbol) else name
    if not isinstance(text, str) or not text.isidentifier():
        raise ValueError(f"t must be a sympy symbol or a name, got {name!r}.")
    return sympy.Symbol(text, positive=True) if low >= 0 else sympy.Symbol(text, real=True)


def parse(name: str, given: Any, t: sympy.Symbol, way_out: str = "") -> Expr:
    """`given` (string, sympy expression, number) as an expression in `t`, decimal numbers taken at
    their printed value; `way_out` is added to the message about other free symbols.

    Strings are read by sympy's parser, which evaluates them as Python: do not pass strings from
    strangers.

    Raises:
        ValueError: for anything that is not a real expression whose only free symbol is called like
            `t`.
    """
    try:
        if isinstance(given, str):
            known = {t.name: t} | {n: sympy.Symbol(n) for n in _NOT_FUNCTIONS if n != t.name}
            rules = (*standard_transformations, convert_xor)
            expression = parse_expr(given, known, transformations=rules)
        else:
            expression = sympy.sympify(given)
    except Exception as error:  # the parser raises whatever Python raises
        raise ValueError(f"{name} = {given!r} is not an expression in {t.name}: {error}.") from None
    if not isinstance(expression, sympy.Expr):
        kind = type(expression).__name__
        raise ValueError(f"{name} = {given!r} is not an expression in {t.name}, but {kind}.")
    expression = expression.subs({s: t for s in expression.free_symbols if str(s) == t.name})
    strange = sorted(str(s) for s in expression.free_symbols - {t})
    if strange:
        plural, them = ("s", "them") if len(strange) > 1 else ("", "it")
        raise ValueError(
            f"{name} = {expression} has the free symbol{plural} {', '.join(strange)}: give {them} "
            f"a value; only {t.name} may stay free{way_out}."
        )
    unknown = sorted(str(f) for f in expression.atoms(AppliedUndef))
    if unknown:
        raise ValueError(f"{name} = {expression} has the unknown function {unknown[0]}.")
    if expression.has(sympy.I, sympy.nan, sympy.zoo):
        raise ValueError(f"{name} = {expression} is not a real expression in {t.name}.")
    return sympy.nsimplify(expression, rational=True) if expression.has(sympy.Float) else expression


def rewritten(expression: Expr) -> Expr:
    """The same expression with c e^x − c, c − c cos x and log(1 + x) in forms that do not cancel
    near x = 0.
    """
    return expression.replace(lambda e: e.is_Add, _without_cancellation).replace(
        lambda e: isinstance(e, sympy.log) and e.args[0].as_coeff_Add()[0] == 1,
        lambda e: log1p(e.args[0] - 1),
    )


def _without_cancellation(total: Expr) -> Expr:
    constant, _ = total.as_coeff_Add()
    for term in total.args if constant != 0 else ():
        factor, function = term.as_coeff_Mul()
        if factor == -constant and isinstance(function, sympy.exp):
            name: Any = one_minus_exp if constant > 0 else expm1
            return total - constant - term + abs(constant) * name(function.args[0])
        if factor == -constant and isinstance(function, sympy.cos):
            half: Expr = function.args[0] / sympy.Integer(2)  # pyright: ignore[reportOperatorIssue]  (sympy does not type args)
            return total - constant - term + 2 * constant * sympy.sin(half) ** 2
    return total


def precise(expression: Expr, t: sympy.Symbol, times: list[Any]) -> list[float]:
    """The expression at exactly these times, from 60-digit arithmetic; NaN where it is not a real
    number.
    """
    function = sympy.lambdify(t, expression, "mpmath")
    values = []
    with mpmath.workdps(60):
        for time in times:
            try:
                value = function(mpmath.mpf(time))
                values.append(mpmath.nan if isinstance(value, mpmath.mpc) else value)
            except (ZeroDivisionError, ValueError, OverflowError, TypeError):
                values.append(mpmath.nan)
    return [float(value) for value in values]


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    return [torch.as_tensor(v, dtype=torch.float64) for v in values]


def _piecewise(*pairs: tuple[Any, Any]) -> Tensor:
    """The value of the first condition that holds; where none does there is no number."""
    result = torch.tensor(math.nan, dtype=torch.float64)
    for value, condition in reversed(pairs):
        result = torch.where(torch.as_tensor(condition), *_tensors((value, result)))
    return result


_SAME_NAME = (
    "exp log sign sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv floor"
)
_OPERATIONS: dict[Any, Callable[..., Any]] = {
    **{getattr(sympy, name): getattr(torch, name) for name in _SAME_NAME.split()},
    sympy.Add: lambda *terms: reduce(operator.add, terms),
    sympy.Mul: lambda *factors: reduce(operator.mul, factors),
    sympy.Pow: operator.pow,
    sympy.Abs: torch.abs,
    sympy.ceiling: torch.ceil,
    sympy.loggamma: torch.lgamma,
    sympy.cot: lambda x: 1.0 / torch.tan(x),
    sympy.sec: lambda x: 1.0 / torch.cos(x),
    sympy.csc: lambda x: 1.0 / torch.sin(x),
    sympy.acot: lambda x: torch.atan(1.0 / x),
    sympy.coth: lambda x: 1.0 / torch.tanh(x),
    sympy.sech: lambda x: 1.0 / torch.cosh(x),
    sympy.csch: lambda x: 1.0 / torch.sinh(x),
    sympy.Heaviside: lambda x, at_zero: torch.heaviside(*_tensors((x, at_zero))),
    sympy.Max: lambda *values: reduce(torch.maximum, _tensors(values)),
    sympy.Min: lambda *values: reduce(torch.minimum, _tensors(values)),
    sympy.Piecewise: _piecewise,
    ExprCondPair: lambda *pair: pair,
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


def compiled(expression: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> RealFunction:
    """The expression as a differentiable function of a float64 tensor; common parts are computed
    once.

    Not `sympy.lambdify`: its printers write coth x and csch x as sums of e^x that cancel. Integrals
    ∫_low^t become quadratures over the domain.

    Raises:
        ValueError: for a function of sympy that has no counterpart in torch.
    """
    constants: dict[Any, Any] = {}
    steps: dict[Any, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def visit(node: Any) -> None:
        if node == t or node in constants or node in steps:
            return
        if node in (sympy.true, sympy.false):
            constants[node] = bool(node)
        elif isinstance(node, sympy.Expr) and node.is_number:
            constants[node] = float(node)
        elif isinstance(node, sympy.Integral):
            variable, low, _ = cast(Any, node).limits[0]
            integrand = compiled(node.function.subs(variable, t), t, domain)
            primitive = Primitive(integrand, float(low), domain[1], name=str(node.function))
            steps[node] = primitive, (t,)
        elif node.func in _OPERATIONS:
            for part in node.args:
                visit(part)
            steps[node] = _OPERATIONS[node.func], node.args
        else:
            known = ", ".join(sorted(f.__name__ for f in _OPERATIONS if f.__name__[0].islower()))
            raise ValueError(
                f"Cannot compute {node} with torch: {node.func.__name__} is not among {known}."
            )

    visit(expression)

    def function(time: Tensor) -> Tensor:
        values = {**constants, t: time}
        for node, (operation, parts) in steps.items():
            values[node] = operation(*(values[part] for part in parts))
        result = values[expression]
        if isinstance(result, Tensor) and result.shape == time.shape:
            return result
        return torch.where(torch.isfinite(time), 0.0 * time, 0.0) + result

    return function
