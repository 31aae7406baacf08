"""A download in progress: its bytes, where they came from, and the hash of what is there so far.

Two files: ``NAME.part`` with the bytes and ``NAME.json`` with their origin. The origin is on disk before the
first byte is, and the bytes are removed before the origin is replaced, so that a process killed at any moment
leaves bytes whose origin is known, or nothing that counts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from r2convert.download.pins import Expectation
from r2convert.errors import AccessError, CacheError, NoSpaceError
from r2convert.files import sync_folder, write_text

_BLOCK = 1 << 20
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_POLL_SECONDS = 0.1
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a server said about the file that a partial download belongs to.

    Args:
        url: the address asked (before redirects, which may be signed and short-lived).
        etag: strong entity tag, if any.
        last_modified: the date header, if any.
        total: size of the whole file in bytes, if announced.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None


class PartialFile:
    """The partial download of one file; the caller holds the file's lock. Use it as a context manager.

    Args:
        folder: the cache's folder of partial downloads.
        file_name: the finished file's name.

    Attributes:
        size: bytes that are there.
        origin: where they came from.
        one_piece: whether all of them came in one request of this run.

    Raises:
        CacheError: its files cannot be read or removed.
    """

    def __init__(self, folder: Path, file_name: str) -> None:
        self.path = folder / f"{file_name}.part"
        self._origin_path = folder / f"{file_name}.json"
        self._stream: io.FileIO | None = None
        self._digest = hashlib.sha256()
        self.size = 0
        self.origin: Origin | None = None
        self.one_piece = False
        self._take_over()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the bytes so far."""
        return self._digest.hexdigest()

    def begin(self, origin: Origin) -> None:
        """Drop what is there and start at byte 0 of a file from ``origin``.

        Raises:
            CacheError: the files cannot be written.
        """
        self.discard()
        try:
            write_text(self._origin_path, json.dumps(asdict(origin)))
            self._stream = _open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        except (OSError, AccessError) as problem:
            raise _write_problem(self.path, problem) from problem
        self.origin = origin
        self.one_piece = True

    def write(self, chunk: bytes) -> None:
        """Append bytes and hash them.

        Raises:
            NoSpaceError: the disk is full.
            CacheError: the file cannot be written.
        """
        assert self._stream is not None, "begin() or resume() comes first"  # noqa: S101
        view = memoryview(chunk)
        try:
            while view:
                view = view[self._stream.write(view) :]
        except OSError as problem:
            raise _write_problem(self.path, problem) from problem
        self._digest.update(chunk)
        self.size += len(chunk)

    def resume(self) -> None:
        """Get ready to append another piece to what is there.

        Raises:
            CacheError: the file cannot be opened.
        """
        self.one_piece = False
        self._open_at_end()

    def _open_at_end(self) -> None:
        if self._stream is not None:
            return
        try:
            self._stream = _open(self.path, os.O_WRONLY | os.O_APPEND)
        except OSError as problem:
            raise _write_problem(self.path, problem) from problem

    def discard(self) -> None:
        """Remove the bytes first, then what is known about them.

        Raises:
            CacheError: they cannot be removed.
        """
        self.close()
        try:
            self.path.unlink(missing_ok=True)
            self._origin_path.unlink(missing_ok=True)
        except OSError as problem:
            raise _write_problem(self.path, problem) from problem
        self._digest = hashlib.sha256()
        self.size = 0
        self.one_piece = False
        self.origin = None

    def move_to(self, target: Path) -> None:
        """Give the synced bytes their final name, replacing what is there (a link itself, not its end).

        Raises:
            CacheError: the disk refuses.
        """
        self._move(target)
        sync_folder(target.parent)

    def move_aside(self, target: Path) -> None:
        """Give the bytes another name, for inspection.

        Raises:
            CacheError: the disk refuses.
        """
        self.close()
        self._move(target)
        self.discard()

    def require_space(self, total: int) -> None:
        """Check that a file of ``total`` bytes has room where this one lies.

        Raises:
            NoSpaceError: it has not.
            CacheError: the folder is gone.
        """
        folder = self.path.parent
        try:
            free = shutil.disk_usage(folder).free
        except OSError as problem:
            raise _write_problem(folder, problem) from problem
        missing = total - self.size
        if missing > free:
            raise NoSpaceError(
                "there is no room for the file",
                where=str(folder),
                expected=f"{missing:,} bytes free",
                got=f"{free:,} bytes free",
                next_step="free some space, or set R2CONVERT_CACHE to a folder on another disk",
            )

    def close(self) -> None:
        """Close the file; what is there stays and can be resumed."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def finish(self) -> int:
        """Bring the bytes to the disk and close the file.

        Returns:
            Its modification time in ns since the epoch.

        Raises:
            CacheError: the disk refuses, or the file is no longer the one that was written.
        """
        try:
            self._open_at_end()
            assert self._stream is not None  # noqa: S101
            os.fsync(self._stream.fileno())
            written = os.fstat(self._stream.fileno())
            self.close()
            state = self.path.lstat()
        except OSError as problem:
            raise _write_problem(self.path, problem) from problem
        if not os.path.samestat(written, state) or state.st_size != self.size:
            # Somebody emptied the cache, and another process began the same download in its place.
            raise CacheError(
                "the partial download was replaced while it was being written",
                where=str(self.path),
                next_step="run the command again",
            )
        return state.st_mtime_ns

    def _move(self, target: Path) -> None:
        try:
            self.path.replace(target)
            self._origin_path.unlink(missing_ok=True)
        except OSError as problem:
            raise _write_problem(target, problem) from problem

    def _take_over(self) -> None:
        """Adopt what an earlier run left, hashing it; anything incomplete or odd is removed."""
        origin = _read_origin(self._origin_path)
        try:
            regular = stat.S_ISREG(self.path.lstat().st_mode)
        except FileNotFoundError:
            return
        except OSError as problem:
            raise _write_problem(self.path, problem) from problem
        if origin is None or not regular:
            self.discard()
            return
        try:
            with _open(self.path, os.O_RDONLY) as stream:
                while block := stream.read(_BLOCK):
                    self._digest.update(block)
                    self.size += len(block)
        except OSError as problem:
            raise _write_problem(self.path, problem) from problem
        self.origin = origin


def _read_origin(path: Path) -> Origin | None:
    """Return the recorded origin, or ``None`` where it is missing or not what this version writes."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        origin = Origin(**fields)
    except (OSError, ValueError, TypeError):
        return None
    texts = (origin.url, origin.etag, origin.last_modified)
    sound = isinstance(origin.url, str) and all(text is None or isinstance(text, str) for text in texts)
    sound = sound and (origin.total is None or type(origin.total) is int)
    return origin if sound else None


def _open(path: Path, flags: int) -> io.FileIO:
    """Open without following a link, so that nothing outside the cache is ever written."""
    descriptor = os.open(path, flags | _NO_FOLLOW, 0o644)
    return io.FileIO(descriptor, "r" if flags & os.O_WRONLY == 0 else "a")


def _write_problem(path: Path, problem: OSError | AccessError) -> AccessError:
    cause = problem.__cause__ if isinstance(problem, AccessError) else problem
    reason = getattr(cause, "strerror", None) or str(cause)
    if isinstance(cause, FileNotFoundError):
        return CacheError(
            "a file or folder of the cache was removed while it was in use",
            where=str(path),
            got=reason,
            next_step="run the command again; nothing else may clear the cache meanwhile",
        )
    if getattr(cause, "errno", None) in _FULL:
        return NoSpaceError(
            "the disk is full",
            where=str(path),
            got=reason,
            next_step="free some space and run the command again: the download continues where it stopped",
        )
    return CacheError(
        "the cache cannot be written",
        where=str(path),
        got=reason,
        next_step="check its permissions, or set R2CONVERT_CACHE to a folder you can write to",
    )


@dataclass(frozen=True, slots=True)
class ResumePlan:
    """What to do with the bytes that are there.

    Args:
        offset: byte to continue at; 0 for a clean start.
        if_range: condition to send along.
        complete: nothing is missing: no request is needed.
        why_not: why there are bytes but they cannot be used, for people; empty otherwise.
    """

    offset: int = 0
    if_range: str | None = None
    complete: bool = False
    why_not: str = ""


def plan_resume(origin: Origin | None, have: int, url: str, wanted: Expectation) -> ResumePlan:
    """Decide how to go on with ``have`` bytes that came from ``origin``, now asking ``url``.

    A full hash decides in the end whatever the pieces were, so any address of the same file may go on. Without
    one, only the same address may, and something has to speak for the file being the same: an entity tag or,
    where at least eight digits of the hash are published, its date or length.
    """
    if origin is None or have == 0:
        return ResumePlan()
    if origin.total is not None and wanted.size is not None and origin.total != wanted.size:
        return ResumePlan(why_not=f"it belongs to a file of {origin.total:,} bytes, not {wanted.size:,}")
    total = wanted.size if wanted.size is not None else origin.total
    if total is not None and have > total:
        return ResumePlan(why_not=f"it has {have:,} bytes, the file only {total:,}")
    if total is not None and have == total:
        return ResumePlan(offset=have, complete=True)
    if url != origin.url:
        if wanted.sha256 is None:
            return ResumePlan(why_not="it came from another address, and no full hash could tell two files apart")
        return ResumePlan(offset=have)
    if origin.etag is not None:
        return ResumePlan(offset=have, if_range=origin.etag)
    if wanted.hash_decides and (origin.last_modified is not None or total is not None):
        return ResumePlan(offset=have, if_range=origin.last_modified)
    return ResumePlan(why_not="neither the server nor a published hash can tell whether the file is still the same")


def objection_to_rest(
    origin: Origin | None, plan: ResumePlan, start: int | None, rest: Origin, wanted: Expectation
) -> str | None:
    """Say why a 206 answer is not the rest of the file the first bytes belong to; ``None`` if it is.

    Args:
        origin: where the first bytes came from.
        plan: what was asked.
        start: first byte the answer says it holds.
        rest: what the answer says about its file.
        wanted: what the file must be.
    """
    if origin is None or start != plan.offset:
        return "the server sends another range than the one asked for"
    total = wanted.size if wanted.size is not None else origin.total
    if total is not None and rest.total is not None and rest.total != total:
        return f"the file now has {rest.total:,} bytes instead of {total:,}"
    same_address = rest.url == origin.url
    if same_address and origin.etag is not None and rest.etag is not None and rest.etag != origin.etag:
        return "the file on the server has changed"
    if not wanted.hash_decides and (rest.etag is None or rest.total is None):
        return "the server no longer tells whether the file is the same"
    return None


@contextlib.contextmanager
def locked(folder: Path, file_name: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of ``file_name``; say so once if another process has it.

    The operating system drops the lock of a process that dies, however it dies.

    Args:
        folder: the cache's folder of locks.
        file_name: what is going to be written.
        tell: told about the wait.

    Raises:
        CacheError: the lock file cannot be made.
    """
    lock = FileLock(folder / f"{file_name}.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell(f"{file_name}: another process is working on it: waiting")
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
