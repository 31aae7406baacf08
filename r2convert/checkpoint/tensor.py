"""A tensor as a description: where its bytes lie and how they are arranged; checked first, brought into order later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from msgspec import Struct
from msgspec.structs import replace

from r2convert.checkpoint import limits
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.limits import CHUNK_BYTES, GATHER_BYTES, KIBIBYTE
from r2convert.checkpoint.storage import StorageReader
from r2convert.errors import CorruptCheckpointError, LimitExceededError

if TYPE_CHECKING:
    import numpy as np


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a C-ordered tensor of this shape."""
    strides: list[int] = []
    step = 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


class TensorInfo(Struct, frozen=True):
    """A tensor of a checkpoint.

    Attributes:
        name: its name in the state dict; empty until it has one.
        dtype: the type of its elements.
        shape: its lengths.
        strides: the distance of neighbours along each dimension, in elements; never negative.
        offset: where element 0 lies, in bytes from the start of its storage.
        storage: which of the checkpoint's storages holds its bytes.
        is_negated: whether its elements are the negatives of those stored (torch's lazy negation).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: int
    is_negated: bool = False

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements in C order."""
        return self.elements * self.dtype.itemsize

    @property
    def extent(self) -> int:
        """Bytes from the first element to the end of the last one, in the storage."""
        if self.elements == 0:
            return 0
        last = sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether the bytes in the storage are the elements in C order."""
        expected = contiguous_strides(self.shape)
        return self.elements == 0 or all(
            length == 1 or stride == wanted
            for length, stride, wanted in zip(self.shape, self.strides, expected, strict=True)
        )

    def renamed(self, name: str) -> TensorInfo:
        """Return the same tensor under another name."""
        # Spelled out: `replace` takes as long as all the rest of finding a state dict.
        return TensorInfo(
            name, self.dtype, self.shape, self.strides, self.offset, self.storage, is_negated=self.is_negated
        )

    def transposed(self) -> TensorInfo:
        """Return the transpose of a matrix, over the same bytes.

        Raises:
            ValueError: the tensor does not have two dimensions.
        """
        if len(self.shape) != 2:
            raise ValueError(f"{self.name} has {len(self.shape)} dimensions: only a matrix can be transposed")
        return replace(self, shape=self.shape[::-1], strides=self.strides[::-1])

    def reshaped(self, shape: tuple[int, ...]) -> TensorInfo:
        """Return the same elements in another shape, over the same bytes.

        Args:
            shape: the new lengths. Unless the tensor is contiguous, only dimensions of length 1 may come and go.

        Raises:
            ValueError: the elements do not fit the shape without being copied.
        """
        if math.prod(shape) != self.elements or any(length < 0 for length in shape):
            raise ValueError(f"{self.name}: {list(self.shape)} does not hold the elements of {list(shape)}")
        if self.is_contiguous:
            return replace(self, shape=shape, strides=contiguous_strides(shape))
        kept = [(length, stride) for length, stride in zip(self.shape, self.strides, strict=True) if length != 1]
        if [length for length, _ in kept] != [length for length in shape if length != 1]:
            raise ValueError(f"{self.name}: {list(self.shape)} with strides {list(self.strides)} cannot become {shape}")
        remaining = iter(stride for _, stride in kept)
        return replace(self, shape=shape, strides=tuple(1 if length == 1 else next(remaining) for length in shape))


def require_shape(shape: object, what: str) -> tuple[int, ...]:
    """Return ``shape`` if it is a tuple or list of lengths.

    Raises:
        CorruptCheckpointError: it is something else, or a length is negative.
        LimitExceededError: more dimensions or elements than the caps allow.
    """
    if isinstance(shape, (tuple, list)) and len(shape) > limits.MAX_DIMENSIONS:
        raise LimitExceededError(
            f"{what} has too many dimensions", expected=f"at most {limits.MAX_DIMENSIONS}", got=str(len(shape))
        )
    lengths = tuple(shape) if isinstance(shape, (tuple, list)) else None
    if lengths is None or not all(is_count(length) for length in lengths):
        raise CorruptCheckpointError(f"{what} has an impossible shape", expected="lengths of 0 or more")
    elements = 1
    for length in lengths:
        elements *= max(length, 1)
        if elements > limits.MAX_ELEMENTS:
            raise LimitExceededError(f"{what} has too many elements", expected=f"at most {limits.MAX_ELEMENTS}")
    return lengths


def require_fits(
    dtype: DType, shape: tuple[int, ...], strides: object, first: object, available: int, what: str
) -> tuple[tuple[int, ...], int]:
    """Check a strided view against the storage it looks into.

    Args:
        dtype: the type of the elements.
        shape: the checked lengths.
        strides: the distance of neighbours along each dimension, in elements.
        first: the first element's place in the storage, in elements.
        available: elements in the storage.
        what: what messages call the tensor.

    Returns:
        The strides, and the first element's place in bytes.

    Raises:
        CorruptCheckpointError: a number is negative or no number, or an element lies outside the storage.
    """
    steps = tuple(strides) if isinstance(strides, (tuple, list)) and len(strides) == len(shape) else None
    if steps is None or not all(is_count(step) for step in steps) or not is_count(first):
        raise CorruptCheckpointError(f"{what} has impossible strides", expected=f"{len(shape)} strides of 0 or more")
    last = first if 0 in shape else first + 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if last > available:
        raise CorruptCheckpointError(
            f"{what} reaches outside its storage", expected=f"at most {available} elements", got=f"{last} elements"
        )
    return steps, first * dtype.itemsize


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value is an integer from 0 to the largest 64-bit one."""
    return type(value) is int and 0 <= value < 1 << 63


def require_plausible_total(tensors: Iterable[TensorInfo], file_size: int, where: str) -> None:
    """Check that tensors that overlap do not together describe far more bytes than the file has.

    Raises:
        LimitExceededError: they do.
    """
    described = sum(tensor.nbytes for tensor in tensors)
    allowed = limits.MAX_EXPANSION * file_size + limits.EXPANSION_ALLOWANCE_BYTES
    if described > allowed:
        raise LimitExceededError(
            "the tensors describe far more bytes than the file has",
            where=where,
            expected=f"at most {allowed} bytes for a file of {file_size}",
            got=f"{described} bytes",
        )


#: Elements that lie far apart are gathered so many at a time; bytes between two of them that are read in vain.
_COLLECTED_ELEMENTS: Final = 1 << 20
_WIDEST_GAP: Final = 64 * KIBIBYTE
#: What a stretch costs, in bytes that could be read in the time.
_STRETCH: Final = 20 * KIBIBYTE


def tensor_chunks(reader: StorageReader, tensor: TensorInfo, storage_bytes: int) -> Iterator[memoryview]:
    """Return a tensor's elements in C order, little-endian, piece by piece.

    Args:
        reader: gives the bytes of the storages.
        tensor: which elements.
        storage_bytes: the length of the tensor's storage.

    Returns:
        Pieces of at most ``CHUNK_BYTES`` bytes, each valid until the next is asked for.

    Raises:
        CorruptCheckpointError: the storage's checksum is wrong (raised at the latest after the last piece).
    """
    pieces = _stored_chunks(reader, tensor, storage_bytes)
    return (_negated(piece, tensor.dtype) for piece in pieces) if tensor.is_negated else pieces


def _stored_chunks(reader: StorageReader, tensor: TensorInfo, storage_bytes: int) -> Iterator[memoryview]:
    if tensor.elements == 0:
        reader.require_checked(tensor.storage)
    elif tensor.is_contiguous and tensor.offset == 0 and tensor.nbytes == storage_bytes:
        yield from reader.whole(tensor.storage)
    elif tensor.is_contiguous:
        yield from _contiguous(reader, tensor)
    else:
        yield from _strided(reader, tensor)


def _negated(piece: memoryview, dtype: DType) -> memoryview:
    import numpy as np

    stored = np.frombuffer(piece, dtype.numpy)
    # bfloat16 comes as bit patterns, whose highest bit is the sign.
    values = stored ^ np.uint16(0x8000) if dtype is DType.BFLOAT16 else np.negative(stored)
    return memoryview(values.tobytes())


def _contiguous(reader: StorageReader, tensor: TensorInfo) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(CHUNK_BYTES, tensor.nbytes)))
    for done in range(0, tensor.nbytes, CHUNK_BYTES):
        piece = buffer[: min(CHUNK_BYTES, tensor.nbytes - done)]
        reader.stretch(tensor.storage, tensor.offset + done, piece)
        yield piece


def _strided(reader: StorageReader, tensor: TensorInfo) -> Iterator[memoryview]:
    """Cut the tensor along its first dimensions until a part may be held in memory, then arrange that part."""
    is_scattered = tensor.extent > GATHER_BYTES
    if tensor.nbytes > GATHER_BYTES or (is_scattered and tensor.elements > _COLLECTED_ELEMENTS):
        axis = next(axis for axis, length in enumerate(tensor.shape) if length > 1)
        for part in _halves(tensor, axis):
            yield from _strided(reader, part)
        return
    yield from _in_order(_collect(reader, tensor) if is_scattered else _view_of_extent(reader, tensor))


def _halves(tensor: TensorInfo, axis: int) -> tuple[TensorInfo, TensorInfo]:
    half = tensor.shape[axis] // 2
    return _section(tensor, axis, 0, half), _section(tensor, axis, half, tensor.shape[axis] - half)


def _section(tensor: TensorInfo, axis: int, first: int, length: int) -> TensorInfo:
    shape = (*tensor.shape[:axis], length, *tensor.shape[axis + 1 :])
    offset = tensor.offset + first * tensor.strides[axis] * tensor.dtype.itemsize
    return replace(tensor, shape=shape, offset=offset)


def _view_of_extent(reader: StorageReader, tensor: TensorInfo) -> np.ndarray[Any, Any]:
    """Read everything between a tensor's first and last element and look at it with the tensor's strides."""
    import numpy as np

    reader.charge_reading(tensor.extent - tensor.nbytes)
    extent = bytearray(tensor.extent)
    reader.stretch(tensor.storage, tensor.offset, memoryview(extent))
    strides = tuple(stride * tensor.dtype.itemsize for stride in tensor.strides)
    return np.ndarray(tensor.shape, tensor.dtype.numpy, extent, strides=strides)


def _collect(reader: StorageReader, tensor: TensorInfo) -> np.ndarray[Any, Any]:
    """Gather elements that lie far apart: in the order of the file, one stretch after the other, each read once."""
    import numpy as np

    places = np.zeros((), np.int64)
    for length, stride in zip(tensor.shape, tensor.strides, strict=True):
        places = places[..., None] + np.arange(length) * stride
    order = places.reshape(-1).argsort(kind="stable")
    ascending = places.reshape(-1)[order]
    gathered = np.empty(tensor.elements, tensor.dtype.numpy)
    size = tensor.dtype.itemsize
    # A stretch ends before a wide gap, and when it is long enough.
    last = np.append(np.flatnonzero(np.diff(ascending) > _WIDEST_GAP // size), tensor.elements - 1)
    begin = 0
    while begin < tensor.elements:
        first = int(ascending[begin])
        within = int(np.searchsorted(ascending, first + GATHER_BYTES // size))
        end = min(within, int(last[np.searchsorted(last, begin)]) + 1)
        stretch = bytearray((int(ascending[end - 1]) + 1 - first) * size)
        reader.charge_reading(max(len(stretch) - (end - begin) * size, _STRETCH))
        reader.stretch(tensor.storage, tensor.offset + first * size, memoryview(stretch))
        gathered[order[begin:end]] = np.frombuffer(stretch, gathered.dtype)[ascending[begin:end] - first]
        begin = end
    return gathered.reshape(tensor.shape)


def _in_order(arranged: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    """Yield an array's bytes in C order, copying about a chunk at a time."""
    rows = arranged.reshape(1) if arranged.ndim == 0 else arranged
    step = max(CHUNK_BYTES * rows.shape[0] // rows.nbytes, 1)
    for first in range(0, rows.shape[0], step):
        data = memoryview(rows[first : first + step].tobytes())
        for done in range(0, len(data), CHUNK_BYTES):
            yield data[done : done + CHUNK_BYTES]
