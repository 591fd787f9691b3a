"""Work that goes on in a thread while the next is prepared."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """One piece of work at a time in a thread of its own. What fails there is raised by the next
    call here. At the end of a `with` block the work is finished.
    """

    def __init__(self) -> None:
        self._pool, self._last = ThreadPoolExecutor(1), Future[Any]()
        self._last.set_result(None)

    def do(self, work: Callable[[], Any]) -> None:
        """Begin a piece of work, when the one before is finished."""
        self.wait()
        self._last = self._pool.submit(work)

    def wait(self) -> None:
        """Until nothing is left to do."""
        self._last.result()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *_: Any) -> None:
        self._pool.shutdown()
