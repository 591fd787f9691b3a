"""Things by name: solvers, schedules, grids, forms and whatever else is looked up by a string."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral
from typing import Any, ClassVar, Generic, TypeVar

T = TypeVar("T")
E = TypeVar("E")


def unknown(kind: str, name: Any, known: Sequence[str], way_out: str = "") -> ValueError:
    """The error for an unknown name, with the nearest known ones, and all of them.

    Args:
        kind: what is named, for example "solver".
        name: what came.
        known: all names.
        way_out: what else may be given, appended to the message.
    """
    near = get_close_matches(str(name), known, n=3, cutoff=0.3)
    return ValueError(
        f"Unknown {kind} {name!r}; nearest: {near or list(known)}. All: {list(known)}{way_out}."
    )


def check_choice(what: str, value: Any, known: Iterable[Any]) -> None:
    """Refuse an argument that is none of the values allowed.

    Raises:
        ValueError: with the value and those allowed.
    """
    allowed = list(known)
    if not isinstance(value, (str, Integral)) or isinstance(value, bool) or value not in allowed:
        shown = (
            f"from {allowed[0]} to {allowed[-1]}"
            if isinstance(known, range)
            else f"one of {allowed}"
        )
        raise ValueError(f"{what} must be {shown}, got {value!r}.")


class Registry(Generic[T]):
    """A table from names to things, in order of entry.

    Args:
        kind: what is named, for messages.
        way_out: what else may be given in place of a name, for messages.

    Example:
        >>> animals = Registry[int]("animal")
        >>> animals.add("cat", 4)
        >>> animals.get("cat"), animals.names()
        (4, ['cat'])
    """

    every: ClassVar[list["Registry[Any]"]] = []

    def __init__(self, kind: str, way_out: str = "") -> None:
        self.kind, self._way_out = kind, way_out
        self._entries: dict[str, T] = {}
        Registry.every.append(self)

    def add(self, name: str, entry: T) -> None:
        """Enter something.

        Raises:
            ValueError: if the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"There is a {self.kind} {name!r} already: choose another name.")
        self._entries[name] = entry

    def register(self, name: str) -> Callable[[E], E]:
        """`add` as a decorator of a function or class."""

        def entered(entry: Any) -> Any:
            self.add(name, entry)
            return entry

        return entered

    def get(self, name: str) -> T:
        """What is registered under `name`.

        Raises:
            ValueError: if there is no such name; the message gives the nearest ones.
        """
        if name not in self._entries:
            raise unknown(self.kind, name, self.names(), self._way_out)
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    @classmethod
    @contextmanager
    def unchanged(cls) -> Iterator[None]:
        """What is registered inside the `with` block is gone after it."""
        before = [(registry, dict(registry._entries)) for registry in cls.every]
        try:
            yield
        finally:
            for registry, entries in before:
                registry._entries = entries
