"""One file at a time: processes that want the same file wait for each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from r2convert.download.progress import ProgressSink
from r2convert.errors import CacheError

_POLL_SECONDS = 0.1


@contextlib.contextmanager
def locked(folder: Path, file_name: str, progress: ProgressSink) -> Iterator[None]:
    """Hold the lock of ``file_name``; say so once if another process has it.

    The operating system drops the lock of a process that dies, however it dies.

    Args:
        folder: the cache's folder of locks.
        file_name: what is going to be written.
        progress: told about the wait.

    Raises:
        CacheError: the lock file cannot be made.
    """
    lock = FileLock(folder / f"{file_name}.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.message(f"{file_name}: another process is working on it: waiting")
            lock.acquire(poll_interval=_POLL_SECONDS)
    except OSError as problem:
        raise CacheError(
            "the cache cannot be locked",
            where=str(folder),
            got=problem.strerror or str(problem),
            next_step="check its permissions, or set R2CONVERT_CACHE to a folder you can write to",
        ) from problem
    try:
        yield
    finally:
        lock.release()
