"""Reads a file that was just written and compares every tensor with what was meant to be in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from r2convert.checkpoint.background import Background
from r2convert.checkpoint.digests import DigestedTensor, tensor_digest
from r2convert.checkpoint.reading import Checkpoint, open_checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import CorruptCheckpointError


def require_as_written(path: Path, written: Sequence[DigestedTensor], checksums: Mapping[str, int]) -> None:
    """Read a file with the project's own reader and compare names, types, shapes and digests.

    Args:
        path: the file.
        written: what was written.
        checksums: the CRC-32 of each tensor's bytes when they were written, by name. A file that states the
            same one need not have it computed again: the digests tell whether the bytes are the same.

    Raises:
        CheckpointError: the file cannot be read, or a tensor differs.
    """
    with open_checkpoint(path) as checkpoint:
        tensors = list(checkpoint.tensors.values())
        for tensor in tensors:
            checkpoint.accept_checksum(tensor, checksums.get(tensor.name, 0))
        # Two halves at the same time: hashing is most of the work.
        middle = _middle(tensors)
        second = Background(lambda: _digested(checkpoint, tensors[middle:]))
        try:
            found = _digested(checkpoint, tensors[:middle])
        finally:
            second.wait()
        found |= second.result()
    wanted = {tensor.name: tensor for tensor in written}
    if found != wanted:
        names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise CorruptCheckpointError(
            "The file read back is not what was written",
            where=str(path),
            got=f"{len(names)} tensors differ: {', '.join(names[:3])}",
            next_step="The disk or the memory may be failing; try another disk.",
        )


def _digested(checkpoint: Checkpoint, tensors: Sequence[TensorInfo]) -> dict[str, DigestedTensor]:
    return {
        tensor.name: DigestedTensor(tensor.name, tensor.dtype, tensor.shape, tensor_digest(checkpoint.chunks(tensor)))
        for tensor in tensors
    }


def _middle(tensors: Sequence[TensorInfo]) -> int:
    """Return how many of the first tensors hold half of the bytes."""
    remaining = sum(tensor.nbytes for tensor in tensors) // 2
    for index, tensor in enumerate(tensors):
        remaining -= tensor.nbytes
        if remaining < 0:
            return index + 1
    return len(tensors)
