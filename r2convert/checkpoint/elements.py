"""Element types, casting between them, and the search for values that are not finite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_ITEMSIZES: Final = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}


class DType(Enum):
    """An element type; its value is its plain name, the same as NumPy's and torch's.

    Attributes:
        itemsize: bytes of one element.
        is_floating: whether elements are floating-point numbers.
    """

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    UINT8 = "uint8"
    BOOL = "bool"

    def __init__(self, name: str) -> None:
        self.itemsize = _ITEMSIZES[name]
        self.is_floating = "float" in name

    @property
    def numpy(self) -> np.dtype[Any]:
        """The little-endian NumPy type of the elements.

        NumPy has no bfloat16: its elements come as ``uint16`` bit patterns (the upper half of a float32).
        """
        import numpy as np

        name = "uint16" if self is DType.BFLOAT16 else self.value
        return np.dtype(name).newbyteorder("<")


CASTS = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)
"""What floating-point tensors can be cast to."""


def counted(count: int, noun: str = "value") -> str:
    """A count with its verb: ``1 value is``, ``3 values are``."""
    return f"1 {noun} is" if count == 1 else f"{count:,} {noun}s are"


class Stream:
    """One tensor's elements on their way from one file into another.

    Args:
        chunks: the elements as they are stored, little-endian, in pieces of whole elements.
        stored: the type they are stored in.
        target: the type to convert to; values are rounded to nearest, ties to even (IEEE 754).
    """

    def __init__(self, chunks: Iterable[memoryview | bytes], stored: DType, target: DType) -> None:
        self._chunks = chunks
        self._stored = stored
        self._target = target
        self.not_finite = 0
        self.overflowed = 0

    @property
    def problem(self) -> str | None:
        """What is wrong with the values seen so far, in words."""
        if self.not_finite:
            return f"{counted(self.not_finite)} NaN or infinite"
        if self.overflowed:
            return f"{counted(self.overflowed)} too large for {self._target.value}"
        return None

    def __iter__(self) -> Iterator[memoryview | bytes]:
        """Yield the elements, counting those that are not finite before and those that are not after the cast."""
        for chunk in self._chunks:
            if not self._stored.is_floating:
                yield chunk
                continue
            if self._target is self._stored:
                if may_be_not_finite(chunk, self._stored):
                    self.not_finite += _count_not_finite(decode(chunk, self._stored))
                yield chunk
                continue
            values = decode(chunk, self._stored)
            bad = _count_not_finite(values)
            self.not_finite += bad
            encoded = _encode(values, self._target)
            self.overflowed += _count_not_finite(decode(encoded, self._target)) - bad
            yield encoded


def may_be_not_finite(chunk: memoryview | bytes, dtype: DType) -> bool:
    """Whether any element's top byte is that of an infinity or a NaN, which hardly any trained weight's is.

    Importing NumPy takes longer than scanning a whole file this way, so it is left to the rare chunk that must be
    counted, and to float16, whose exponent does not fill the top byte.
    """
    if dtype is DType.FLOAT16:
        return True
    top_bytes = bytearray(chunk)[dtype.itemsize - 1 :: dtype.itemsize]
    return 0x7F in top_bytes or 0xFF in top_bytes


def decode(data: memoryview | bytes | Array, dtype: DType) -> Array:
    """Give little-endian elements as numbers NumPy can compute with: bfloat16 as float32.

    An array, as ``Checkpoint.array`` gives it, keeps its shape.
    """
    import numpy as np

    array = data if isinstance(data, np.ndarray) else np.frombuffer(data, dtype.numpy)
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
