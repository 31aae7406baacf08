"""Bad safetensors files: headers that contradict the buffer, or are none."""

from __future__ import annotations

import struct
from collections.abc import Callable

from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    TruncatedCheckpointError,
    UnsupportedCheckpointError,
)
from r2convert.selftest.bad_file import BadFile
from r2convert.selftest.specimens import safetensors


def bad_safetensors_files() -> tuple[BadFile, ...]:
    """Return the safetensors part of the catalogue."""
    corrupt = CorruptCheckpointError
    return (
        _bad("tensors that overlap", corrupt, lambda: _two([0, 8], [4, 12], 12)),
        _bad("a hole between tensors", corrupt, lambda: _two([0, 8], [12, 20], 20)),
        _bad("a hole before the first tensor", corrupt, lambda: _two([4, 12], [12, 20], 20)),
        _bad("bytes behind the last tensor", corrupt, lambda: safetensors() + b"x"),
        _bad("a truncated buffer", TruncatedCheckpointError, lambda: safetensors()[:-1]),
        _bad("a truncated header", TruncatedCheckpointError, lambda: safetensors()[:40]),
        _bad("the same tensor twice", corrupt, _same_name),
        _bad("the same field twice", corrupt, lambda: safetensors(b'{"a":{"dtype":"F32","dtype":"F32"}}', b"")),
        _bad("a shape that overflows", LimitExceededError, lambda: _one("F32", [1 << 33, 1 << 33], [0, 0])),
        _bad("a negative length", corrupt, lambda: _one("F32", [-1], [0, 0])),
        _bad("a shape that does not fit its bytes", corrupt, lambda: _one("F32", [3], [0, 8], bytes(8))),
        _bad("offsets that run backwards", corrupt, lambda: _one("F32", [2], [8, 0], bytes(8))),
        _bad("offsets that are no numbers", corrupt, lambda: _one("F32", [2], ["0", "8"], bytes(8))),
        _bad("a header of 2^63 bytes", LimitExceededError, _huge_header),
        _bad("an unknown element type", UnsupportedCheckpointError, lambda: _one("F8_E4M3", [8], [0, 8], bytes(8))),
        _bad("an unknown field", corrupt, lambda: safetensors({"a": {"x": 1}}, b"")),
        _bad("a header that is no object", corrupt, lambda: safetensors(b'{"a":1}', b"")),
        _bad("a header that is no JSON", corrupt, lambda: safetensors(b"{nonsense", b"")),
        _bad("a header that is not UTF-8", corrupt, lambda: safetensors(b'{"\xff":1}', b"")),
        _bad("a number that is none", corrupt, lambda: safetensors(b'{"a":NaN}', b"")),
        _bad("100,000 nested lists", LimitExceededError, lambda: safetensors(b'{"a":' + b"[" * 100_000, b"")),
        _bad("metadata that is no text", corrupt, lambda: safetensors({"__metadata__": {"a": 1}}, b"")),
    )


def _bad(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"safetensors: {name}", ".safetensors", expected, make)


def _one(dtype: str, shape: list[int], offsets: list[object], buffer: bytes = b"") -> bytes:
    return safetensors({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, buffer)


def _two(first: list[int], second: list[int], size: int) -> bytes:
    header = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": offsets} for name, offsets in (("a", first), ("b", second))
    }
    return safetensors(header, bytes(size))


def _same_name() -> bytes:
    entry = b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return safetensors(b"{" + entry + b"," + entry + b"}", b"")


def _huge_header() -> bytes:
    return struct.pack("<Q", 1 << 31) + safetensors()[8:]
