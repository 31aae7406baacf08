"""Work in the background: hashing and syncing release the GIL, so that a second core can do them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """A function that runs in its own thread, started at once.

    Args:
        function: what to run.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._result: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Wait until the function has returned or failed."""
        self._thread.join()

    def result(self) -> Result:
        """Wait for the function; return its result or raise its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]
