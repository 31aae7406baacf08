"""Reads Paddle 1.x checkpoints: a folder, or a tar archive of one, with one LoDTensor file a variable.

A variable's layout (`paddle/fluid/framework/lod_tensor.cc`, `tensor_util.cc`): u32 version 0; u64 number of
level-of-detail tables, for each u64 bytes and the table; u32 version 0; i32 length of a protobuf TensorDesc
(1: data type, 2: repeated int64 dimensions); the elements, little-endian.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn

from r2convert.checkpoint import limits
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.formats.sniffing import COMPARE_DIGESTS, PADDLE_PROGRAM, other_folder, other_tar, unsupported
from r2convert.checkpoint.formats.tar_directory import TarMember
from r2convert.checkpoint.storage import Extent, OpenFile, ReopenedFile, Storage
from r2convert.checkpoint.tensor import TensorInfo, contiguous_strides, require_shape
from r2convert.errors import AccessError, CorruptCheckpointError, LimitExceededError, UnsupportedCheckpointError
from r2convert.files import counted

#: The program that an inference model's folder holds beside its variables.
_PROGRAM: Final = "__model__"
#: What a variable's file begins with: two versions and no level-of-detail tables.
_BEGINNING: Final = bytes(16)

#: `VarType.Type` of Paddle's framework.proto.
_TYPES: Final = {
    0: DType.BOOL,
    1: DType.INT16,
    2: DType.INT32,
    3: DType.INT64,
    4: DType.FLOAT16,
    5: DType.FLOAT32,
    6: DType.FLOAT64,
    20: DType.UINT8,
    21: DType.INT8,
    22: DType.BFLOAT16,
}


def read_paddle_tar(file: OpenFile, members: dict[str, TarMember]) -> Contents:
    """Describe a tar archive of LoDTensor files; the elements are not read.

    Raises:
        CheckpointError: it is an archive of other files, a variable is damaged, or two have the same name.
    """
    root: dict[str, TensorInfo] = {}
    storages: list[Storage] = []
    for member in members.values():
        name = PurePosixPath(member.name).name
        if name.startswith(".") or name == _PROGRAM:
            continue
        if name in root:
            raise CorruptCheckpointError(
                f"the archive has two variables named {name!a}", where=f"{file.path}, byte {member.offset}"
            )
        if not _may_be_variable(file, member.offset, member.size):
            raise unsupported(file, *other_tar([PurePosixPath(other).name for other in members]))
        reader = _VariableReader(file, member.offset, member.size, f"variable {name!a}")
        root[name], storage = reader.read(0, len(storages))
        storages.append(storage)
    return Contents("paddle-static", root, tuple(storages), {}, _hidden(len(members) - len(storages)))


def read_lod_tensor_file(file: OpenFile) -> Contents:
    """Describe a single LoDTensor file: a checkpoint of one variable."""
    name = file.path.name
    reference, storage = _VariableReader(file, 0, file.size, f"variable {name!a}").read(0, 0)
    return Contents("paddle-static", {name: reference}, (storage,), {})


def open_folder(folder: Path) -> list[OpenFile]:
    """Return the files of a folder of variables, sorted by name; names that start with a dot are passed over.

    Raises:
        UnsupportedCheckpointError: the folder is empty, or has folders in it.
        LimitExceededError: it has too many files.
        AccessError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))[: limits.MAX_MEMBERS + 1]
    except OSError as error:
        raise AccessError(f"the folder cannot be read: {error.strerror}", where=str(folder)) from error
    if len(names) > limits.MAX_MEMBERS:
        raise LimitExceededError(
            "the folder has too many files", where=str(folder), expected=f"at most {limits.MAX_MEMBERS}"
        )
    variables = [name for name in names if name != _PROGRAM]
    if not variables or any((folder / name).is_dir() for name in variables):
        what, next_step = other_folder(names)
        raise _not_variables(folder, what, next_step)
    budget = limits.WorkBudget()
    return [ReopenedFile(folder / name, budget) for name in variables]


def _not_variables(where: Path, what: str, next_step: str) -> UnsupportedCheckpointError:
    return UnsupportedCheckpointError(
        "this folder is not a checkpoint that r2convert reads",
        where=str(where),
        expected="Paddle 1.x variables, one file each, or a sharded checkpoint with its index",
        got=what,
        next_step=next_step,
    )


def read_paddle_folder(files: Sequence[OpenFile]) -> Contents:
    """Describe the LoDTensor files of a folder; the elements are not read.

    Raises:
        CheckpointError: a file is no LoDTensor.
    """
    root: dict[str, TensorInfo] = {}
    storages: list[Storage] = []
    for index, file in enumerate(files):
        name = file.path.name
        if not _may_be_variable(file, 0, file.size):
            what, next_step = other_folder([other.path.name for other in files])
            raise _not_variables(file.path, f"{what}; {name!a} is not such a variable", next_step)
        root[name], storage = _VariableReader(file, 0, file.size, f"variable {name!a}").read(index, index)
        storages.append(storage)
    return Contents("paddle-static", root, tuple(storages), {})


def _may_be_variable(file: OpenFile, start: int, size: int) -> bool:
    """Whether a stretch of a file begins with a variable's version, 0."""
    return size >= len(_BEGINNING) and not any(file.read(start, 4, "a LoDTensor"))


def _hidden(count: int) -> tuple[str, ...]:
    return (f"left out {counted(count, 'member')} that are hidden or a program",) if count else ()


class _VariableReader:
    """Reads the header of one LoDTensor in a stretch of a file."""

    def __init__(self, file: OpenFile, start: int, size: int, label: str) -> None:
        self._file = file
        self._end = start + size
        self._position = start
        self._label = label

    def read(self, number: int, storage: int) -> tuple[TensorInfo, Storage]:
        """Describe the variable, which lies in the checkpoint's file of this number and fills the rest exactly."""
        self._version()
        levels = self._unsigned(8)
        if levels > limits.MAX_LOD_LEVELS:
            self._reject_size("level-of-detail tables", levels, limits.MAX_LOD_LEVELS)
        for _ in range(levels):
            length = self._unsigned(8)
            if length > limits.MAX_LOD_BYTES:
                self._reject_size("bytes in a level-of-detail table", length, limits.MAX_LOD_BYTES)
            self._take(length)
        self._version()
        length = struct.unpack("<i", self._take(4))[0]
        if not 0 <= length <= limits.MAX_DESCRIPTION_BYTES:
            self._reject_size("bytes of description", length, limits.MAX_DESCRIPTION_BYTES)
        dtype, dimensions = self._description(length)
        return self._contents(number, storage, dtype, require_shape(dimensions, self._label))

    def _contents(self, number: int, storage: int, dtype: DType, shape: tuple[int, ...]) -> tuple[TensorInfo, Storage]:
        nbytes, available = math.prod(shape) * dtype.itemsize, self._end - self._position
        if nbytes > available:
            raise self._file.truncated(self._end, f"{nbytes} bytes of elements of {self._label}", f"{available} bytes")
        if nbytes < available:
            position = self._position + nbytes
            if self._file.read(position, min(len(_BEGINNING), available - nbytes), self._label) == _BEGINNING:
                raise unsupported(self._file, "the combined parameters of a Paddle inference model", PADDLE_PROGRAM)
            self._reject(f"has {available - nbytes} bytes after its elements")
        reference = TensorInfo("", dtype, shape, contiguous_strides(shape), 0, storage)
        return reference, Storage(self._label, (Extent(number, self._position, nbytes),), nbytes)

    def _take(self, count: int) -> bytes:
        if count > self._end - self._position:
            raise self._file.truncated(
                self._position, f"{count} more bytes of {self._label}", f"{self._end - self._position} bytes"
            )
        data = self._file.read(self._position, count, self._label)
        self._position += count
        return data

    def _unsigned(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _version(self) -> None:
        version = self._unsigned(4)
        if version:
            self._reject(f"has the unknown version {version}")

    def _description(self, length: int) -> tuple[DType, list[int]]:
        end = self._position + length
        code: int | None = None
        dimensions: list[int] = []
        while self._position < end:
            tag = self._variable_length()
            if tag == (1 << 3):
                code = self._variable_length()
            elif tag == (2 << 3):
                dimensions.append(self._variable_length())
            elif tag == (2 << 3 | 2):
                packed_end = self._variable_length() + self._position
                while self._position < min(packed_end, end):
                    dimensions.append(self._variable_length())
                if self._position != packed_end:
                    self._reject("has a damaged description")
            else:
                self._reject(f"has an unknown field {tag >> 3} in its description")
        if self._position != end or code is None:
            self._reject("has a damaged description")
        dtype = _TYPES.get(code)
        if dtype is None:
            raise UnsupportedCheckpointError(
                f"{self._label} has an element type that is not read", where=str(self._file.path), got=str(code)
            )
        return dtype, dimensions

    def _variable_length(self) -> int:
        """Read a protobuf number: seven bits a byte, the last byte below 128, at most ten bytes."""
        number = shift = 0
        while shift < 70:
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
        return self._reject("has a number without an end in its description")

    def _reject(self, what: str) -> NoReturn:
        raise CorruptCheckpointError(
            f"{self._label} {what}", where=f"{self._file.path}, byte {self._position}", next_step=COMPARE_DIGESTS
        )

    def _reject_size(self, what: str, got: int, cap: int) -> NoReturn:
        kind = CorruptCheckpointError if got < 0 else LimitExceededError
        raise kind(
            f"{self._label} has an impossible number of {what}",
            where=f"{self._file.path}, byte {self._position}",
            expected=f"0 to {cap}",
            got=str(got),
        )
