"""Reads torch's legacy checkpoints (before torch 1.6): concatenated pickles, then raw storages.

Layout (`torch/serialization.py`, `_legacy_save`): magic number, protocol version, system info, the object,
the sorted list of storage keys, and for each key in that order an int64 count of elements and the raw bytes.
There is no checksum, so every size must fit exactly.
"""

from __future__ import annotations

import struct
from typing import Final

from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.pickles.machine import PickleBytes, PickleMachine
from r2convert.checkpoint.pickles.torch_names import TORCH_NAMES, DeclaredStorages
from r2convert.checkpoint.pickles.values import describe_briefly
from r2convert.checkpoint.storage import Extent, OpenFile, Storage
from r2convert.errors import CorruptCheckpointError, UnsupportedCheckpointError

#: The first pickle of every legacy file: torch's magic number 0x1950a86a20f9469cfc6c, pickled.
MAGIC: Final = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_FRAME: Final = b"\x95" + struct.pack("<Q", len(MAGIC) - 2)
#: The same in the other protocols that `torch.save(pickle_protocol=...)` may be given; from 4 on in a frame.
_MAGICS: Final = (MAGIC, b"\x80\x03" + MAGIC[2:], *(bytes((0x80, each)) + _FRAME + MAGIC[2:] for each in (4, 5)))
LONGEST_MAGIC: Final = max(map(len, _MAGICS))
_PROTOCOL_VERSION: Final = 1001
_ELEMENTS: Final = struct.Struct("<q")


def read_torch_legacy(file: OpenFile, start: int = 0, end: int | None = None) -> Contents:
    """Describe a legacy checkpoint; payloads of tensors are not read.

    Args:
        file: the file.
        start: where the checkpoint starts in it (0 unless it lies in an archive).
        end: where it ends (the end of the file unless it lies in an archive).

    Raises:
        CheckpointError: it is damaged, unsafe or of a kind that is not read.
    """
    end = file.size if end is None else end
    magic = starts_legacy(file.read(start, min(LONGEST_MAGIC, end - start), "torch's magic number")) or MAGIC
    data = PickleBytes(file, start + len(magic), end, "the pickle stream")
    _require_version(data)
    _require_little_endian(data)
    storages = DeclaredStorages()
    machine = PickleMachine(data, TORCH_NAMES, storages.persistent)
    root = machine.load()
    keys_at = data.position
    keys = PickleMachine(data, {}).load()
    order = _require_keys(storages, keys, data.where(keys_at))
    found = _locate_storages(file, storages, order, data.position, end)
    return Contents("torch-legacy", root, found, {}, opaque=machine.opaque)


def starts_legacy(head: bytes) -> bytes | None:
    """Return the pickled magic number that a file starts with, or ends within; ``None`` if it is none."""
    return next((magic for magic in _MAGICS if head.startswith(magic) or magic.startswith(head)), None)


def _require_version(data: PickleBytes) -> None:
    at = data.position
    version = PickleMachine(data, {}).load()
    if version != _PROTOCOL_VERSION or isinstance(version, (float, bool)):
        raise UnsupportedCheckpointError(
            "this version of torch's legacy format is not read",
            where=data.where(at),
            expected=str(_PROTOCOL_VERSION),
            got=describe_briefly(version),
        )


def _require_little_endian(data: PickleBytes) -> None:
    at = data.position
    info = PickleMachine(data, {}).load()
    if not isinstance(info, dict) or info.get("protocol_version") != _PROTOCOL_VERSION:
        raise CorruptCheckpointError("the system information is damaged", where=data.where(at))
    if info.get("little_endian") is not True:
        raise UnsupportedCheckpointError(
            "the file says that its numbers are not little-endian",
            where=data.where(at),
            expected="little_endian = True",
            got=f"little_endian = {describe_briefly(info.get('little_endian'))}",
        )


def _require_keys(storages: DeclaredStorages, keys: object, where: str) -> list[int]:
    """Return the declared storages' indices in the order of the key list, which must name each exactly once."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CorruptCheckpointError("the list of storages is damaged", where=where, got=describe_briefly(keys))
    indices = {storage.key: index for index, storage in enumerate(storages.declared)}
    named = set(keys)
    if len(named) != len(keys) or named != indices.keys():
        missing, unknown = len(indices.keys() - named), len(named - indices.keys())
        raise CorruptCheckpointError(
            "the list of storages is not the list of those the tensors use",
            where=where,
            expected=f"{len(indices)} keys, each once",
            got=f"{len(keys)} keys, {missing} missing, {unknown} unknown",
        )
    return [indices[key] for key in keys]


def _locate_storages(
    file: OpenFile, storages: DeclaredStorages, order: list[int], position: int, end: int
) -> tuple[Storage, ...]:
    needed = sum(_ELEMENTS.size + storages.declared[index].nbytes for index in order)
    available = end - position
    if needed > available:
        raise file.truncated(end, f"{needed} bytes of storages from byte {position}", f"{available} bytes")
    if needed < available:
        raise CorruptCheckpointError(
            "the file has bytes after its last storage",
            where=f"{file.path}, byte {position + needed}",
            expected="the end of the file",
            got=f"{available - needed} more bytes",
        )
    found: dict[int, Storage] = {}
    for index in order:
        found[index], position = _locate_storage(file, storages, index, position)
    return tuple(found[index] for index in range(len(order)))


def _locate_storage(file: OpenFile, storages: DeclaredStorages, index: int, position: int) -> tuple[Storage, int]:
    declared = storages.declared[index]
    elements = _ELEMENTS.unpack(file.read(position, _ELEMENTS.size, "a storage's length"))[0]
    if elements != declared.elements:
        raise CorruptCheckpointError(
            f"storage {declared.key} has the wrong length",
            where=f"{file.path}, byte {position}",
            expected=f"{declared.elements} elements",
            got=f"{elements} elements",
        )
    start = position + _ELEMENTS.size
    extent = Extent(0, start, declared.nbytes)
    return Storage(f"storage {declared.key}", (extent,), declared.nbytes), start + declared.nbytes
