"""Reads and writes torch's zip checkpoints (torch 1.6 and later).

Written files are laid out as `torch.save` of torch 2.10 and later does it: every tensor is a contiguous storage of
its own, aligned to 64 bytes so that `torch.load(mmap=True)` can use it in place. The bytes depend on names, types,
shapes and values alone: the folder in the archive is always called `archive`, and times are zip's zero.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from r2convert.checkpoint import limits
from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.formats.contents import Contents, Segments
from r2convert.checkpoint.formats.zip_directory import ZipRecord
from r2convert.checkpoint.pickles.machine import PickleBytes, PickleMachine
from r2convert.checkpoint.pickles.pickle_output import global_name, integer, integers, text
from r2convert.checkpoint.pickles.torch_names import STORAGE_TYPES, TORCH_NAMES, DeclaredStorage, DeclaredStorages
from r2convert.checkpoint.storage import Extent, OpenFile, Storage, require_crc
from r2convert.checkpoint.tensor import contiguous_strides
from r2convert.errors import (
    CorruptCheckpointError,
    LimitExceededError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from r2convert.files import counted

_PICKLE: Final = "data.pkl"
#: Small records torch writes beside the data; none of them changes what the tensors are, except `byteorder`.
_KNOWN_RECORDS: Final = frozenset(
    {"version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"}
)
_SMALL_RECORD_BYTES: Final = 4 * limits.KIBIBYTE


def is_torch_zip(records: dict[str, ZipRecord]) -> bool:
    """Whether an archive is a torch checkpoint: it has a `data.pkl` in its one folder."""
    return any(name.split("/", 1)[-1] == _PICKLE for name in records)


def read_torch_zip(file: OpenFile, records: dict[str, ZipRecord]) -> Contents:
    """Describe a torch zip checkpoint; payloads of tensors are not read.

    Raises:
        CheckpointError: the archive or its pickle is damaged, unsafe or of a kind that is not read.
    """
    members = _without_stem(file, records)
    unknown = _unknown(file, members)
    for name in sorted(_KNOWN_RECORDS & members.keys()):
        _read_checked(file, members[name], _SMALL_RECORD_BYTES)
    _require_little_endian(file, members)
    storages = DeclaredStorages()
    root, opaque = _read_pickle(file, members[_PICKLE], storages)
    found = tuple(_storage(file, members, declared) for declared in storages.declared)
    return Contents("torch-zip", root, found, {}, (*_warnings(members, found), *_left_out(unknown)), opaque)


def _without_stem(file: OpenFile, records: dict[str, ZipRecord]) -> dict[str, ZipRecord]:
    """Remove the archive's folder name from its records; torch makes it from the file's name."""
    stems = {name.partition("/")[0] for name in records}
    if len(stems) != 1 or not all("/" in name for name in records):
        raise CorruptCheckpointError(
            "the archive is not one folder, as torch writes it",
            where=str(file.path),
            got=", ".join(sorted(map(ascii, stems))[:5]),
        )
    return {name.partition("/")[2]: record for name, record in records.items()}


def _unknown(file: OpenFile, members: dict[str, ZipRecord]) -> list[str]:
    """Return the records that torch does not write, which nothing looks into."""
    names = [name for name in members if name != _PICKLE and name not in _KNOWN_RECORDS and not _is_data(name)]
    for name in names:
        if ".." in name.split("/") or name.startswith("/") or "\\" in name:
            raise UnsafeCheckpointError(
                "a record's name points outside the archive", where=str(file.path), got=ascii(name)[:200]
            )
    return names


def _is_data(name: str) -> bool:
    return name.startswith("data/") and name[5:].isdecimal() and name.isascii()


def _require_little_endian(file: OpenFile, members: dict[str, ZipRecord]) -> None:
    if "byteorder" not in members:
        return
    order = _read_checked(file, members["byteorder"], _SMALL_RECORD_BYTES)
    if order != b"little":
        raise UnsupportedCheckpointError(
            "the file says that its numbers are not little-endian",
            where=f"{file.path}, record 'byteorder'",
            expected="little",
            got=ascii(order[:20].decode("latin-1")),
        )


def _read_checked(file: OpenFile, record: ZipRecord, cap: int) -> bytes:
    """Return a small record's payload after checking its checksum."""
    if record.size > cap:
        raise LimitExceededError(
            f"the record {record.name!r} is too large",
            where=f"{file.path}, byte {record.offset}",
            expected=f"at most {cap} bytes",
            got=f"{record.size} bytes",
        )
    payload = file.read(record.offset, record.size, f"record {record.name!r}")
    require_crc(file, record.name, record.offset, record.crc32 or None, zlib.crc32(payload))
    return payload


def _read_pickle(file: OpenFile, record: ZipRecord, storages: DeclaredStorages) -> tuple[object, tuple[str, ...]]:
    # The checksum first: a damaged pickle should be called damaged, not unsafe.
    _read_checked(file, record, limits.MAX_PICKLE_RECORD_BYTES)
    end = record.offset + record.size
    data = PickleBytes(file, record.offset, end, record.name)
    machine = PickleMachine(data, TORCH_NAMES, storages.persistent)
    root = machine.load()
    if data.position != end:
        raise CorruptCheckpointError("the pickle is followed by other bytes", where=data.where())
    return root, machine.opaque


def _storage(file: OpenFile, members: dict[str, ZipRecord], declared: DeclaredStorage) -> Storage:
    record = members.get(f"data/{declared.key}")
    if record is None:
        raise CorruptCheckpointError(
            "a storage is missing", where=str(file.path), expected=f"a record 'data/{declared.key}'"
        )
    if record.size != declared.nbytes:
        raise CorruptCheckpointError(
            f"the storage {record.name!r} has the wrong size",
            where=f"{file.path}, byte {record.offset}",
            expected=f"{declared.nbytes} bytes ({declared.elements} x {declared.kind.name})",
            got=f"{record.size} bytes",
        )
    return Storage(record.name, (Extent(0, record.offset, record.size),), record.size, record.crc32 or None)


def _warnings(members: dict[str, ZipRecord], storages: tuple[Storage, ...]) -> tuple[str, ...]:
    warnings = []
    without = sum(1 for record in members.values() if record.crc32 == 0 and record.size)
    if without:
        warnings.append(f"{without} of {len(members)} records carry no checksum: damage to them cannot be noticed")
    unused = sum(map(_is_data, members)) - len(storages)
    if unused:
        warnings.append(f"{unused} data records belong to no tensor")
    return tuple(warnings)


_FOLDER: Final = "archive/"
_ALIGNMENT: Final = 64
_FLAGS: Final = 0x0808  # names are UTF-8; checksum and sizes follow the payload
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_FULL32: Final = 0xFFFFFFFF


class _Written(Struct, frozen=True):
    """A record that has been laid out."""

    name: bytes
    crc32: int
    size: int
    header_offset: int


def _left_out(unknown: list[str]) -> tuple[str, ...]:
    shown = ", ".join(ascii(name)[:80] for name in unknown[:3])
    return (f"left out {counted(len(unknown), 'record')} that torch does not write: {shown}",) if unknown else ()


def torch_zip_segments(
    tensors: Sequence[OutputTensor], metadata: Callable[[], Mapping[str, str]], checksums: Mapping[int, int]
) -> Segments:
    """Lay out a torch zip checkpoint of a plain, flat state dict; the format has no place for metadata."""
    del metadata
    before: list[tuple[str, bytes | int]] = [
        ("data.pkl", state_dict_pickle(tensors)),
        (".format_version", b"1"),
        (".storage_alignment", str(_ALIGNMENT).encode()),
        ("byteorder", b"little"),
    ]
    data: list[tuple[str, bytes | int]] = [(f"data/{index}", index) for index in range(len(tensors))]
    position = 0
    written: list[_Written] = []
    for name, content in (*before, *data, ("version", b"3\n")):
        header = _local_header(f"{_FOLDER}{name}".encode(), position)
        yield header
        yield content
        if isinstance(content, int):
            record = _Written(f"{_FOLDER}{name}".encode(), checksums[content], tensors[content].nbytes, position)
        else:
            record = _Written(f"{_FOLDER}{name}".encode(), zlib.crc32(content), len(content), position)
        descriptor = _descriptor(record)
        yield descriptor
        position += len(header) + record.size + len(descriptor)
        written.append(record)
    yield from _directory(written, position)


def state_dict_pickle(tensors: Sequence[OutputTensor]) -> bytes:
    """Return the pickle (protocol 2) of a state dict whose tensor number n is the whole of storage n."""
    names = _Globals()
    parts = [b"\x80\x02", b"}", b"("]
    for index, tensor in enumerate(tensors):
        parts += [text(tensor.name), _tensor(names, tensor, index)]
    return b"".join((*parts, b"u", b"."))


_STORAGE_NAMES: Final = {dtype: name for name, dtype in STORAGE_TYPES.items()}


class _Globals:
    """Pickles a global by name the first time, and recalls it from the memo afterwards, as torch does."""

    def __init__(self) -> None:
        self._memo: dict[tuple[str, str], int] = {}

    def pickled(self, module: str, name: str) -> bytes:
        if (module, name) in self._memo:
            return b"h" + bytes([self._memo[module, name]])
        index = self._memo[module, name] = len(self._memo)
        return global_name(module, name) + b"q" + bytes([index])


def _tensor(names: _Globals, tensor: OutputTensor, index: int) -> bytes:
    """Pickle `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`."""
    elements = tensor.nbytes // tensor.dtype.itemsize
    return b"".join(
        (
            names.pickled("torch._utils", "_rebuild_tensor_v2"),
            b"((" + text("storage"),
            names.pickled("torch", _STORAGE_NAMES[tensor.dtype]),
            text(str(index)) + text("cpu") + integer(elements) + b"tQ",
            integer(0),
            integers(tensor.shape),
            integers(contiguous_strides(tensor.shape)),
            b"\x89",
            names.pickled("collections", "OrderedDict") + b")R",
            b"tR",
        )
    )


def _local_header(name: bytes, position: int) -> bytes:
    """Return a record's header, padded so that its payload is aligned."""
    unpadded = position + _LOCAL.size + len(name) + 4
    padding = -unpadded % _ALIGNMENT
    extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    return _LOCAL.pack(b"PK\x03\x04", 0, _FLAGS, 0, 0, 0, 0, 0, 0, len(name), len(extra)) + name + extra


def _descriptor(record: _Written) -> bytes:
    widths = "QQ" if record.size > _FULL32 else "II"
    return b"PK\x07\x08" + struct.pack(f"<I{widths}", record.crc32, record.size, record.size)


def _directory(records: Sequence[_Written], start: int) -> Segments:
    size = 0
    for record in records:
        entry = _directory_entry(record)
        size += len(entry)
        yield entry
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 798, 45, 0, 0, len(records), len(records), size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
    counts = min(len(records), 0xFFFF)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, counts, counts, min(size, _FULL32), min(start, _FULL32), 0)
    yield end64 + locator + end


def _directory_entry(record: _Written) -> bytes:
    sizes = [record.size, record.size] if record.size >= _FULL32 else []
    wide = [*sizes, record.header_offset] if record.header_offset >= _FULL32 else sizes
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size, offset = min(record.size, _FULL32), min(record.header_offset, _FULL32)
    fields = (0, 0, _FLAGS, 0, 0, 0, record.crc32, size, size, len(record.name), len(extra), 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fields) + record.name + extra
