"""Copies and pickles of a scheduler: a plan holds functions, which no pickle takes, and is compiled
anew."""

from typing import Any, cast

from expint.runs import Run


class Copied:
    """What a scheduler is made of again: its configuration and what `set_timesteps` was given."""

    _given: dict[str, Any] | None
    _run: Run | None
    _begin_index: int | None

    def __reduce__(self) -> Any:
        if self._run is not None and not self._run.done:
            raise TypeError("A scheduler in the middle of a run cannot be copied or pickled.")
        return _copied, (type(self), dict(cast(Any, self).config), self._given, self._begin_index)


def _copied(cls: Any, config: Any, given: dict[str, Any] | None, begin_index: int | None) -> Any:
    scheduler = cls.from_config(config)
    if given is not None:
        scheduler.set_timesteps(given["steps"], **{k: v for k, v in given.items() if k != "steps"})
    if begin_index is not None:
        scheduler.set_begin_index(begin_index)
    return scheduler
