"""Reads torch's zip checkpoints (torch 1.6 and later)."""

from __future__ import annotations

import zlib
from typing import Final

from r2convert.checkpoint import limits
from r2convert.checkpoint.checksums import require_crc
from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.formats.zip_directory import ZipRecord
from r2convert.checkpoint.pickles.pickle_bytes import PickleBytes
from r2convert.checkpoint.pickles.pickle_machine import PickleMachine
from r2convert.checkpoint.pickles.torch_values import DeclaredStorage, DeclaredStorages, torch_allowlist
from r2convert.checkpoint.source_file import SourceFile
from r2convert.checkpoint.storage import Extent, Storage
from r2convert.errors import (
    CorruptCheckpointError,
    LimitExceededError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)

_PICKLE: Final = "data.pkl"
#: Small records torch writes beside the data; none of them changes what the tensors are, except `byteorder`.
_KNOWN_RECORDS: Final = frozenset(
    {"version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"}
)
_TORCHSCRIPT_MARKS: Final = ("constants.pkl", "code/")
_SMALL_RECORD_BYTES: Final = 4 * limits.KIBIBYTE


def is_torch_zip(records: dict[str, ZipRecord]) -> bool:
    """Whether an archive is a torch checkpoint: it has a `data.pkl` in its one folder."""
    return any(name.split("/", 1)[-1] == _PICKLE for name in records)


def read_torch_zip(source: SourceFile, records: dict[str, ZipRecord]) -> Contents:
    """Describe a torch zip checkpoint; payloads of tensors are not read.

    Raises:
        CheckpointError: the archive or its pickle is damaged, unsafe or of a kind that is not read.
    """
    members = _without_stem(source, records)
    _require_known(source, members)
    for name in sorted(_KNOWN_RECORDS & members.keys()):
        _read_checked(source, members[name], _SMALL_RECORD_BYTES)
    _require_little_endian(source, members)
    storages = DeclaredStorages()
    root = _read_pickle(source, members[_PICKLE], storages)
    found = tuple(_storage(source, members, declared) for declared in storages.declared)
    return Contents("torch-zip", root, found, {}, _warnings(members, found))


def _without_stem(source: SourceFile, records: dict[str, ZipRecord]) -> dict[str, ZipRecord]:
    """Take the archive's folder name off its records; torch makes it from the file's name."""
    stems = {name.partition("/")[0] for name in records}
    if len(stems) != 1 or not all("/" in name for name in records):
        raise CorruptCheckpointError(
            "The archive is not one folder, as torch writes it",
            where=str(source.path),
            got=", ".join(sorted(map(ascii, stems))[:5]),
        )
    return {name.partition("/")[2]: record for name, record in records.items()}


def _require_known(source: SourceFile, members: dict[str, ZipRecord]) -> None:
    for name in members:
        if name.startswith(_TORCHSCRIPT_MARKS):
            raise UnsupportedCheckpointError(
                "This is a TorchScript program, not a state dict",
                where=f"{source.path}, record {name!r}",
                next_step="Save the module's state_dict() from the program that made it.",
            )
        is_data = name.startswith("data/") and name[5:].isdecimal() and name.isascii()
        if not is_data and name != _PICKLE and name not in _KNOWN_RECORDS:
            raise UnsafeCheckpointError(
                "The archive has a record no torch checkpoint has", where=str(source.path), got=ascii(name)
            )


def _require_little_endian(source: SourceFile, members: dict[str, ZipRecord]) -> None:
    if "byteorder" not in members:
        return
    order = _read_checked(source, members["byteorder"], _SMALL_RECORD_BYTES)
    if order != b"little":
        raise UnsupportedCheckpointError(
            "The file says that its numbers are not little-endian",
            where=f"{source.path}, record 'byteorder'",
            expected="little",
            got=ascii(order[:20].decode("latin-1")),
        )


def _read_checked(source: SourceFile, record: ZipRecord, cap: int) -> bytes:
    """Return a small record's payload after checking its checksum."""
    if record.size > cap:
        raise LimitExceededError(
            f"The record {record.name!r} is too large",
            where=f"{source.path}, byte {record.offset}",
            expected=f"at most {cap} bytes",
            got=f"{record.size} bytes",
        )
    payload = source.read(record.offset, record.size, f"record {record.name!r}")
    require_crc(source, record.name, record.offset, record.crc32 or None, zlib.crc32(payload))
    return payload


def _read_pickle(source: SourceFile, record: ZipRecord, storages: DeclaredStorages) -> object:
    # The checksum first: a damaged pickle should be called damaged, not unsafe.
    _read_checked(source, record, limits.MAX_PICKLE_RECORD_BYTES)
    end = record.offset + record.size
    data = PickleBytes(source, record.offset, end, record.name)
    root = PickleMachine(data, torch_allowlist(), storages.persistent).load()
    if data.position != end:
        raise CorruptCheckpointError("The pickle is followed by other bytes", where=data.where())
    return root


def _storage(source: SourceFile, members: dict[str, ZipRecord], declared: DeclaredStorage) -> Storage:
    record = members.get(f"data/{declared.key}")
    if record is None:
        raise CorruptCheckpointError(
            "A storage is missing", where=str(source.path), expected=f"a record 'data/{declared.key}'"
        )
    if record.size != declared.nbytes:
        raise CorruptCheckpointError(
            f"The storage {record.name!r} has the wrong size",
            where=f"{source.path}, byte {record.offset}",
            expected=f"{declared.nbytes} bytes ({declared.elements} x {declared.dtype.value})",
            got=f"{record.size} bytes",
        )
    return Storage(record.name, (Extent(0, record.offset, record.size),), record.size, record.crc32 or None)


def _warnings(members: dict[str, ZipRecord], storages: tuple[Storage, ...]) -> tuple[str, ...]:
    warnings = []
    without = sum(1 for record in members.values() if record.crc32 == 0 and record.size)
    if without:
        warnings.append(f"{without} of {len(members)} records carry no checksum: damage to them cannot be noticed")
    unused = sum(1 for name in members if name.startswith("data/")) - len(storages)
    if unused:
        warnings.append(f"{unused} data records belong to no tensor")
    return tuple(warnings)
