"""A download in progress: its bytes, where they came from, and the hash of what is there so far.

Two files: ``NAME.part`` with the bytes and ``NAME.json`` with their origin. The origin is on disk before the
first byte is, and the bytes are removed before the origin is replaced, so that a process killed at any moment
leaves bytes whose origin is known, or nothing that counts.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from r2convert.errors import AccessError, CacheError, NoSpaceError
from r2convert.files import sync_folder, write_text

_BLOCK = 1 << 20
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a server said about the file that a partial download belongs to.

    Args:
        url: the address asked (before redirects, which may be signed and short-lived).
        etag: strong entity tag, if any.
        last_modified: the date header, if any.
        total: size of the whole file in bytes, if announced.
        resumable: false where the bytes were decoded on arrival, so that offsets mean nothing to the server.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None
    resumable: bool = True


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
            self._stream = _open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
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

    def publish(self, target: Path) -> None:
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

    def modified_ns(self) -> int:
        """Return the modification time of the bytes, in ns since the epoch; stable once :meth:`close` was called."""
        return self.path.stat().st_mtime_ns

    def close(self) -> None:
        """Close the file; what is there stays and can be resumed."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def sync(self) -> None:
        """Bring the bytes to the disk and close the file.

        Raises:
            CacheError: the disk refuses.
        """
        try:
            self._open_at_end()
            assert self._stream is not None  # noqa: S101
            os.fsync(self._stream.fileno())
        except OSError as problem:
            raise _write_problem(self.path, problem) from problem
        self.close()

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
    sound = sound and (origin.total is None or type(origin.total) is int) and type(origin.resumable) is bool
    return origin if sound else None


def _open(path: Path, flags: int) -> io.FileIO:
    """Open without following a link, so that nothing outside the cache is ever written."""
    descriptor = os.open(path, flags | _NO_FOLLOW, 0o644)
    return io.FileIO(descriptor, "r" if flags & os.O_WRONLY == 0 else "a")


def _write_problem(path: Path, problem: OSError | AccessError) -> AccessError:
    cause = problem.__cause__ if isinstance(problem, AccessError) else problem
    reason = getattr(cause, "strerror", None) or str(cause)
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
