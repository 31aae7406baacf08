"""The element types r2convert reads and writes."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np


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
    """An element type; its value is its plain name, the same as NumPy's and torch's."""

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

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _ITEMSIZES[self.value]

    @property
    def is_floating(self) -> bool:
        """Whether elements are floating-point numbers."""
        return "float" in self.value

    @property
    def numpy(self) -> np.dtype[Any]:
        """The little-endian NumPy type of the elements.

        NumPy has no bfloat16: its elements come as ``uint16`` bit patterns (the upper half of a float32).
        """
        import numpy as np

        name = "uint16" if self is DType.BFLOAT16 else self.value
        return np.dtype(name).newbyteorder("<")
