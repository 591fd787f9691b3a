"""From strings and sympy expressions of time to float64 torch functions that lose no digits."""

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, cast

import sympy
import torch
from sympy.codegen.cfunctions import expm1, log1p
from sympy.codegen.numpy_nodes import logaddexp
from sympy.codegen.rewriting import cosm1_opt, expm1_opt
from sympy.codegen.scipy_nodes import cosm1
from sympy.core.function import AppliedUndef
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.parsing.sympy_parser import convert_xor, parse_expr, standard_transformations
from torch import Tensor

from expint.numerics.quadrature import Primitive, RealFunction

Expr = Any  # a sympy expression; sympy's own annotations lose track of them

# Names that sympy gives a meaning of its own; here they are parameters that were forgotten.
_NOT_FUNCTIONS = ("beta", "gamma", "zeta", "lamda", "S", "N", "Q", "O", "C")


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


def stable(expression: Expr) -> Expr:
    """The same expression with c e^x − c, c cos x − c and log(1 + x) in forms that do not cancel
    near x = 0; powers of numbers are written as e^x.
    """
    expression = expression.replace(
        lambda e: e.is_Pow and e.base.is_positive and e.base.is_number and not e.exp.is_number,
        lambda e: sympy.exp(e.exp * sympy.log(e.base)),
    )
    for rule in (expm1_opt, cosm1_opt):
        expression = expression.replace(lambda e: e.is_Add, rule.replace_in_Add)
    return expression.replace(
        lambda e: isinstance(e, sympy.log) and e.args[0].as_coeff_Add()[0] == 1,
        lambda e: log1p(e.args[0] - 1),
    )


def _piecewise(*pairs: tuple[Any, Any]) -> Tensor:
    """The value of the first condition that holds; where none does there is no number."""
    result = _tensor(math.nan)
    for value, condition in reversed(pairs):
        result = torch.where(torch.as_tensor(condition), _tensor(value), result)
    return result


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _folded(operation: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *parts: reduce(operation, parts)


_SAME_NAME = (
    "exp log sign sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv floor"
)
_OPERATIONS: dict[Any, Callable[..., Any]] = {
    **{getattr(sympy, name): getattr(torch, name) for name in _SAME_NAME.split()},
    sympy.Add: _folded(operator.add),
    sympy.Mul: _folded(operator.mul),
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
    sympy.Heaviside: lambda x, at_zero: torch.heaviside(x, _tensor(at_zero)),
    sympy.Max: _folded(lambda x, y: torch.maximum(_tensor(x), _tensor(y))),
    sympy.Min: _folded(lambda x, y: torch.minimum(_tensor(x), _tensor(y))),
    sympy.Piecewise: _piecewise,
    ExprCondPair: lambda *pair: pair,
    sympy.StrictLessThan: operator.lt,
    sympy.LessThan: operator.le,
    sympy.StrictGreaterThan: operator.gt,
    sympy.GreaterThan: operator.ge,
    sympy.And: _folded(operator.and_),
    sympy.Or: _folded(operator.or_),
    expm1: torch.expm1,
    log1p: torch.log1p,
    cosm1: lambda x: -2.0 * torch.sin(0.5 * x) ** 2,
    logaddexp: lambda x, y: torch.logaddexp(_tensor(x), y),
}


def compiled(expression: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> RealFunction:
    """The expression as a differentiable function of a float64 tensor; common parts are computed
    once.

    Not `sympy.lambdify`: its printers write Piecewise with Python's `if`, and coth x and csch x as
    sums of e^x that cancel. Integrals ∫_low^t become quadratures over the domain.

    Raises:
        ValueError: for a function of sympy that has no counterpart in torch.
    """
    leaves: dict[Any, Any] = {}
    steps: dict[Any, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
    parts = sympy.preorder_traversal(expression)
    for node in parts:
        if node in (sympy.true, sympy.false):
            leaves[node] = bool(node)
        elif isinstance(node, sympy.Expr) and node.is_number:
            leaves[node] = float(node)
            parts.skip()
        elif isinstance(node, sympy.Integral):
            variable, low, _ = cast(Any, node).limits[0]
            integrand = compiled(node.function.subs(variable, t), t, domain)
            primitive = Primitive(integrand, float(low), domain[1], name=str(node.function))
            steps[node] = primitive, (t,)
            parts.skip()
        elif node.func in _OPERATIONS:
            steps[node] = _OPERATIONS[node.func], node.args
        elif node != t:
            known = ", ".join(sorted(f.__name__ for f in _OPERATIONS if f.__name__[0].islower()))
            raise ValueError(
                f"Cannot compute {node} with torch: {node.func.__name__} is not among {known}."
            )

    def function(time: Tensor) -> Tensor:
        values = {**leaves, t: time}

        def value(node: Any) -> Any:
            if node not in values:
                operation, arguments = steps[node]
                values[node] = operation(*map(value, arguments))
            return values[node]

        return 0.0 * time + value(expression)

    return function
