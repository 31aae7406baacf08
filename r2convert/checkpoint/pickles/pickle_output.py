"""The few pickle opcodes the writers need. Hand-made, so that the same values always give the same bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def text(value: str) -> bytes:
    """Pickle a text."""
    encoded = value.encode("utf-8")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def integer(value: int) -> bytes:
    """Pickle a number from 0 on, in the shortest way."""
    if value < 1 << 8:
        return b"K" + struct.pack("<B", value)
    if value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def integers(values: Sequence[int]) -> bytes:
    """Pickle a tuple of numbers."""
    return b"(" + b"".join(map(integer, values)) + b"t"


def global_name(module: str, name: str) -> bytes:
    """Pickle the name of a class or function."""
    return f"c{module}\n{name}\n".encode()
