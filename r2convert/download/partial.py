"""A download in progress: its bytes, where they came from, and the hash of what is there so far.

Two files: ``NAME.part`` with the bytes and ``NAME.json`` with their origin. The origin is on disk before the
first byte is, and the bytes are removed before the origin is replaced, so that a process killed at any moment
leaves bytes whose origin is known, or nothing that counts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Self

from msgspec import MsgspecError, Struct, convert
from msgspec.structs import asdict

from r2convert.download.cache import disk_errors
from r2convert.errors import CacheError, NoSpaceError
from r2convert.files import sync_folder, write_text

_BLOCK = 1 << 20
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Origin(Struct, frozen=True):
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
        CacheError: here and in every method: the disk refuses.
        NoSpaceError: likewise: it is full.
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

    def _take_over(self) -> None:
        """Adopt what an earlier run left, hashing it; anything incomplete or odd is removed."""
        origin = _read_origin(self._origin_path)
        with disk_errors(self.path):
            try:
                regular = stat.S_ISREG(self.path.lstat().st_mode)
            except FileNotFoundError:
                return
        if origin is None or not regular:
            self.discard()
            return
        with disk_errors(self.path), _open(self.path, os.O_RDONLY) as stream:
            while block := stream.read(_BLOCK):
                self._digest.update(block)
                self.size += len(block)
        self.origin = origin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the bytes so far."""
        return self._digest.hexdigest()

    def require_space(self, total: int) -> None:
        """Check that a file of ``total`` bytes has room where this one lies."""
        folder = self.path.parent
        with disk_errors(folder):
            free = shutil.disk_usage(folder).free
        missing = total - self.size
        if missing > free:
            raise NoSpaceError(
                "there is no room for the file",
                where=str(folder),
                expected=f"{missing:,} bytes free",
                got=f"{free:,} bytes free",
                next_step="free some space, or set R2CONVERT_CACHE to a folder on another disk",
            )

    def begin(self, origin: Origin) -> None:
        """Drop what is there and start at byte 0 of a file from ``origin``."""
        self.discard()
        with disk_errors(self.path):
            write_text(self._origin_path, json.dumps(asdict(origin)))
            self._stream = _open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        self.origin = origin
        self.one_piece = True

    def resume(self) -> None:
        """Start another piece after the bytes that are there."""
        self.one_piece = False

    def write(self, chunk: bytes) -> None:
        """Append bytes and hash them."""
        stream, view = self._at_end(), memoryview(chunk)
        with disk_errors(self.path):
            while view:
                view = view[stream.write(view) :]
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> int:
        """Sync the bytes to disk and close the file.

        Returns:
            Its modification time in ns since the epoch.

        Raises:
            CacheError: besides: the file is no longer the one that was written.
        """
        stream = self._at_end()
        with disk_errors(self.path):
            os.fsync(stream.fileno())
            written = os.fstat(stream.fileno())
            self._close()
            state = self.path.lstat()
        if not os.path.samestat(written, state) or state.st_size != self.size:
            # Somebody emptied the cache, and another process began the same download in its place.
            raise CacheError(
                "the partial download was replaced while it was being written",
                where=str(self.path),
                next_step="run the command again",
            )
        return state.st_mtime_ns

    def move_to(self, target: Path) -> None:
        """Give the finished file another name, replacing what is there (a link itself, not its end)."""
        with disk_errors(target):
            self.path.replace(target)
        self.discard()
        sync_folder(target.parent)

    def discard(self) -> None:
        """Remove the bytes first, then what is known about them."""
        self._close()
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)
            self._origin_path.unlink(missing_ok=True)
        self._digest = hashlib.sha256()
        self.size = 0
        self.one_piece = False
        self.origin = None

    def _at_end(self) -> io.FileIO:
        if self._stream is None:
            with disk_errors(self.path):
                self._stream = _open(self.path, os.O_WRONLY | os.O_APPEND)
        return self._stream

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _read_origin(path: Path) -> Origin | None:
    """Return the recorded origin, or ``None`` where it is missing or not what this version writes."""
    try:
        return convert(json.loads(path.read_text(encoding="utf-8")), Origin)
    except (OSError, ValueError, RecursionError, MsgspecError):
        return None


def _open(path: Path, flags: int) -> io.FileIO:
    """Open without following a link, so that nothing outside the cache is ever written."""
    descriptor = os.open(path, flags | _NO_FOLLOW, 0o644)
    return io.FileIO(descriptor, "a" if flags & os.O_WRONLY else "r")
