"""What a search has measured, one value a line, so that it can be stopped and go on."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Values in the order in which a search asks for them: those of the file first, without being
    measured again; then each is measured and appended.

    Args:
        file: JSON lines, the first with the arguments of the search; None keeps nothing.
        arguments: of the search, as JSON.

    Raises:
        ValueError: for a file of another search, or that is not one; it names the difference.
        OSError: if the file cannot be read or written.
    """

    def __init__(self, file: str | Path | None, arguments: Mapping[str, Any]) -> None:
        self._path = None if file is None else Path(file)
        self._known: list[tuple[list[float], int]] = []
        self.replayed = 0
        if self._path is None:
            return
        lines = self._path.read_text("utf-8").splitlines(True) if self._path.exists() else []
        if lines and not lines[-1].endswith("\n"):  # cut while it was written
            lines.pop()
        head = json.dumps({"search": dict(arguments)}) + "\n"
        try:
            first = json.loads(lines[0])["search"] if lines else dict(arguments)
            self._known = [(each["values"], each["cost"]) for each in map(json.loads, lines[1:])]
            wrong = [key for key in arguments if first.get(key) != arguments[key]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{file} is not the journal of a search: {error}.") from error
        if wrong:
            key = wrong[0]
            raise ValueError(
                f"{file} is the journal of a search with {key}={first.get(key)!r}, not "
                f"{arguments[key]!r}: give the same arguments, or another file."
            )
        self._path.write_text("".join(lines) or head, "utf-8")

    def take(self, measure: Callable[[], tuple[list[float], int]]) -> tuple[list[float], int]:
        """The next values and what all up to them have cost: known ones, or those measured now."""
        if self.replayed < len(self._known):
            self.replayed += 1
            return self._known[self.replayed - 1]
        values, cost = measure()
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"values": values, "cost": cost}) + "\n")
        return values, cost
