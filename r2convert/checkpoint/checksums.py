"""Computes checksums of payloads, and compares them with those a file states."""

from __future__ import annotations

from isal.isal_zlib import crc32 as _crc32

from r2convert.checkpoint.source_file import SourceFile
from r2convert.errors import CorruptCheckpointError


def crc32(data: bytes | memoryview, checksum: int = 0) -> int:
    """Continue a CRC-32, as ``zlib.crc32`` does, with the processor's carry-less multiplication: six times as fast.

    Args:
        data: the next bytes.
        checksum: that of the bytes before.
    """
    return _crc32(data, checksum)


def require_crc(source: SourceFile, label: str, offset: int, stated: int | None, computed: int) -> None:
    """Compare a payload's checksum with the one the file states, if it states one.

    Raises:
        CorruptCheckpointError: they differ.
    """
    if stated is not None and stated != computed:
        raise CorruptCheckpointError(
            f"The bytes of {label} do not match their checksum",
            where=f"{source.path}, {label} at byte {offset}",
            expected=f"CRC-32 {stated:08x}",
            got=f"CRC-32 {computed:08x}",
            next_step="The file is damaged: download it again.",
        )
