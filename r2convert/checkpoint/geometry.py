"""Does a tensor's description fit the bytes it claims? Checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

from r2convert.checkpoint import limits
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import CorruptCheckpointError, LimitExceededError


def require_shape(shape: object, what: str) -> tuple[int, ...]:
    """Return ``shape`` if it is a tuple or list of lengths.

    Raises:
        CorruptCheckpointError: it is something else, or a length is negative.
        LimitExceededError: more dimensions or elements than the caps allow.
    """
    lengths = tuple(shape) if isinstance(shape, (tuple, list)) else None
    if lengths is None or not all(is_count(length) for length in lengths):
        raise CorruptCheckpointError(f"{what} has an impossible shape", expected="lengths of 0 or more")
    if len(lengths) > limits.MAX_DIMENSIONS:
        raise LimitExceededError(
            f"{what} has too many dimensions", expected=f"at most {limits.MAX_DIMENSIONS}", got=str(len(lengths))
        )
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
    steps = tuple(strides) if isinstance(strides, (tuple, list)) else None
    if steps is None or len(steps) != len(shape) or not all(is_count(step) for step in steps) or not is_count(first):
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
            "The tensors describe far more bytes than the file has",
            where=where,
            expected=f"at most {allowed} bytes for a file of {file_size}",
            got=f"{described} bytes",
        )
