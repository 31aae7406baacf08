"""Reads torch 0.1's tar checkpoints: the members `storages`, `tensors` and `pickle`.

Layout (`torch/serialization.py`, `legacy_load`): `storages` is a pickled count; for each a pickled
`(key, location, class)`, an int64 number of elements and the raw bytes; then the pickled list of views
`(view key, key, offset, elements)`. `tensors` is a pickled count; for each a pickled `(key, storage key,
class)`, int32 dimensions, 4 unused bytes, int64 sizes, int64 strides, int64 offset. `pickle` is the object,
with the tensors' keys as persistent ids.
"""

from __future__ import annotations

import struct
from typing import Final

from r2convert.checkpoint import limits
from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.formats.tar_directory import TarMember
from r2convert.checkpoint.pickles.machine import PickleBytes, PickleMachine
from r2convert.checkpoint.pickles.torch_names import STORAGE_TYPES, ElementKind, StorageView
from r2convert.checkpoint.pickles.values import PYTHON_NAMES, describe_briefly
from r2convert.checkpoint.storage import Extent, OpenFile, Storage
from r2convert.checkpoint.tensor import TensorInfo, is_count, require_fits, require_shape
from r2convert.errors import CorruptCheckpointError, UnsupportedCheckpointError

MEMBERS: Final = frozenset({"storages", "tensors", "pickle"})


def read_torch_tar(file: OpenFile, members: dict[str, TarMember]) -> Contents:
    """Describe a torch 0.1 checkpoint; the storages' bytes are not read.

    Raises:
        CheckpointError: it is damaged, unsafe or of a kind that is not read.
    """
    if members.keys() != MEMBERS:
        raise UnsupportedCheckpointError(
            "the archive is not a torch checkpoint",
            where=str(file.path),
            expected=", ".join(sorted(MEMBERS)),
            got=", ".join(sorted(map(ascii, members))[:8]),
        )
    reader = _TarReader(file)
    reader.read_storages(_cursor(file, members["storages"]))
    reader.read_tensors(_cursor(file, members["tensors"]))
    root = reader.read_object(_cursor(file, members["pickle"]))
    return Contents("torch-tar", root, tuple(reader.storages), {}, opaque=reader.opaque)


def _cursor(file: OpenFile, member: TarMember) -> PickleBytes:
    return PickleBytes(file, member.offset, member.offset + member.size, f"member {member.name}")


def _types() -> dict[tuple[str, str], object]:
    """The storage classes and the tensor classes named after them."""
    allowed: dict[tuple[str, str], object] = {}
    for name, dtype in STORAGE_TYPES.items():
        kind = ElementKind(dtype.value, dtype.itemsize, dtype)
        allowed["torch", name] = allowed["torch", name.replace("Storage", "Tensor")] = kind
    return allowed


class _TarReader:
    """The tables that the three members build up, one after the other."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._views: dict[int, StorageView] = {}
        self._tensors: dict[int, TensorInfo] = {}
        self.storages: list[Storage] = []
        self.opaque: tuple[str, ...] = ()

    def read_storages(self, data: PickleBytes) -> None:
        for _ in range(_count(data)):
            key, _, kind = _described(data, 3)
            if not isinstance(kind, ElementKind):
                raise _damaged(data, "a storage of no known type")
            elements = struct.unpack("<q", data.read(8))[0]
            if not is_count(elements):
                raise _damaged(data, f"a storage of {elements} elements")
            nbytes = elements * kind.itemsize
            start = data.skip(nbytes)
            self._add_view(data, key, StorageView(len(self.storages), kind, 0, elements))
            self.storages.append(Storage(f"storage {describe_briefly(key)}", (Extent(0, start, nbytes),), nbytes))
        views = PickleMachine(data, {}).load()
        if not isinstance(views, list):
            raise _damaged(data, "no list of views")
        for view in views:
            self._read_view(data, view)
        _require_end(data)

    def _read_view(self, data: PickleBytes, view: object) -> None:
        if not isinstance(view, tuple) or len(view) != 4:
            raise _damaged(data, "a view of no known form")
        key, root_key, first, elements = view
        root = self._views.get(root_key) if is_count(root_key) else None
        if root is None or not is_count(first) or not is_count(elements) or first + elements > root.elements:
            raise _damaged(data, "a view outside its storage")
        self._add_view(data, key, StorageView(root.index, root.kind, root.first + first, elements))

    def _add_view(self, data: PickleBytes, key: object, view: StorageView) -> None:
        if not is_count(key) or key in self._views:
            raise _damaged(data, f"a storage key that is not a number, or appears twice: {describe_briefly(key)}")
        self._views[key] = view

    def read_tensors(self, data: PickleBytes) -> None:
        for _ in range(_count(data)):
            key, storage_key, kind = _described(data, 3)
            view = self._views.get(storage_key) if is_count(storage_key) else None
            if view is None or kind != view.kind or not is_count(key) or key in self._tensors:
                raise _damaged(data, "a tensor of no known storage or type")
            self._tensors[key] = _tensor(data, view)
        _require_end(data)

    def read_object(self, data: PickleBytes) -> object:
        machine = PickleMachine(data, PYTHON_NAMES, self._persistent)
        root = machine.load()
        _require_end(data)
        self.opaque = machine.opaque
        return root

    def _persistent(self, identifier: object) -> TensorInfo:
        key = int(identifier) if isinstance(identifier, str) and _is_number(identifier) else identifier
        tensor = self._tensors.get(key) if is_count(key) else None
        if tensor is None:
            raise CorruptCheckpointError(
                "the pickle refers to a tensor that is not there", got=describe_briefly(identifier)
            )
        return tensor


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 20


def _tensor(data: PickleBytes, view: StorageView) -> TensorInfo:
    dimensions = struct.unpack("<i", data.read(4))[0]
    if not 0 <= dimensions <= limits.MAX_DIMENSIONS:
        raise _damaged(data, f"a tensor of {dimensions} dimensions")
    data.read(4)  # torch 0.1 wrote the dimensions as eight bytes and later read four
    shape = require_shape(struct.unpack(f"<{dimensions}q", data.read(8 * dimensions)), "a tensor")
    strides = struct.unpack(f"<{dimensions}q", data.read(8 * dimensions))
    first = struct.unpack("<q", data.read(8))[0]
    dtype = view.kind.dtype
    if dtype is None:
        raise _damaged(data, "a tensor of no known type")
    steps, offset = require_fits(dtype, shape, strides, first, view.elements, "a tensor")
    return TensorInfo("", dtype, shape, steps, offset + view.first * dtype.itemsize, view.index)


def _count(data: PickleBytes) -> int:
    count = PickleMachine(data, {}).load()
    if not is_count(count) or count > limits.MAX_TENSORS:
        raise _damaged(data, f"a count of {describe_briefly(count)}")
    return count


def _described(data: PickleBytes, length: int) -> tuple[object, ...]:
    entry = PickleMachine(data, _types()).load()
    if not isinstance(entry, tuple) or len(entry) != length:
        raise _damaged(data, "an entry of no known form")
    return entry


def _require_end(data: PickleBytes) -> None:
    if data.remaining:
        raise _damaged(data, f"{data.remaining} bytes after its end")


def _damaged(data: PickleBytes, what: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(f"the {data.label} is damaged: it has {what}", where=data.where())
