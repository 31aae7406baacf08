"""Brings the elements of a tensor into C order, a bounded number of bytes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from r2convert.checkpoint.limits import CHUNK_BYTES, GATHER_BYTES
from r2convert.checkpoint.storage_reading import StorageReader
from r2convert.checkpoint.tensor import TensorInfo

if TYPE_CHECKING:
    import numpy as np

#: A part of a tensor is read in one go if at most three of four bytes are read in vain, or it is small anyway.
_DENSE_ENOUGH: Final = 4
_SMALL_EXTENT: Final = 16 * 1024


def tensor_chunks(reader: StorageReader, tensor: TensorInfo, storage_bytes: int) -> Iterator[memoryview]:
    """Yield a tensor's elements in C order, little-endian.

    Args:
        reader: gives the bytes of the storages.
        tensor: which elements.
        storage_bytes: the length of the tensor's storage.

    Yields:
        Pieces of at most ``CHUNK_BYTES`` bytes, each valid until the next is asked for.

    Raises:
        CorruptCheckpointError: the storage's checksum is wrong (raised at the latest after the last piece).
    """
    if tensor.elements == 0:
        reader.require_checked(tensor.source)
    elif tensor.is_contiguous and tensor.offset == 0 and tensor.nbytes == storage_bytes:
        yield from reader.whole(tensor.source)
    elif tensor.is_contiguous:
        yield from _contiguous(reader, tensor)
    else:
        yield from _strided(reader, tensor)


def _contiguous(reader: StorageReader, tensor: TensorInfo) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(CHUNK_BYTES, tensor.nbytes)))
    for done in range(0, tensor.nbytes, CHUNK_BYTES):
        piece = buffer[: min(CHUNK_BYTES, tensor.nbytes - done)]
        reader.stretch(tensor.source, tensor.offset + done, piece)
        yield piece


def _strided(reader: StorageReader, tensor: TensorInfo) -> Iterator[memoryview]:
    """Cut the tensor along its first dimensions until a part may be held in memory, then arrange that part."""
    if tensor.nbytes > GATHER_BYTES:
        axis = next(axis for axis, length in enumerate(tensor.shape) if length > 1)
        for part in _halves(tensor, axis):
            yield from _strided(reader, part)
        return
    if tensor.extent <= GATHER_BYTES:
        arranged = _view_of_extent(reader, tensor)
    else:
        import numpy as np

        arranged = np.empty(tensor.shape, tensor.dtype.numpy)
        _collect(reader, tensor, arranged)
    yield from _in_order(arranged)


def _halves(tensor: TensorInfo, axis: int) -> tuple[TensorInfo, TensorInfo]:
    half = tensor.shape[axis] // 2
    return _section(tensor, axis, 0, half), _section(tensor, axis, half, tensor.shape[axis] - half)


def _section(tensor: TensorInfo, axis: int, first: int, length: int) -> TensorInfo:
    shape = (*tensor.shape[:axis], length, *tensor.shape[axis + 1 :])
    offset = tensor.offset + first * tensor.strides[axis] * tensor.dtype.itemsize
    return TensorInfo(tensor.name, tensor.dtype, shape, tensor.strides, offset, tensor.source)


def _view_of_extent(reader: StorageReader, tensor: TensorInfo) -> np.ndarray[Any, Any]:
    """Read everything between a tensor's first and last element and look at it with the tensor's strides."""
    import numpy as np

    extent = bytearray(tensor.extent)
    reader.stretch(tensor.source, tensor.offset, memoryview(extent))
    strides = tuple(stride * tensor.dtype.itemsize for stride in tensor.strides)
    return np.ndarray(tensor.shape, tensor.dtype.numpy, extent, strides=strides)


def _collect(reader: StorageReader, tensor: TensorInfo, target: np.ndarray[Any, Any]) -> None:
    """Fill ``target`` from an extent too large to read whole, by reading the dense parts of it."""
    if tensor.extent <= max(_DENSE_ENOUGH * tensor.nbytes, _SMALL_EXTENT):
        target[...] = _view_of_extent(reader, tensor)
        return
    reach = [(length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True)]
    axis = reach.index(max(reach))
    before = (slice(None),) * axis
    low, high = _halves(tensor, axis)
    _collect(reader, low, target[(*before, slice(0, low.shape[axis]))])
    _collect(reader, high, target[(*before, slice(low.shape[axis], None))])


def _in_order(arranged: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    """Yield an array's bytes in C order, copying about a chunk at a time."""
    rows = arranged.reshape(1) if arranged.ndim == 0 else arranged
    step = max(CHUNK_BYTES * rows.shape[0] // rows.nbytes, 1)
    for first in range(0, rows.shape[0], step):
        data = memoryview(rows[first : first + step].tobytes())
        for done in range(0, len(data), CHUNK_BYTES):
            yield data[done : done + CHUNK_BYTES]
