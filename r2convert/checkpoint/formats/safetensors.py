"""Reads and writes safetensors files: u64 header length, JSON header, one buffer without holes or overlaps.

Source: https://huggingface.co/docs/safetensors/index, section Format.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

from msgspec.structs import replace

from r2convert.checkpoint import limits
from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.formats.contents import Contents, Segments
from r2convert.checkpoint.formats.sniffing import COMPARE_DIGESTS
from r2convert.checkpoint.metadata import summarise
from r2convert.checkpoint.pickles.values import UnreadTensor
from r2convert.checkpoint.storage import Extent, OpenFile, Storage
from r2convert.checkpoint.tensor import TensorInfo, contiguous_strides, is_count, require_shape
from r2convert.errors import CorruptCheckpointError, LimitExceededError, UnsupportedCheckpointError

_TYPES: Final = {
    "F64": DType.FLOAT64,
    "F32": DType.FLOAT32,
    "F16": DType.FLOAT16,
    "BF16": DType.BFLOAT16,
    "I64": DType.INT64,
    "I32": DType.INT32,
    "I16": DType.INT16,
    "I8": DType.INT8,
    "U8": DType.UINT8,
    "BOOL": DType.BOOL,
}
#: Types that are described and not read: torch's names of them, and the bits of an element.
_OTHER_TYPES: Final = {
    "U16": ("uint16", 16),
    "U32": ("uint32", 32),
    "U64": ("uint64", 64),
    "C64": ("complex64", 64),
    "C128": ("complex128", 128),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "F4": ("float4_e2m1fn", 4),
}
_TYPE_NAMES: Final = {dtype: name for name, dtype in _TYPES.items()}
_LENGTH: Final = struct.Struct("<Q")
_METADATA: Final = "__metadata__"
_FIELDS: Final = frozenset({"dtype", "shape", "data_offsets"})


def read_safetensors(file: OpenFile) -> Contents:
    """Describe a safetensors file; the buffer is not read.

    Raises:
        CheckpointError: header and buffer contradict each other, or the header is not what it should be.
    """
    length = _LENGTH.unpack(file.read(0, _LENGTH.size, "a safetensors header's length"))[0]
    if length > limits.MAX_HEADER_BYTES:
        raise LimitExceededError(
            "the safetensors header is too large",
            where=f"{file.path}, byte 0",
            expected=f"at most {limits.MAX_HEADER_BYTES} bytes",
            got=f"{length} bytes",
        )
    file.budget.charge(length // limits.JSON_BYTES_PER_UNIT)
    buffer_start = _LENGTH.size + length
    header = _parse_header(file, file.read(_LENGTH.size, length, "the safetensors header"))
    metadata = _metadata(file, header.pop(_METADATA, None))
    if len(header) > limits.MAX_TENSORS:
        raise LimitExceededError("too many tensors", where=str(file.path), expected=f"at most {limits.MAX_TENSORS}")
    entries = {name: _entry(file, name, entry) for name, entry in header.items()}
    _require_tiled(file, buffer_start, entries)
    root: dict[str, TensorInfo | UnreadTensor] = {}
    storages: list[Storage] = []
    for name, (tensor, start, end) in entries.items():
        root[name] = tensor
        if isinstance(tensor, TensorInfo):
            root[name] = replace(tensor, storage=len(storages))
            extent = Extent(0, buffer_start + start, end - start)
            storages.append(Storage(f"tensor {name[:80]!a}", (extent,), end - start))
    return Contents("safetensors", root, tuple(storages), summarise(metadata))


def _parse_header(file: OpenFile, encoded: bytes) -> dict[str, object]:
    try:
        header = json.loads(encoded.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_reject_constant)
    except RecursionError as error:
        raise LimitExceededError("the safetensors header nests too deeply", where=str(file.path)) from error
    except ValueError as error:
        raise _corrupt(file, "the safetensors header is not valid JSON", str(error)[:200]) from error
    if not encoded.startswith(b"{") or not isinstance(header, dict):
        raise _corrupt(file, "the safetensors header is not a JSON object")
    return header


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("the same key twice in one object")
    return entries


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _corrupt(file: OpenFile, what: str, got: str | None = None, expected: str | None = None) -> Exception:
    return CorruptCheckpointError(
        what,
        where=f"{file.path}, header at byte {_LENGTH.size}",
        expected=expected,
        got=got,
        next_step=COMPARE_DIGESTS,
    )


def _metadata(file: OpenFile, value: object) -> Mapping[object, object]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _corrupt(file, "the safetensors metadata is not a table of texts")
    return value


def _entry(file: OpenFile, name: str, entry: object) -> tuple[TensorInfo | UnreadTensor, int, int]:
    """Check one tensor's entry; return its description and its range in the buffer."""
    shown = f"tensor {name[:80]!a}"
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise _corrupt(file, f"{shown} is described in an unknown way", expected=", ".join(sorted(_FIELDS)))
    code = entry["dtype"] if isinstance(entry["dtype"], str) else ""
    dtype = _TYPES.get(code)
    kind, bits = (dtype.value, 8 * dtype.itemsize) if dtype else _OTHER_TYPES.get(code, ("", 0))
    if not kind:
        raise UnsupportedCheckpointError(
            f"{shown} has an element type that is not known",
            where=str(file.path),
            expected=", ".join((*_TYPES, *_OTHER_TYPES)),
            got=ascii(entry["dtype"])[:40],
        )
    shape = require_shape(entry["shape"], shown)
    offsets = entry["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_count, offsets)):
        raise _corrupt(file, f"{shown} has impossible offsets")
    start, end = offsets
    if 8 * (end - start) != math.prod(shape) * bits:
        raise _corrupt(
            file, f"{shown} has the wrong size", f"{end - start} bytes", f"{math.prod(shape)} elements of {bits} bits"
        )
    if dtype is None:
        return UnreadTensor(kind, shape), start, end
    return TensorInfo("", dtype, shape, contiguous_strides(shape), 0, 0), start, end


def _require_tiled(file: OpenFile, buffer_start: int, entries: Mapping[str, tuple[object, int, int]]) -> None:
    """The tensors must cover the buffer, and the buffer the rest of the file, without holes or overlaps."""
    position = 0
    for name, (_, start, end) in sorted(entries.items(), key=lambda item: item[1][1:]):
        if start != position:
            what = "overlaps the one before" if start < position else "leaves a hole before it"
            raise _corrupt(file, f"tensor {name[:80]!a} {what}", f"byte {start}", f"byte {position}")
        position = end
    available = file.size - buffer_start
    if position > available:
        raise file.truncated(file.size, f"{position} bytes of tensors", f"{available} bytes")
    if position < available:
        raise _corrupt(file, "the file has bytes after its last tensor", f"{available - position} bytes")


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
