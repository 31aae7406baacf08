"""Hashing beside other work: hashlib releases the interpreter's lock, so that a second core can take part."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from r2convert.checkpoint.limits import CHUNK_BYTES

Result = TypeVar("Result")


class Background(Generic[Result]):
    """A function that runs in a thread of its own from now on.

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


class FollowingDigest:
    """The SHA-256 of a file that is still being written, from start to end, some bytes behind the writer.

    The bytes are read back from the file, so that the digest is of what the file holds.

    Args:
        descriptor: the file, open for reading.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = 0
        self._is_finished = False
        self._changed = threading.Condition()
        self._background = Background(self._follow)

    def advance(self, size: int) -> None:
        """Say that the file now has ``size`` bytes that will not change."""
        with self._changed:
            self._written = size
            self._changed.notify()

    def finish(self) -> None:
        """Say that the file is complete, or given up."""
        with self._changed:
            self._is_finished = True
            self._changed.notify()

    def wait(self) -> None:
        """Wait until the descriptor is no longer read."""
        self._background.wait()

    def hexdigest(self) -> str:
        """Wait for the end of the file and return its SHA-256."""
        self.finish()
        return self._background.result()

    def _follow(self) -> str:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(CHUNK_BYTES))
        done = 0
        while (available := self._wait(done)) > 0:
            count = os.preadv(self._descriptor, [buffer[: min(available, len(buffer))]], done)
            digest.update(buffer[:count])
            done += count
        return digest.hexdigest()

    def _wait(self, done: int) -> int:
        """Return how many bytes can be read, once there is a whole chunk or the file is complete."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_finished or self._written - done >= CHUNK_BYTES)
            return self._written - done
