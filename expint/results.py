"""Results of studies: one base that prints them as tables, draws them and saves them as JSON."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from torch import Tensor

from expint.files import replacing

Rows = Sequence[Sequence[str]]

MARKERS = "os^Dv<>p*h"


class Result(ABC):
    """What a study found: a dataclass that states the blocks of its table and its figure.

    Attributes:
        derived: names of properties that belong in the JSON beside the fields.
    """

    derived: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def blocks(self) -> Iterable[str | Rows]:
        """Lines of text, and rows of cells the first of which is the head.

        A line that starts with two spaces is an item of a list.
        """

    @abstractmethod
    def figure(self) -> Any:
        """A new matplotlib Figure of it, see `new_figure`."""

    def table(self, *, markdown: bool = False) -> str:
        """The result as aligned text, or as Markdown."""
        return "\n".join(
            (f"- {block.strip()}" if markdown and block.startswith("  ") else block)
            if isinstance(block, str)
            else table_text(block, markdown=markdown)
            for block in self.blocks()
        )

    def plot(self, path: str | Path | IO[bytes], kind: str | None = None) -> None:
        """Draw the result into a picture.

        Args:
            path: of the picture, or an open file.
            kind: "png", "svg" or "pdf"; default: the suffix of the path, else PNG.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        save_figure(self.figure(), path, kind)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them: tensors as lists, NaN and infinity as null."""
        return jsonable(self)

    def to_json(self) -> str:
        """All fields as JSON."""
        return json_text(self.to_dict())


def table_text(rows: Rows, *, markdown: bool = False) -> str:
    """Rows of cells as aligned text, or as a Markdown table; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    if not markdown:
        return "\n".join("  ".join(row).rstrip() for row in aligned)
    head, *lines = ["| " + " | ".join(row) + " |" for row in aligned]
    return "\n".join([head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines])


def new_figure(width: float, height: float) -> Any:
    """A matplotlib Figure in inches, without a window or global state: it draws with Agg.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'expint[plot]'.") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | Path | IO[bytes], kind: str | None = None) -> None:
    """Write a figure, in the format `kind` or that of the suffix of a path, else as PNG."""
    if kind is None:
        kind = Path(path).suffix.lstrip(".").lower() if isinstance(path, (str, Path)) else ""
    figure.savefig(path, format=kind or "png", dpi=120)


def jsonable(value: Any) -> Any:
    """The value as JSON can hold it; NaN and infinity become null."""
    match value:
        case Tensor():
            return jsonable(value.tolist())
        case Mapping():
            return {name: jsonable(item) for name, item in value.items()}
        case object(_asdict=as_dict):  # a NamedTuple
            return jsonable(as_dict())
        case tuple() | list():
            return [jsonable(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
    if is_dataclass(value):
        names = [*(field.name for field in fields(value)), *getattr(value, "derived", ())]
        return {name: jsonable(getattr(value, name)) for name in names}
    return value


def json_text(content: Any) -> str:
    """JSON for people to read."""
    return json.dumps(content, indent=1, allow_nan=False)


def write_json(path: str | Path, content: Any) -> None:
    """Write a file of JSON, whole or not at all.

    Raises:
        OSError: if that is not possible; an older file is then still there.
    """
    with replacing(path) as part:
        part.write_text(json_text(content) + "\n", encoding="utf-8")
