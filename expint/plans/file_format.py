"""The format of plan files: JSON with one line for each entry, and a checksum over all of them."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

FORMAT = "expint plan 1"
LARGEST = 2**23
"""Bytes of the largest file that is read; a plan of 20 evaluations takes less than 5 kB."""

_NONE = type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    "format": (str,),
    "expint": (str,),
    "solver": (str,),
    "nfe": (int,),
    "form": (str,),
    "ell": (int, float, list, _NONE),
    "noise_scale": (str, dict, _NONE),
    "sigma_data": (int, float, _NONE),
    "operations": (list,),
    "schedule": (dict,),
    "grid": (list,),
    "factors": (list,),
    "known_times": (list,),
    "about": (dict,),
    "checksum": (str,),
}


def plan_text(content: Mapping[str, Any]) -> str:
    """The text of a file: one line for each entry."""
    lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_content(given: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file, or of the text or content of one, after checking that it is a plan's
    and was not edited.

    Raises:
        ValueError: saying what is wrong.
    """
    with naming(given):
        return _checked(_parsed(given))


def _parsed(given: str | Path | Mapping[str, Any]) -> Any:
    if isinstance(given, Mapping):
        return dict(given)
    text = str(given)
    try:
        return json.loads(text if text.lstrip().startswith("{") else _text(Path(given)))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not a plan file, or is cut ({error})") from error


def _checked(content: Any) -> dict[str, Any]:
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(kind, str) or not kind.startswith("expint plan "):
        raise ValueError("it is not a plan file")
    if kind != FORMAT:
        raise ValueError(f"its format is {kind!r}, and this version of expint reads {FORMAT!r}")
    unknown, missing = sorted({*content} - {*_KINDS}), sorted({*_KINDS} - {*content})
    if unknown or missing:
        raise ValueError(f"unknown entries are {unknown}, and missing ones {missing}")
    held = {name: value for name, value in content.items() if name != "checksum"}
    if content["checksum"] != checksum_of(held):
        raise ValueError("it was edited or is damaged: its checksum is another one")
    for name, value in content.items():
        if not isinstance(value, _KINDS[name]):
            raise ValueError(f"its {name!r} is {value!r}")
    return content


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError("there is no such file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    return path.read_text(encoding="utf-8")


def checksum_of(content: Mapping[str, Any]) -> str:
    """Of the entries in any order, without that of the checksum."""
    plain = json.dumps(content, sort_keys=True, allow_nan=False)
    return sha256(plain.encode()).hexdigest()


@contextmanager
def naming(given: Any) -> Iterator[None]:
    """Whatever fails is a ValueError that says which plan it was."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        named = isinstance(given, Mapping) or str(given).lstrip().startswith("{")
        where = "The plan" if named else f"The plan in {str(given)!r}"
        raise ValueError(f"{where} cannot be loaded: {error}") from error


def json_values(value: Any) -> Any:
    """The value as JSON can hold it; infinite numbers as the text that `float` reads back."""
    if isinstance(value, Tensor):
        return json_values(value.tolist())
    if isinstance(value, Mapping):
        return {name: json_values(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(item) for item in value]
    return str(value) if value in (math.inf, -math.inf) else value
