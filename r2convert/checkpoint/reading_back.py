"""Reads a file that was just written and compares every tensor with what was meant to be in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isal.isal_zlib import crc32

from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.open import Checkpoint, open_checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import CorruptCheckpointError


@dataclass(frozen=True, slots=True)
class WrittenTensor:
    """What was meant to be written of one tensor, as far as reading back can compare it.

    Attributes:
        name: its name.
        dtype: the type of its elements.
        shape: its lengths.
        crc32: the CRC-32 of its elements in C order, little-endian, taken before they were written.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    crc32: int


def require_as_written(path: Path, written: Sequence[WrittenTensor]) -> None:
    """Read a file with the project's own reader and compare names, types, shapes and every tensor's bytes.

    The bytes are compared by CRC-32, taken of them before they were written: what can go wrong in between is a
    bad disk or bad memory, not malice, and a digest would take ten times as long.

    Args:
        path: the file.
        written: what was written.

    Raises:
        CheckpointError: the file cannot be read, or a tensor differs.
    """
    wanted = {tensor.name: tensor for tensor in written}
    with open_checkpoint(path) as checkpoint:
        found = {
            name: WrittenTensor(name, tensor.dtype, tensor.shape, _crc32(checkpoint, tensor, wanted.get(name)))
            for name, tensor in checkpoint.tensors.items()
        }
    if found != wanted:
        names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise CorruptCheckpointError(
            "The file read back is not what was written",
            where=str(path),
            got=f"{len(names)} tensors differ: {', '.join(names[:3])}",
            next_step="The disk or the memory may be failing; try another disk.",
        )


def _crc32(checkpoint: Checkpoint, tensor: TensorInfo, wanted: WrittenTensor | None) -> int:
    if wanted is not None:
        # If the file states the right checksum, its reader need not compute it too.
        checkpoint.accept_checksum(tensor, wanted.crc32)
    checksum = 0
    for chunk in checkpoint.chunks(tensor):
        checksum = crc32(chunk, checksum)
    return checksum
