"""Reads MindSpore's `.ckpt`: one protobuf message after `mindspore/ccsrc/utils/checkpoint.proto`.

Checkpoint: 1 Value, repeated. Value: 1 tag (the name), 2 TensorProto. TensorProto: 1 dims, repeated, 2 the element
type's name, 3 the elements, little-endian. A tensor of more than 512 MB stands in several Values of one name. What was
saved with `crc_check` ends in `crc_num` and the CRC-32 of all before it, in ten bytes, big end first.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from isal.isal_zlib import crc32

from r2convert.checkpoint import limits
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.formats.sniffing import COMPARE_DIGESTS
from r2convert.checkpoint.pickles.values import UnreadTensor
from r2convert.checkpoint.storage import Extent, OpenFile, Storage, Window
from r2convert.checkpoint.tensor import TensorInfo, contiguous_strides, require_shape
from r2convert.errors import CorruptCheckpointError, LimitExceededError

_TYPES: Final = {
    "Float64": DType.FLOAT64,
    "Float32": DType.FLOAT32,
    "Float16": DType.FLOAT16,
    "BFloat16": DType.BFLOAT16,
    "Int64": DType.INT64,
    "Int32": DType.INT32,
    "Int16": DType.INT16,
    "Int8": DType.INT8,
    "UInt8": DType.UINT8,
    "Bool": DType.BOOL,
}
#: Numbers without dimensions are what a training script saved beside the parameters: an epoch, a learning rate.
_NUMBERS: Final = {"Float64": "<d", "Float32": "<f", "Int64": "<q", "Int32": "<i", "Bool": "<?"}
_TEXT: Final = "str"
_CRC_MARK: Final = b"crc_num"
_CRC_BYTES: Final = 10
_VARINT, _BYTES = 0, 2
"""Wire types of protobuf."""


class _Value(NamedTuple):
    """One Value: its name, dimensions, element type, and where its elements stand."""

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int
    length: int


def read_mindspore(file: OpenFile) -> Contents:
    """Describe a MindSpore checkpoint; the elements are not read, unless a checksum covers them.

    Raises:
        CheckpointError: the file is damaged, or larger than the caps allow.
    """
    root: dict[str, object] = {}
    storages: list[Storage] = []
    message = _Message(file, _end_of_message(file))
    for value in message.values():
        if value.kind == _TEXT:
            root[value.name] = message.text(value)
        elif not value.shape and value.kind in _NUMBERS:
            root[value.name] = message.number(value)
        elif value.kind not in _TYPES:
            root[value.name] = UnreadTensor(f"MindSpore tensor of type {value.kind}", value.shape)
        else:
            _add(root, storages, value, message)
    for name, tensor in root.items():
        if isinstance(tensor, TensorInfo) and storages[tensor.storage].nbytes != tensor.nbytes:
            got = f"{storages[tensor.storage].nbytes} bytes for {tensor.nbytes}"
            raise message.damaged(storages[tensor.storage].extents[0].offset, f"all elements of {name!a}", got)
    return Contents("mindspore", root, tuple(storages), {})


def _add(root: dict[str, object], storages: list[Storage], value: _Value, message: _Message) -> None:
    """Add a tensor, or the next piece of one."""
    extent = Extent(0, value.start, value.length)
    dtype, known = _TYPES[value.kind], root.get(value.name)
    if value.name not in root:
        if len(storages) >= limits.MAX_TENSORS:
            raise LimitExceededError("too many tensors", expected=f"at most {limits.MAX_TENSORS}")
        root[value.name] = TensorInfo("", dtype, value.shape, contiguous_strides(value.shape), 0, len(storages))
        storages.append(Storage(f"the tensor {value.name!a}", (extent,), value.length))
    elif isinstance(known, TensorInfo) and (known.dtype, known.shape) == (dtype, value.shape):
        whole = storages[known.storage]
        pieces, nbytes = (*whole.extents, extent), whole.nbytes + value.length
        storages[known.storage] = Storage(whole.label, pieces, nbytes)
    else:
        raise message.damaged(value.start, "every name once", f"{value.name!a} again")


def _end_of_message(file: OpenFile) -> int:
    """Return where the message ends; a checksum after it is checked first, as it covers everything."""
    end = file.size - len(_CRC_MARK) - _CRC_BYTES
    if end < 0:
        return file.size
    tail = file.read(end, file.size - end, "the end of the file")
    if not tail.startswith(_CRC_MARK):
        return file.size
    stated, computed = int.from_bytes(tail[len(_CRC_MARK) :], "big"), 0
    for position in range(0, end, limits.CHUNK_BYTES):
        computed = crc32(file.read(position, min(limits.CHUNK_BYTES, end - position), "the message"), computed)
    if computed != stated:
        raise CorruptCheckpointError(
            "the file does not match the CRC-32 at its end",
            where=str(file.path),
            expected=f"{stated:08x}",
            got=f"{computed:08x}",
            next_step="the file is damaged: download it again",
        )
    return end


class _Message:
    """Reads the fields of protobuf messages in a file."""

    def __init__(self, file: OpenFile, end: int) -> None:
        self._file = file
        self._window = Window(file)
        self._end = end

    def values(self) -> Iterator[_Value]:
        """Yield every Value of the Checkpoint."""
        for field, start, end in self._fields(0, self._end):
            if field == 1:
                yield self._value(start, end)

    def text(self, value: _Value) -> str:
        """A value's elements as text, the first 4 KiB of it: NumPy's, with four bytes a letter."""
        kept = self._window.read(value.start, min(value.length, limits.MAX_TEXT_BYTES), "a text")
        return kept.decode("utf-32-le", "replace")

    def number(self, value: _Value) -> object:
        """A single number."""
        layout = _NUMBERS[value.kind]
        if value.length != struct.calcsize(layout):
            raise self.damaged(value.start, f"one {value.kind} of {value.name!a}", f"{value.length} bytes")
        (number,) = struct.unpack(layout, self._window.read(value.start, value.length, "a number"))
        return number

    def damaged(self, position: int, expected: str, got: str) -> CorruptCheckpointError:
        """Return the error for a message that contradicts itself."""
        return CorruptCheckpointError(
            "the MindSpore checkpoint is damaged",
            where=f"{self._file.path}, byte {position}",
            expected=expected,
            got=got,
            next_step=COMPARE_DIGESTS,
        )

    def _value(self, start: int, end: int) -> _Value:
        name, kind, dims, content = "", "", [], (start, start)
        for field, first, last in self._fields(start, end):
            if field == 1:
                name = self._string(first, last)
            for inner, value, stop in self._fields(first, last) if field == 2 else ():
                if inner == 1:
                    dims.append(value)
                elif inner == 2:
                    kind = self._string(value, stop)
                elif inner == 3:
                    content = (value, stop)
        if not name or not kind:
            raise self.damaged(start, "a name and an element type", f"{name!a}, {kind!a}")
        length = content[1] - content[0]
        shape = require_shape(dims, f"the tensor {name!a}") if kind != _TEXT else ()
        if kind in _TYPES and length > math.prod(shape) * _TYPES[kind].itemsize:
            raise self.damaged(content[0], f"the elements of {name!a}", f"{length} bytes")
        return _Value(name, shape, kind, content[0], length)

    def _string(self, start: int, end: int) -> str:
        if end - start > limits.MAX_TEXT_BYTES:
            raise self.damaged(start, "a name", f"{end - start} bytes")
        try:
            return self._window.read(start, end - start, "a name").decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged(start, "UTF-8", "other bytes") from None

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield each field's number, and where its bytes begin and end; of a number, the number and 0."""
        position = start
        while position < end:
            self._file.budget.charge(1)
            key, position = self._varint(position, end)
            value, position = self._varint(position, end)
            if key & 7 == _VARINT:
                yield key >> 3, value, 0
            elif key & 7 == _BYTES and value <= end - position:
                yield key >> 3, position, position + value
                position += value
            elif key & 7 == _BYTES and end == self._file.size:
                raise self._file.truncated(end, f"{value} bytes from byte {position}", "the end of the file")
            else:
                raise self.damaged(position, "a field of the message", f"type {key & 7}, {value} bytes")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        number = 0
        for shift in range(0, 70, 7):
            if position >= end:
                break
            (byte,) = self._window.read(position, 1, "a field")
            number |= (byte & 0x7F) << shift
            position += 1
            if byte < 0x80:
                return number, position
        if position >= end == self._file.size:
            raise self._file.truncated(end, "a number", "the end of the file")
        raise self.damaged(position, "a number", "more than 64 bits" if position < end else "the end of the message")
