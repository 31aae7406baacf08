"""Compares payloads with the checksums a file states for them."""

from __future__ import annotations

from r2convert.checkpoint.source_file import SourceFile
from r2convert.errors import CorruptCheckpointError


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
