"""A user's own object, `module:object`, in the place of a registered name."""

import os
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

from expint.runs.model import Model
from expint.schedules import Schedule, get
from expint.solvers import Method, Tableau


def named_or_own(
    name: str, kind: tuple[type, ...], what: str, registered: Callable[[str], Any]
) -> Any:
    """What is registered under a name, or the user's object `module:object`.

    Args:
        name: a registered name, or module:object with the module in the working directory or
            installed. A class or a function is called without arguments.
        kind: what the object must be one of, for example (Schedule,).
        what: the same in words, for messages.
        registered: finds what is registered under a name.

    Raises:
        ValueError: if it cannot be imported, fails when it is called, or is something else.
    """
    if ":" not in name:
        return registered(name)
    failing = f"Cannot load the {what} {name!r}"
    way_out = "Give module:object, with the module in this folder or installed."
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        value = pkgutil.resolve_name(name)
        if callable(value) and (isinstance(value, type) or not isinstance(value, kind)):
            failing = f"Calling the {what} {name!r} failed"
            way_out = "It is called without arguments."
            value = value()
    except (Exception, SystemExit) as error:  # whatever the user's code does
        reason = str(error).rstrip(".")
        raise ValueError(f"{failing}: {type(error).__name__}: {reason}. {way_out}") from error
    finally:
        sys.path.remove(here)
    if not isinstance(value, kind):
        wanted = " or ".join(each.__name__ for each in kind)
        wanted += f", or give one when it is called, got {type(value).__name__}"
        raise ValueError(f"The {what} {name!r} must be a {wanted}.")
    return value


def solver_of(name: str) -> Any:
    """A solver's name as it is, or the user's own method or tableau."""
    return named_or_own(name, (Method, Tableau), "solver", str)


def schedule_of(name: str) -> Schedule:
    """A noise schedule by name, or the user's own."""
    return named_or_own(name, (Schedule,), "schedule", get)


def model_of(name: str, registered: Callable[[str], Any]) -> Any:
    """A model by name, or the user's own: callable, with schedule and prediction."""
    return named_or_own(name, (Model,), "model", registered)
