"""Hashing and syncing beside other work: both release the interpreter's lock, so that a second core can take part."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from r2convert.checkpoint.limits import CHUNK_BYTES, SYNC_BYTES
from r2convert.files import sync_data

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


class Progress:
    """How much of a file has been written: its writer says so, and threads behind it wait for more."""

    def __init__(self) -> None:
        self._written = 0
        self._is_finished = False
        self._changed = threading.Condition()

    def advance(self, size: int) -> None:
        """Say that the file now has ``size`` bytes that will not change."""
        with self._changed:
            self._written = size
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that the file is complete, or given up; saying it twice is fine."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def beyond(self, done: int, least: int) -> int:
        """Wait until ``least`` bytes behind the first ``done`` are written, or the file is complete.

        Returns:
            How many there are; fewer than ``least`` only at the end of the file.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_finished or self._written - done >= least)
            return self._written - done


def digest_behind(descriptor: int, progress: Progress) -> Background[str]:
    """Compute the SHA-256 (in hexadecimal) of a file while it is being written.

    The bytes are read back from the file, so that the digest is of what the file holds.

    Args:
        descriptor: the file, open for reading.
        progress: how far it is written.
    """

    def follow() -> str:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(CHUNK_BYTES))
        done = 0
        while (available := progress.beyond(done, CHUNK_BYTES)) > 0:
            count = os.preadv(descriptor, [buffer[: min(available, len(buffer))]], done)
            digest.update(buffer[:count])
            done += count
        return digest.hexdigest()

    return Background(follow)


def sync_behind(descriptor: int, progress: Progress) -> Background[None]:
    """Let the disk work while a file is being written, so that little is left to wait for at its end.

    Args:
        descriptor: the file.
        progress: how far it is written.
    """

    def follow() -> None:
        done = 0
        while (available := progress.beyond(done, SYNC_BYTES)) >= SYNC_BYTES:
            sync_data(descriptor)
            done += available
        os.fsync(descriptor)

    return Background(follow)
