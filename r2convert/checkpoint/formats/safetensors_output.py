"""Lays out safetensors files (https://huggingface.co/docs/safetensors: u64 header length, JSON, one buffer)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.formats.output_layout import Segments
from r2convert.checkpoint.formats.safetensors_types import SAFETENSORS_TYPES

_TYPE_NAMES: Final = {dtype: name for name, dtype in SAFETENSORS_TYPES.items()}


def safetensors_segments(
    tensors: Sequence[OutputTensor], metadata: Callable[[], Mapping[str, str]], checksums: Mapping[int, int]
) -> Segments:
    """Lay out a safetensors file with the tensors in the given order and sorted metadata.

    Tensors are placed by falling element size first, as the format's own library does, so that every
    tensor is aligned to its element size.
    """
    del checksums
    order = sorted(range(len(tensors)), key=lambda index: -tensors[index].dtype.itemsize)
    texts = metadata()
    header: dict[str, object] = {"__metadata__": dict(sorted(texts.items()))} if texts else {}
    position = 0
    for index in order:
        tensor = tensors[index]
        end = position + tensor.nbytes
        header[tensor.name] = {
            "dtype": _TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    yield struct.pack("<Q", len(encoded)) + encoded
    yield from order
