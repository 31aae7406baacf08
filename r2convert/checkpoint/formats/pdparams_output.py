"""Lays out Paddle's `.pdparams`: one pickle (protocol 4) of NumPy arrays, as `paddle.save` writes state dicts.

The arrays' bytes stand in the pickle as they are. NumPy is named `numpy.core`, which NumPy 1 and 2 both load.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.dtypes import DType
from r2convert.checkpoint.formats.output_layout import Segments
from r2convert.checkpoint.pickles.numpy_values import NUMPY_TYPES
from r2convert.checkpoint.pickles.pickle_output import global_name, integers, text

_TYPE_CODES: Final = {dtype: code for code, dtype in NUMPY_TYPES.items()}
_FULL32: Final = 0xFFFFFFFF


def pdparams_segments(
    tensors: Sequence[OutputTensor], metadata: Callable[[], Mapping[str, str]], checksums: Mapping[int, int]
) -> Segments:
    """Lay out a `.pdparams` file; the format has no place for metadata. bfloat16 goes in as uint16 patterns."""
    del metadata, checksums
    yield b"\x80\x04}("
    for index, tensor in enumerate(tensors):
        yield text(tensor.name) + _array_before_bytes(tensor)
        yield index
        yield b"tb"
    yield b"u."


def _array_before_bytes(tensor: OutputTensor) -> bytes:
    """Pickle `_reconstruct(ndarray, (0,), b'b')` and its state up to the bytes."""
    reconstruct = global_name("numpy.core.multiarray", "_reconstruct") + global_name("numpy", "ndarray")
    empty = reconstruct + integers((0,)) + b"C\x01b" + b"\x87R"
    state = b"(K\x01" + integers(tensor.shape) + _type(tensor.dtype) + b"\x89"
    length = tensor.nbytes
    prefix = b"\x8e" + struct.pack("<Q", length) if length > _FULL32 else b"B" + struct.pack("<I", length)
    return empty + state + prefix


def _type(dtype: DType) -> bytes:
    """Pickle a `numpy.dtype` and its state `(3, byte order, None, None, None, -1, -1, 0)`."""
    order = "|" if dtype.itemsize == 1 else "<"
    made = global_name("numpy", "dtype") + text(_TYPE_CODES[dtype]) + b"\x89\x88\x87R"
    return (
        made
        + b"(K\x03"
        + text(order)
        + b"NNN"
        + b"J"
        + struct.pack("<i", -1)
        + b"J"
        + struct.pack("<i", -1)
        + b"K\x00tb"
    )
