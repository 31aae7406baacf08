"""A tensor as a description: where its bytes lie and how they are arranged, never the bytes themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from r2convert.checkpoint.elements import DType


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a C-ordered tensor of this shape."""
    strides: list[int] = []
    step = 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A named tensor of a checkpoint.

    Attributes:
        name: its name in the state dict.
        dtype: the type of its elements.
        shape: its lengths.
        strides: the distance of neighbours along each dimension, in elements; never negative.
        offset: where element 0 lies, in bytes from the start of its storage.
        source: which of the checkpoint's storages holds its bytes.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    source: int

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
        return replace(self, name=name)

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
