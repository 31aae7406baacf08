"""Where the bytes of tensors lie, and how they are read: open files, storages, checksums."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final

from isal.isal_zlib import crc32  # zlib's takes map and inspect a tenth longer, as whole commands
from msgspec import Struct

from r2convert.checkpoint.limits import CHUNK_BYTES, HASHED_BYTES, WorkBudget
from r2convert.errors import (
    AccessError,
    CorruptCheckpointError,
    LimitExceededError,
    TruncatedCheckpointError,
    UnsupportedCheckpointError,
)
from r2convert.files import read_at

#: A zip record's data descriptor and the padded header of the next record fit in.
_WINDOW_BYTES: Final = 512
#: The header of a Paddle variable fits in.
_HEAD_BYTES: Final = 512
#: Bytes that take a unit of work to read.
_READ_UNIT: Final = 512
#: What opening one of many files costs.
_OPENING: Final = 20

#: What tells whether a file's bytes were changed. Not the time of its inode: chmod and a hard link change that too.
Fingerprint = tuple[int, int, int, int]


class OpenFile:
    """A file opened once for reading.

    All reads are by position, so that several threads may read at the same time. A file that is changed or
    cut short while it is open is noticed by :meth:`require_unchanged`; one that is replaced under its name
    does not matter, as the open descriptor still holds the bytes that were parsed.

    Args:
        path: the file.
        budget: what all work on it is charged to; one of its own unless it is one of several files.

    Raises:
        AccessError: there is no such file or it may not be read.
        UnsupportedCheckpointError: it is not a regular file.
    """

    def __init__(self, path: Path, budget: WorkBudget | None = None) -> None:
        self.path = path
        self._descriptor = _open(path)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._descriptor)
            raise UnsupportedCheckpointError(
                "not a regular file", where=str(path), next_step="give the path of a checkpoint file"
            )
        self.size = status.st_size
        self.budget = WorkBudget() if budget is None else budget
        self._fingerprint = _fingerprint(status)
        self._is_abandoned = False

    def abandon(self) -> None:
        """Let a thread that hashes the file end early: nobody needs the digest any more."""
        self._is_abandoned = True

    def close(self) -> None:
        """Close the descriptor; closing twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> OpenFile:
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
                count = read_at(self._descriptor, target[done:], offset + done)
            except OSError as error:
                raise AccessError(
                    f"reading {what} failed: {error.strerror}", where=f"{self.path}, byte {offset + done}"
                ) from error
            if count == 0:
                raise self.truncated(offset + done, f"{len(target) - done} more bytes of {what}", "the end of the file")
            done += count

    def truncated(self, offset: int, expected: str, got: str) -> TruncatedCheckpointError:
        """Return the error for a file that ends too early."""
        return TruncatedCheckpointError(
            "the file is truncated",
            where=f"{self.path}, byte {offset}",
            expected=expected,
            got=got,
            next_step="download it again; compare its size and SHA-256 with the publisher's",
        )

    def require_unchanged(self) -> None:
        """Raise if the file was written to since it was opened.

        Raises:
            CorruptCheckpointError: size or modification time differ.
        """
        if _fingerprint(os.fstat(self._descriptor)) != self._fingerprint:
            raise self._changed()

    def _changed(self) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            "the file was changed while it was being read",
            where=str(self.path),
            next_step="wait until whatever writes it has finished, then try again",
        )

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file in hexadecimal.

        Raises:
            CorruptCheckpointError: the file was changed since it was opened.
            AccessError: the disk fails.
        """
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(min(HASHED_BYTES, self.size)))
        for offset in range(0, self.size, HASHED_BYTES):
            if self._is_abandoned:
                raise ValueError("closed while it was being hashed")
            piece = buffer[: self.size - offset]
            self.read_into(offset, piece, "the file")
            digest.update(piece)
        self.require_unchanged()
        return digest.hexdigest()


class Window:
    """A small stretch of a file kept in memory, for reads that lie close together.

    Args:
        file: the file.
    """

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._start = 0
        self._bytes = b""

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Return exactly ``length`` bytes at ``offset``; raises as :meth:`OpenFile.read` does."""
        begin = offset - self._start
        if begin < 0 or begin + length > len(self._bytes):
            ahead = min(max(length, _WINDOW_BYTES), self._file.size - offset)
            self._bytes = self._file.read(offset, max(length, ahead), what)
            self._start, begin = offset, 0
        return self._bytes[begin : begin + length]


class ReopenedFile(OpenFile):
    """One of a folder's many files: reopened for every read, as there are not enough descriptors for all.

    Each time the opened file must be the one that was parsed: same place on the disk, size and times. Its first
    bytes, where its header lies, are kept.
    """

    def __init__(self, path: Path, budget: WorkBudget) -> None:
        super().__init__(path, budget)
        budget.charge(_OPENING)
        try:
            head = bytearray(min(self.size, _HEAD_BYTES))
            super().read_into(0, memoryview(head), "the file")
            self._head = bytes(head)
        finally:
            self.close()

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Return bytes as :meth:`OpenFile.read` does."""
        if 0 <= offset <= offset + length <= len(self._head):
            return self._head[offset : offset + length]
        return super().read(offset, length, what)

    def read_into(self, offset: int, target: memoryview, what: str) -> None:
        """Fill ``target`` as :meth:`OpenFile.read_into` does."""
        with OpenFile(self.path, self.budget) as opened:  # one of its own: another thread may be reading as well
            if opened._fingerprint != self._fingerprint:
                raise self._changed()
            opened.read_into(offset, target, what)

    def require_unchanged(self) -> None:
        """Raise as :meth:`OpenFile.require_unchanged` does."""
        self.read_into(0, memoryview(b""), "the file")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise AccessError("there is no such file", where=str(path), next_step="check the path") from error
    except OSError as error:
        raise AccessError(f"the file cannot be opened: {error.strerror}", where=str(path)) from error


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Encoding(Enum):
    """How the bytes of an extent stand in the file."""

    RAW = "raw"
    #: Python 3's pickle protocol 2 has no bytes: it stores them as Latin-1 text in UTF-8, so that each byte
    #: from 0x80 on takes two.
    LATIN1_IN_UTF8 = "latin1-in-utf8"


class Extent(Struct, frozen=True):
    """A run of bytes in one file.

    Attributes:
        file: which of the checkpoint's files (always 0 unless it is a folder).
        offset: where the run starts in the file, in bytes.
        length: how long it is in the file, in bytes.
        encoding: how it stands there.
    """

    file: int
    offset: int
    length: int
    encoding: Encoding = Encoding.RAW


class Storage(Struct, frozen=True):
    """The bytes that one or more tensors are views of.

    Attributes:
        label: what messages call it: an archive record, a storage key, a variable.
        extents: where the bytes lie, in order. Only very large Paddle arrays have more than one.
        nbytes: how many bytes there are once decoded.
        crc32: the checksum the file states for them, if it does.
    """

    label: str
    extents: tuple[Extent, ...]
    nbytes: int
    crc32: int | None = None


_WIDEST_ELEMENT: Final = 16
"""Bytes of an element of the widest type; the widths of all others divide it."""


def decode_latin1(pieces: Iterable[memoryview], where: str) -> Iterator[memoryview]:
    """Turn pieces of UTF-8 text back into the bytes whose Latin-1 reading the text is, in pieces of whole elements.

    Raises:
        CorruptCheckpointError: the text is not UTF-8, or has a letter that is no Latin-1 one.
    """
    decoder, rest = codecs.getincrementaldecoder("utf-8")(), b""
    try:
        for piece in pieces:
            data = rest + decoder.decode(piece).encode("latin-1")
            whole = len(data) - len(data) % _WIDEST_ELEMENT
            rest = data[whole:]
            if whole:
                yield memoryview(data)[:whole]
        decoder.decode(b"", final=True)
        if rest:
            yield memoryview(rest)
    except UnicodeError as error:
        raise CorruptCheckpointError(
            "bytes pickled as text are damaged", where=where, expected="Latin-1 characters in UTF-8"
        ) from error


def require_crc(file: OpenFile, label: str, offset: int, stated: int | None, computed: int) -> None:
    """Compare a payload's checksum with the one the file states, if it states one.

    Raises:
        CorruptCheckpointError: they differ.
    """
    if stated is not None and stated != computed:
        raise CorruptCheckpointError(
            f"the bytes of {label} do not match their checksum",
            where=f"{file.path}, {label} at byte {offset}",
            expected=f"CRC-32 {stated:08x}",
            got=f"CRC-32 {computed:08x}",
            next_step="the file is damaged: download it again",
        )


class StorageReader:
    """Reads the bytes of a checkpoint's storages, and checks each storage's checksum once.

    Args:
        files: the checkpoint's files.
        storages: its storages.
    """

    def __init__(self, files: Sequence[OpenFile], storages: Sequence[Storage]) -> None:
        self._files = files
        self._storages = storages
        self._checked = {index for index, storage in enumerate(storages) if storage.crc32 is None}

    def whole(self, index: int) -> Iterator[memoryview]:
        """Yield all bytes of a storage, at most a chunk at a time; each piece is valid until the next.

        Raises:
            CorruptCheckpointError: the checksum is wrong; raised after the last piece.
        """
        storage = self._storages[index]
        checksum = total = 0
        must_check = index not in self._checked
        for extent in storage.extents:
            for piece in self._pieces(extent, storage.label):
                if must_check:
                    checksum = crc32(piece, checksum)
                total += len(piece)
                if total > storage.nbytes:
                    break
                yield piece
        if total != storage.nbytes:
            raise self._short(storage)
        if must_check:
            extent = storage.extents[0]
            require_crc(self._files[extent.file], storage.label, extent.offset, storage.crc32, checksum)
            self._checked.add(index)

    def require_checked(self, index: int) -> None:
        """Check a storage's checksum unless that has been done already."""
        if index not in self._checked:
            for _ in self.whole(index):
                pass

    def stretch(self, index: int, start: int, target: memoryview) -> None:
        """Fill ``target`` with a storage's bytes from ``start`` on; their checksum is checked first."""
        self.require_checked(index)
        storage = self._storages[index]
        self.charge_reading(len(storage.extents) * _READ_UNIT)
        filled, position = 0, 0
        for extent in storage.extents:
            if extent.encoding is Encoding.RAW:
                begin = max(start + filled - position, 0)
                count = min(extent.length - begin, len(target) - filled)
                if count > 0:
                    wanted = target[filled : filled + count]
                    self._files[extent.file].read_into(extent.offset + begin, wanted, storage.label)
                    filled += count
                position += extent.length
            else:
                self.charge_reading(extent.length - len(target))
                for piece in self._pieces(extent, storage.label):
                    begin = max(start + filled - position, 0)
                    part = piece[begin : begin + len(target) - filled]
                    target[filled : filled + len(part)] = part
                    filled += len(part)
                    position += len(piece)
            if filled == len(target):
                return
        raise self._short(storage)

    def charge_reading(self, nbytes: int) -> None:
        """Charge bytes that are read although they belong to no requested tensor."""
        if nbytes < _READ_UNIT:
            return
        try:
            self._files[0].budget.charge(nbytes // _READ_UNIT)
        except LimitExceededError as error:
            error.where = str(self._files[0].path)
            raise

    def require_unchanged(self, index: int) -> None:
        """Raise as :meth:`OpenFile.require_unchanged` does if a file that a storage lies in was written to."""
        for file in {extent.file for extent in self._storages[index].extents}:
            self._files[file].require_unchanged()

    def _short(self, storage: Storage) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"{storage.label} does not hold the bytes its shape needs",
            where=str(self._files[0].path),
            expected=f"{storage.nbytes} bytes",
        )

    def _pieces(self, extent: Extent, label: str) -> Iterator[memoryview]:
        raw = self._raw_pieces(extent, label)
        return (
            raw if extent.encoding is Encoding.RAW else decode_latin1(raw, f"{self._files[extent.file].path}, {label}")
        )

    def _raw_pieces(self, extent: Extent, label: str) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(min(CHUNK_BYTES, extent.length)))
        file = self._files[extent.file]
        for done in range(0, extent.length, CHUNK_BYTES):
            piece = buffer[: min(CHUNK_BYTES, extent.length - done)]
            file.read_into(extent.offset + done, piece, label)
            yield piece
