"""Tensor values: cast on their way into a file, and searched for what no trained network has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from r2convert.checkpoint.dtypes import DType
from r2convert.checkpoint.reading import Checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.mapping.identity import Resolution
from r2convert.mapping.tables import Slot

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CASTS = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)
"""What floating-point tensors can be cast to."""


class Stream:
    """One tensor's elements on their way from a source into a file.

    Args:
        chunks: the elements in the source's type, little-endian, in pieces of whole elements.
        source: the source's type.
        target: the type they get; values are rounded to the nearest, ties to even, as IEEE 754 has it.
    """

    def __init__(self, chunks: Iterable[memoryview | bytes], source: DType, target: DType) -> None:
        self._chunks = chunks
        self._source = source
        self._target = target
        self.not_finite = 0
        self.overflowed = 0

    @property
    def problem(self) -> str | None:
        """What is wrong with the values that went by, in words."""
        if self.not_finite:
            return f"{self.not_finite:,} values are NaN or infinite"
        if self.overflowed:
            return f"{self.overflowed:,} values are too large for {self._target.value}"
        return None

    def __iter__(self) -> Iterator[memoryview | bytes]:
        """Yield the elements, counting those that are not finite before and those that are not after the cast."""
        for chunk in self._chunks:
            if not self._source.is_floating:
                yield chunk
                continue
            if self._target is self._source:
                if _may_be_not_finite(chunk, self._source):
                    self.not_finite += _count_not_finite(_decode(chunk, self._source))
                yield chunk
                continue
            values = _decode(chunk, self._source)
            bad = _count_not_finite(values)
            self.not_finite += bad
            encoded = _encode(values, self._target)
            self.overflowed += _count_not_finite(_decode(encoded, self._target)) - bad
            yield encoded


def _may_be_not_finite(chunk: memoryview | bytes, dtype: DType) -> bool:
    """Whether any element's top byte is that of an infinity or a NaN; of trained weights, next to none is.

    Starting NumPy takes longer than looking through a whole file this way: it is left to the rare chunk that
    has to be counted, and to float16, whose exponent does not fill the top byte.
    """
    if dtype is DType.FLOAT16:
        return True
    top_bytes = bytes(chunk)[dtype.itemsize - 1 :: dtype.itemsize]
    return 0x7F in top_bytes or 0xFF in top_bytes


def _decode(chunk: memoryview | bytes, dtype: DType) -> Array:
    import numpy as np

    array = np.frombuffer(chunk, dtype.numpy)
    if dtype is DType.BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _encode(values: Array, dtype: DType) -> bytes:
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        if dtype is not DType.BFLOAT16:
            return values.astype(dtype.numpy).tobytes()
        # A bfloat16 is the upper half of a float32: round on the lower half, ties to the even upper half.
        bits = values.astype(np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet_nan = np.uint32(0x7FC0)
    return np.where(np.isnan(values), quiet_nan, rounded).astype("<u2").tobytes()


def _count_not_finite(values: Array) -> int:
    import numpy as np

    return int(values.size - np.count_nonzero(np.isfinite(values)))


def value_problems(checkpoint: Checkpoint, resolution: Resolution | None) -> list[str]:
    """Look at every floating-point value of a file.

    Args:
        checkpoint: the open file.
        resolution: what it is, if known; an unknown file is searched for NaN and infinities only.

    Returns:
        One line a tensor that something is wrong with.

    Raises:
        CheckpointError: the file's bytes are damaged.
    """
    slots = resolution.expansion.names(resolution.identity.layout) if resolution else {}
    problems = []
    for name, tensor in checkpoint.tensors.items():
        if tensor.dtype.is_floating:
            problem = _problem(slots.get(name), _floats(checkpoint, tensor))
            if problem:
                problems.append(f"{name} {problem}")
    return problems


def _floats(checkpoint: Checkpoint, tensor: TensorInfo) -> Array:
    import numpy as np

    array = checkpoint.array(tensor)
    if tensor.dtype is DType.BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _problem(slot: Slot | None, values: Array) -> str | None:
    import numpy as np

    finite = np.isfinite(values)
    if not finite.all():
        return f"has {int((~finite).sum()):,} values that are NaN or infinite"
    if slot is None:
        return None
    if slot.role == "bn.running_var" and (values < 0).any():
        return f"has {int((values < 0).sum()):,} negative variances"
    # A layer that nothing reads is filled with zeros by declaration.
    if slot.role == "conv.weight" and slot.canonical is not None and not values.any():
        return "is all zeros"
    return None
