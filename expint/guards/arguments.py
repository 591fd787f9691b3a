"""Arguments of public functions against their annotations: one check, before anything is done."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, Union

import numpy as np
import torch
from torch import Tensor

from expint.numerics.float64 import is_whole

F = TypeVar("F", bound=Callable[..., Any])
_MOST = 1000  # items of a list that are looked at
_WORDS: dict[Any, str] = {
    int: "an integer", float: "a real number", bool: "True or False", str: "a text",
    type(None): "None", Tensor: "a tensor", Path: "a path", torch.dtype: "a torch.dtype",
    Callable: "callable", Mapping: "a mapping", Sequence: "a sequence", tuple: "a tuple",
}  # fmt: skip


def checked(function: F) -> F:
    """Decorator: refuse arguments that do not fit the annotations of `function`.

    Numbers of Python and numpy are numbers, but True is none; a sequence may be an array or tensor,
    but not a text; a tensor must hold something. What is annotated otherwise is not looked at.

    Raises:
        TypeError: naming the argument, what came and what is allowed.
    """
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not hints:  # not before the first call: names in them may come later in the module
            hints.update(typing.get_type_hints(function) | {"return": Any})
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            given = {}  # the call itself says what is wrong
        for name, value in given.items():
            rest = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            for key, item in value.items() if rest else [(name, value)]:
                _check(key, item, hints.get(name, Any))
        return function(*args, **kwargs)

    return typing.cast(F, call)


def _check(name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:76]} ..."
        raise TypeError(f"{name} must be {_described(hint)}, got {type(value).__name__} {shown}.")


def _fits(value: Any, hint: Any) -> bool:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, Tensor) and value.is_meta:
        return False
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inside)
    kind = origin or hint
    if kind in _SIMPLE:
        return _SIMPLE[kind](value)
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if kind is Sequence:
        if isinstance(value, Tensor | np.ndarray):
            return value.ndim > 0 and str not in inside
        looked_at = value[:_MOST] if listed and {int, str} & {*inside} else ()
        return listed and all(_fits(item, inside[0]) for item in looked_at)
    if kind is tuple:
        return listed and len(value) == len(inside) and all(map(_fits, value, inside))
    plain = isinstance(kind, type) and not getattr(kind, "_is_protocol", False)
    return isinstance(value, kind) if plain else True


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**1023  # larger ones are no floats
    return isinstance(value, Real)


_SIMPLE: dict[Any, Callable[[Any], bool]] = {
    Any: lambda value: True,
    Callable: callable,
    int: is_whole,
    float: _is_number,
    bool: lambda value: isinstance(value, bool | np.bool_),
}


def _described(hint: Any) -> str:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_described, inside)))
    kind = origin or hint
    own = _WORDS.get(kind) or f"a {getattr(kind, '__name__', str(kind))}"
    if kind is Sequence and inside:
        return f"{own} (each {_described(inside[0])})"
    return f"a pair ({', '.join(map(_described, inside))})" if kind is tuple else own
