"""One open file, read by position: parsing, hashing and copying share one descriptor."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final

from r2convert.checkpoint.limits import CHUNK_BYTES
from r2convert.errors import (
    AccessError,
    CorruptCheckpointError,
    TruncatedCheckpointError,
    UnsupportedCheckpointError,
)

#: A zip record's data descriptor and the padded header of the next record fit in.
_WINDOW_BYTES: Final = 512

#: Everything about a file that changes when its bytes do.
Fingerprint = tuple[int, int, int, int, int]


class SourceFile:
    """A file opened once for reading.

    All reads are by position, so that several threads may read at the same time. A file that is changed or
    cut short while it is open is noticed by :meth:`require_unchanged`; one that is replaced under its name
    does not matter, as the open descriptor still holds the bytes that were parsed.

    Args:
        path: the file.

    Raises:
        AccessError: there is no such file or it may not be read.
        UnsupportedCheckpointError: it is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open(path)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._descriptor)
            raise UnsupportedCheckpointError(
                "Not a regular file", where=str(path), next_step="Give the path of a checkpoint file."
            )
        self.size = status.st_size
        self._fingerprint = _fingerprint(status)
        self._sha256: str | None = None

    def close(self) -> None:
        """Close the descriptor; closing twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Return exactly ``length`` bytes at ``offset``.

        Args:
            offset: where to start, in bytes.
            length: how many bytes; the caller has checked that this much may be held in memory.
            what: what the bytes should be, for the message.

        Raises:
            TruncatedCheckpointError: the file ends before.
            AccessError: the disk fails.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise self.truncated(offset, f"{length} bytes of {what}", f"the end of the file at byte {self.size}")
        data = bytearray(length)
        self.read_into(offset, memoryview(data), what)
        return bytes(data)

    def read_into(self, offset: int, target: memoryview, what: str) -> None:
        """Fill ``target`` with the bytes at ``offset``; raises as :meth:`read` does."""
        done = 0
        while done < len(target):
            try:
                count = os.preadv(self._descriptor, [target[done:]], offset + done)
            except OSError as error:
                raise AccessError(
                    f"Reading {what} failed: {error.strerror}", where=f"{self.path}, byte {offset + done}"
                ) from error
            if count == 0:
                raise self.truncated(offset + done, f"{len(target) - done} more bytes of {what}", "the end of the file")
            done += count

    def truncated(self, offset: int, expected: str, got: str) -> TruncatedCheckpointError:
        """Return the error for a file that ends too early."""
        return TruncatedCheckpointError(
            "The file is truncated",
            where=f"{self.path}, byte {offset}",
            expected=expected,
            got=got,
            next_step="Download it again; compare its size and SHA-256 with the publisher's.",
        )

    def require_unchanged(self) -> None:
        """Raise if the file was written to since it was opened.

        Raises:
            CorruptCheckpointError: size or modification time differ.
        """
        if _fingerprint(os.fstat(self._descriptor)) != self._fingerprint:
            raise CorruptCheckpointError(
                "The file was changed while it was being read",
                where=str(self.path),
                next_step="Wait until whatever writes it has finished, then try again.",
            )

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file in hexadecimal; computed once.

        Raises:
            CorruptCheckpointError: the file was changed since it was opened.
            AccessError: the disk fails.
        """
        if self._sha256 is None:
            digest = hashlib.sha256()
            buffer = memoryview(bytearray(min(CHUNK_BYTES, max(self.size, 1))))
            for offset in range(0, self.size, len(buffer)):
                piece = buffer[: min(len(buffer), self.size - offset)]
                self.read_into(offset, piece, "the file")
                digest.update(piece)
            self.require_unchanged()
            self._sha256 = digest.hexdigest()
        return self._sha256


class Window:
    """A small stretch of a file kept in memory, for reads that lie close together.

    Args:
        source: the file.
    """

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._start = 0
        self._bytes = b""

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Return exactly ``length`` bytes at ``offset``; raises as :meth:`SourceFile.read` does."""
        begin = offset - self._start
        if begin < 0 or begin + length > len(self._bytes):
            ahead = min(max(length, _WINDOW_BYTES), self._source.size - offset)
            self._bytes = self._source.read(offset, max(length, ahead), what)
            self._start, begin = offset, 0
        return self._bytes[begin : begin + length]


class ReopenedFile(SourceFile):
    """One of a folder's many files: opened anew for every read, as there are not descriptors enough for all.

    Each time the opened file must be the one that was parsed: same place on the disk, size and times.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.close()

    def read_into(self, offset: int, target: memoryview, what: str) -> None:
        """Fill ``target`` as :meth:`SourceFile.read_into` does."""
        self._descriptor = _open(self.path)
        try:
            super().require_unchanged()
            super().read_into(offset, target, what)
        finally:
            self.close()

    def require_unchanged(self) -> None:
        """Raise as :meth:`SourceFile.require_unchanged` does."""
        self.read_into(0, memoryview(b""), "the file")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise AccessError("There is no such file", where=str(path), next_step="Check the path.") from error
    except OSError as error:
        raise AccessError(f"The file cannot be opened: {error.strerror}", where=str(path)) from error


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
