"""What torch's pickles may name, and the tensors and storages they describe.

The names and argument orders are torch's own (`torch/_utils.py`, `torch/serialization.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from r2convert.checkpoint import limits
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.pickles.values import (
    Allowlist,
    Constructor,
    bad_arguments,
    describe_briefly,
    make_ordered_dictionary,
)
from r2convert.checkpoint.tensor import TensorInfo, is_count, require_fits, require_shape
from r2convert.errors import CorruptCheckpointError, LimitExceededError

#: torch's typed storage classes, by the name pickles give them.
STORAGE_TYPES: Final = {
    "DoubleStorage": DType.FLOAT64,
    "FloatStorage": DType.FLOAT32,
    "HalfStorage": DType.FLOAT16,
    "BFloat16Storage": DType.BFLOAT16,
    "LongStorage": DType.INT64,
    "IntStorage": DType.INT32,
    "ShortStorage": DType.INT16,
    "CharStorage": DType.INT8,
    "ByteStorage": DType.UINT8,
    "BoolStorage": DType.BOOL,
}


@dataclass(frozen=True, slots=True)
class DeclaredStorage:
    """A storage as the pickle declares it: its key, element type and length in elements."""

    key: str
    dtype: DType
    elements: int

    @property
    def nbytes(self) -> int:
        """Bytes it must have in the file."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StorageView:
    """A stretch of a declared storage that a tensor is built on.

    Attributes:
        index: which declared storage.
        dtype: the type of its elements.
        first: where the stretch starts, in elements.
        elements: how many elements it has.
    """

    index: int
    dtype: DType
    first: int
    elements: int


class DeclaredStorages:
    """The storages a pickle declares through its persistent ids, in the order of their first mention."""

    def __init__(self) -> None:
        self._indices: dict[str, int] = {}
        self.declared: list[DeclaredStorage] = []

    def persistent(self, identifier: object) -> StorageView:
        """Turn torch's persistent id into a view of a declared storage.

        The id is ``("storage", class, key, location, elements)``, in the legacy format followed by ``None``
        or ``(view key, offset, elements)``.

        Raises:
            CorruptCheckpointError: the id is something else, or contradicts an earlier one.
        """
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise CorruptCheckpointError(
                "The pickle refers to something that is no storage", got=describe_briefly(identifier)
            )
        _, dtype, key, location, elements = identifier[:5]
        if not isinstance(dtype, DType) or not isinstance(location, str) or not is_count(elements):
            raise CorruptCheckpointError("The pickle declares a storage of no known type or length")
        if not isinstance(key, str) or not key.isdecimal() or not key.isascii() or len(key) > 20:
            raise CorruptCheckpointError(
                "A storage key is not a number", expected="digits only", got=describe_briefly(key)
            )
        index = self._declare(DeclaredStorage(str(key), dtype, elements))
        first, length = _view(identifier[5] if len(identifier) == 6 else None, elements)
        return StorageView(index, dtype, first, length)

    def _declare(self, storage: DeclaredStorage) -> int:
        index = self._indices.setdefault(storage.key, len(self.declared))
        if index == len(self.declared):
            if index >= limits.MAX_TENSORS:
                raise LimitExceededError("Too many storages", expected=f"at most {limits.MAX_TENSORS}")
            self.declared.append(storage)
        elif self.declared[index] != storage:
            raise CorruptCheckpointError(f"Storage {storage.key} is declared twice, with different types or lengths")
        return index


def _view(view: object, elements: int) -> tuple[int, int]:
    if view is None:
        return 0, elements
    if not isinstance(view, tuple) or len(view) != 3 or not is_count(view[1]) or not is_count(view[2]):
        raise CorruptCheckpointError("The pickle declares an impossible view of a storage")
    if view[1] + view[2] > elements:
        raise CorruptCheckpointError(
            "A view reaches outside its storage", expected=f"{elements} elements", got=f"{view[1] + view[2]} elements"
        )
    return view[1], view[2]


def _rebuild_tensor(arguments: tuple[object, ...]) -> TensorInfo:
    """Describe ``_rebuild_tensor(storage, offset, size, stride)``; version 2 adds flags that do not matter here."""
    view = arguments[0] if len(arguments) == 4 else None
    if not isinstance(view, StorageView):
        raise bad_arguments("torch._utils._rebuild_tensor", arguments)
    first, size, stride = arguments[1:]
    shape = require_shape(size, "A tensor")
    strides, offset = require_fits(view.dtype, shape, stride, first, view.elements, "A tensor")
    return TensorInfo("", view.dtype, shape, strides, offset + view.first * view.dtype.itemsize, view.index)


def _rebuild_tensor_v2(arguments: tuple[object, ...]) -> TensorInfo:
    if len(arguments) not in (6, 7) or not isinstance(arguments[4], bool) or arguments[5] not in ({}, None):
        raise bad_arguments("torch._utils._rebuild_tensor_v2", arguments)
    return _rebuild_tensor(arguments[:4])


def _rebuild_parameter(arguments: tuple[object, ...]) -> TensorInfo:
    if len(arguments) != 3 or not isinstance(arguments[0], TensorInfo) or arguments[2] not in ({}, None):
        raise bad_arguments("torch._utils._rebuild_parameter", arguments)
    return arguments[0]


def _size(arguments: tuple[object, ...]) -> tuple[int, ...]:
    if len(arguments) != 1:
        raise bad_arguments("torch.Size", arguments)
    return require_shape(arguments[0], "A torch.Size")


def torch_allowlist() -> Allowlist:
    """Return what a torch state dict's pickle may name."""
    constructors = {
        ("collections", "OrderedDict"): make_ordered_dictionary,
        ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("torch", "Size"): _size,
    }
    allowed: dict[tuple[str, str], object] = {
        ("torch", class_name): dtype for class_name, dtype in STORAGE_TYPES.items()
    }
    allowed.update({key: Constructor(".".join(key), build) for key, build in constructors.items()})
    return allowed
