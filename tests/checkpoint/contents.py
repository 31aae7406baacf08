"""What a checkpoint holds, read through the public API, for comparing with what another library says."""

from __future__ import annotations

from pathlib import Path

import torch

from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.open import Checkpoint, open_checkpoint

#: A tensor as plain values: element type, shape, bytes in C order.
Plain = tuple[str, tuple[int, ...], bytes]


def read_plain(path: Path, key: str | None = None) -> dict[str, Plain]:
    """Read every tensor of a checkpoint, checking every checksum."""
    with open_checkpoint(path, key=key) as checkpoint:
        checkpoint.verify_records()
        return {
            name: (tensor.dtype.value, tensor.shape, b"".join(map(bytes, checkpoint.chunks(tensor))))
            for name, tensor in checkpoint.tensors.items()
        }


def torch_plain(state_dict: dict[str, torch.Tensor]) -> dict[str, Plain]:
    """Give a torch state dict in the same form."""
    return {
        name: (
            str(tensor.dtype).removeprefix("torch."),
            tuple(tensor.shape),
            tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, tensor in state_dict.items()
    }


def outputs(checkpoint: Checkpoint) -> list[OutputTensor]:
    """Give an open checkpoint's tensors as a writer takes them."""
    return [
        OutputTensor(tensor.name, tensor.dtype, tensor.shape, lambda tensor=tensor: checkpoint.chunks(tensor))  # type: ignore[misc]
        for tensor in checkpoint.tensors.values()
    ]


def in_memory(values: dict[str, Plain]) -> list[OutputTensor]:
    """Give plain values as a writer takes them."""
    return [
        OutputTensor(name, DType(dtype), shape, lambda data=data: iter([data]))  # type: ignore[misc]
        for name, (dtype, shape, data) in values.items()
    ]
