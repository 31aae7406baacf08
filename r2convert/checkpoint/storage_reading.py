"""Reads the bytes of storages: in order with their checksums, or any stretch of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isal.isal_zlib import crc32

from r2convert.checkpoint.digests import require_crc
from r2convert.checkpoint.limits import CHUNK_BYTES
from r2convert.checkpoint.pickles.latin1 import decode_latin1
from r2convert.checkpoint.source_file import SourceFile
from r2convert.checkpoint.storage import Encoding, Extent, Storage
from r2convert.errors import CorruptCheckpointError


class StorageReader:
    """Gives out the bytes of a checkpoint's storages, and checks each storage's checksum once.

    Args:
        sources: the checkpoint's files.
        storages: its storages.
    """

    def __init__(self, sources: Sequence[SourceFile], storages: Sequence[Storage]) -> None:
        self._sources = sources
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
            require_crc(self._sources[extent.file], storage.label, extent.offset, storage.crc32, checksum)
            self._checked.add(index)

    def accept(self, index: int, crc32: int) -> None:
        """Take a storage's checksum for checked if it is this one, known to be that of its right bytes."""
        if self._storages[index].crc32 == crc32:
            self._checked.add(index)

    def is_checked(self, index: int) -> bool:
        """Whether a storage's checksum has been checked, or it has none."""
        return index in self._checked

    def require_checked(self, index: int) -> None:
        """Check a storage's checksum unless that has been done already."""
        if index not in self._checked:
            for _ in self.whole(index):
                pass

    def stretch(self, index: int, start: int, target: memoryview) -> None:
        """Fill ``target`` with a storage's bytes from ``start`` on; their checksum is checked first."""
        self.require_checked(index)
        storage = self._storages[index]
        filled, position = 0, 0
        for extent in storage.extents:
            if extent.encoding is Encoding.RAW:
                begin = max(start + filled - position, 0)
                count = min(extent.length - begin, len(target) - filled)
                if count > 0:
                    source = self._sources[extent.file]
                    source.read_into(extent.offset + begin, target[filled : filled + count], storage.label)
                    filled += count
                position += extent.length
            else:
                for piece in self._pieces(extent, storage.label):
                    begin = max(start + filled - position, 0)
                    part = piece[begin : begin + len(target) - filled]
                    target[filled : filled + len(part)] = part
                    filled += len(part)
                    position += len(piece)
            if filled == len(target):
                return
        raise self._short(storage)

    def _short(self, storage: Storage) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"{storage.label} does not hold the bytes its shape needs",
            where=str(self._sources[0].path),
            expected=f"{storage.nbytes} bytes",
        )

    def _pieces(self, extent: Extent, label: str) -> Iterator[memoryview]:
        raw = self._raw_pieces(extent, label)
        return (
            raw
            if extent.encoding is Encoding.RAW
            else decode_latin1(raw, f"{self._sources[extent.file].path}, {label}")
        )

    def _raw_pieces(self, extent: Extent, label: str) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(min(CHUNK_BYTES, extent.length)))
        source = self._sources[extent.file]
        for done in range(0, extent.length, CHUNK_BYTES):
            piece = buffer[: min(CHUNK_BYTES, extent.length - done)]
            source.read_into(extent.offset + done, piece, label)
            yield piece
