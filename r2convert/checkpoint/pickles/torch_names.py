"""What torch's pickles name, and the tensors and storages they describe.

The names and argument orders are torch's own (`torch/_utils.py`, `torch/_tensor.py`, `torch/serialization.py`).
Whatever changes a tensor's values is applied or makes the tensor one that is not read; nothing is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from r2convert.checkpoint import limits
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.pickles.numpy_names import NUMPY_NAMES, PickledArray
from r2convert.checkpoint.pickles.values import (
    PYTHON_NAMES,
    Constructor,
    KnownNames,
    Opaque,
    UnreadTensor,
    bad_arguments,
    describe_briefly,
)
from r2convert.checkpoint.tensor import TensorInfo, is_count, require_fits, require_shape
from r2convert.errors import CorruptCheckpointError, LimitExceededError

#: torch's typed storage classes whose elements are read, by the name pickles give them.
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


class ElementKind(Struct, frozen=True):
    """The kind of a storage's elements, or a `torch.dtype`.

    Attributes:
        name: its plain name, as torch's.
        itemsize: bytes of one element.
        dtype: the type that is given out; ``None`` for a kind that is not read.
    """

    name: str
    itemsize: int
    dtype: DType | None = None


_UNTYPED: Final = ElementKind("untyped bytes", 1)
_STORAGE_KINDS: Final = {
    **{("torch", name): ElementKind(dtype.value, dtype.itemsize, dtype) for name, dtype in STORAGE_TYPES.items()},
    ("torch", "ComplexDoubleStorage"): ElementKind("complex128", 16),
    ("torch", "ComplexFloatStorage"): ElementKind("complex64", 8),
    ("torch", "QInt8Storage"): ElementKind("qint8", 1),
    ("torch", "QUInt8Storage"): ElementKind("quint8", 1),
    ("torch", "QInt32Storage"): ElementKind("qint32", 4),
    ("torch", "QUInt4x2Storage"): ElementKind("quint4x2", 1),
    ("torch", "QUInt2x4Storage"): ElementKind("quint2x4", 1),
    ("torch", "UntypedStorage"): _UNTYPED,
    ("torch.storage", "UntypedStorage"): _UNTYPED,
}
_OTHER_TYPES: Final = {
    1: "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 bits8 bits1x8 "
    "bits2x4 bits4x2 qint8 quint8 quint4x2 quint2x4 "
    + " ".join(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
    2: "uint16 bits16",
    4: "uint32 complex32 qint32",
    8: "uint64 complex64",
    16: "complex128",
}
_ELEMENT_TYPES: Final = {
    **{("torch", dtype.value): ElementKind(dtype.value, dtype.itemsize, dtype) for dtype in DType},
    **{
        ("torch", name): ElementKind(name, itemsize)
        for itemsize, names in _OTHER_TYPES.items()
        for name in names.split()
    },
}


class DeclaredStorage(Struct, frozen=True):
    """A storage as the pickle declares it: its key, the kind of its elements, and how many there are."""

    key: str
    kind: ElementKind
    elements: int

    @property
    def nbytes(self) -> int:
        """Bytes it must have in the file."""
        return self.elements * self.kind.itemsize


class StorageView(Struct, frozen=True):
    """A stretch of a declared storage that a tensor is built on.

    Attributes:
        index: which declared storage.
        kind: the kind of its elements.
        first: where the stretch starts, in elements.
        elements: how many elements it has.
    """

    index: int
    kind: ElementKind
    first: int
    elements: int


class DeclaredStorages:
    """The storages a pickle declares through its persistent ids, in the order of their first mention."""

    def __init__(self) -> None:
        self._indices: dict[str, int] = {}
        self.declared: list[DeclaredStorage] = []

    def persistent(self, identifier: object) -> object:
        """Turn torch's persistent id into a view of a declared storage.

        The id is ``("storage", class, key, location, elements)``, in the legacy format followed by ``None``
        or ``(view key, offset, elements)``. For the class of a whole module the legacy format has
        ``("module", class, file, source text)``, which stands for the class.

        Raises:
            CorruptCheckpointError: the id is something else, or contradicts an earlier one.
        """
        if isinstance(identifier, tuple) and len(identifier) == 4 and identifier[0] == "module":
            return identifier[1]
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise CorruptCheckpointError(
                "the pickle refers to something that is no storage", got=describe_briefly(identifier)
            )
        _, kind, key, location, elements = identifier[:5]
        if not isinstance(kind, ElementKind) or not isinstance(location, str) or not is_count(elements):
            raise CorruptCheckpointError("the pickle declares a storage of no known type or length")
        if is_count(key):  # Jittor's imitation of torch's file
            key = str(key)
        if not isinstance(key, str) or not key.isdecimal() or not key.isascii() or len(key) > 20:
            raise CorruptCheckpointError(
                "a storage key is not a number", expected="digits only", got=describe_briefly(key)
            )
        index = self._declare(DeclaredStorage(str(key), kind, elements))
        first, length = _view(identifier[5] if len(identifier) == 6 else None, elements)
        return StorageView(index, kind, first, length)

    def _declare(self, storage: DeclaredStorage) -> int:
        index = self._indices.setdefault(storage.key, len(self.declared))
        if index == len(self.declared):
            if index >= limits.MAX_TENSORS:
                raise LimitExceededError("too many storages", expected=f"at most {limits.MAX_TENSORS}")
            self.declared.append(storage)
        elif self.declared[index] != storage:
            raise CorruptCheckpointError(f"storage {storage.key} is declared twice, with different types or lengths")
        return index


def _view(view: object, elements: int) -> tuple[int, int]:
    if view is None:
        return 0, elements
    if not isinstance(view, tuple) or len(view) != 3 or not is_count(view[1]) or not is_count(view[2]):
        raise CorruptCheckpointError("the pickle declares an impossible view of a storage")
    if view[1] + view[2] > elements:
        raise CorruptCheckpointError(
            "a view reaches outside its storage", expected=f"{elements} elements", got=f"{view[1] + view[2]} elements"
        )
    return view[1], view[2]


# -- tensors ---------------------------------------------------------------------------------------------------


def _strided(kind: ElementKind, view: StorageView, first: object, size: object, stride: object) -> object:
    shape = require_shape(size, "a tensor")
    if kind.dtype is None:
        return UnreadTensor(kind.name, shape)
    begin, end = view.first * view.kind.itemsize, (view.first + view.elements) * view.kind.itemsize
    available = (end - begin) // kind.itemsize
    strides, offset = require_fits(kind.dtype, shape, stride, first, available, "a tensor")
    return TensorInfo("", kind.dtype, shape, strides, offset + begin, view.index)


def _with_flags(tensor: object, flags: object) -> object:
    """Apply the flags of torch's lazy views: the stored elements are the negatives or conjugates of its values."""
    if flags is None or flags == {}:
        return tensor
    if not isinstance(flags, dict) or not flags.keys() <= {"neg", "conj"}:
        raise bad_arguments("torch._utils._rebuild_tensor_v2", (flags,))
    if not isinstance(tensor, TensorInfo) or not flags.get("neg"):
        return tensor  # the conjugate of a real number is itself
    if tensor.dtype is DType.BOOL:
        raise bad_arguments("torch._utils._rebuild_tensor_v2", (flags,))
    return replace(tensor, is_negated=True)


def _rebuild_tensor(arguments: tuple[object, ...]) -> object:
    """Describe ``_rebuild_tensor(storage, offset, size, stride)``."""
    view = arguments[0] if len(arguments) == 4 else None
    if not isinstance(view, StorageView):
        raise bad_arguments("torch._utils._rebuild_tensor", arguments)
    return _strided(view.kind, view, *arguments[1:])


def _rebuild_tensor_v2(arguments: tuple[object, ...]) -> object:
    """Describe version 2: ``requires_grad``, hooks and flags follow, of which only the flags change values."""
    if len(arguments) not in (6, 7):
        raise bad_arguments("torch._utils._rebuild_tensor_v2", arguments)
    return _with_flags(_rebuild_tensor(arguments[:4]), arguments[6] if len(arguments) == 7 else None)


def _rebuild_tensor_v3(arguments: tuple[object, ...]) -> object:
    """Describe version 3: untyped bytes, and the element type before the flags."""
    view = arguments[0] if len(arguments) in (7, 8) else None
    kind = arguments[6] if view is not None else None
    if not isinstance(view, StorageView) or not isinstance(kind, ElementKind):
        raise bad_arguments("torch._utils._rebuild_tensor_v3", arguments)
    return _with_flags(_strided(kind, view, *arguments[1:4]), arguments[7] if len(arguments) == 8 else None)


def _rebuild_parameter(arguments: tuple[object, ...]) -> object:
    """Describe ``_rebuild_parameter(tensor, requires_grad, hooks)``: the tensor."""
    if len(arguments) != 3 or not isinstance(arguments[0], (TensorInfo, UnreadTensor)):
        raise bad_arguments("torch._utils._rebuild_parameter", arguments)
    return arguments[0]


def _rebuild_parameter_with_state(arguments: tuple[object, ...]) -> object:
    if len(arguments) != 4:
        raise bad_arguments("torch._utils._rebuild_parameter_with_state", arguments)
    return _with_attributes(_rebuild_parameter(arguments[:3]), arguments[3])


def _with_attributes(tensor: object, state: object) -> object:
    """Look at the attributes set on a tensor: those of torch's own that replace its values make it unreadable."""
    for attributes in state if isinstance(state, tuple) else (state,):
        if isinstance(attributes, dict) and not attributes.keys().isdisjoint(_VALUE_ATTRIBUTES):
            return UnreadTensor("tensor whose values are set by an attribute")
    return tensor


_VALUE_ATTRIBUTES: Final = frozenset({"data", "real", "imag"})


def _new_parameter(arguments: tuple[object, ...]) -> object:
    """Describe ``torch.nn.Parameter(tensor, requires_grad)``."""
    tensor = arguments[0] if len(arguments) in (1, 2) else None
    return tensor if isinstance(tensor, (TensorInfo, UnreadTensor)) else Opaque("torch.nn.Parameter", arguments)


def _rebuild_from_type(arguments: tuple[object, ...]) -> object:
    """Describe ``_rebuild_from_type_v2(function, class, arguments, state)``: a tensor with attributes or a subclass."""
    function, made, inner = arguments[:3] if len(arguments) == 4 else (None, None, None)
    if not isinstance(inner, tuple):
        raise bad_arguments("torch._tensor._rebuild_from_type_v2", arguments)
    name = made.name if isinstance(made, (Opaque, Constructor)) else describe_briefly(made)
    if not isinstance(function, Constructor) or function not in _REBUILDING.values() or name not in _PLAIN_CLASSES:
        return UnreadTensor(f"tensor subclass {name}")
    return _with_attributes(function.build(inner), arguments[3])


#: Classes whose instances hold the values of the tensor they are made from, and nothing else.
_PLAIN_CLASSES: Final = frozenset(
    {"torch.Tensor", "torch._tensor.Tensor", "torch.nn.Parameter", "torch.nn.parameter.Parameter"}
)


def _on_device(arguments: tuple[object, ...]) -> object:
    """Describe ``_rebuild_device_tensor_from_...(values, dtype, device, requires_grad)``, as XLA saves."""
    values, kind = arguments[:2] if len(arguments) == 4 else (None, None)
    if isinstance(kind, ElementKind) and isinstance(values, (TensorInfo, PickledArray)) and values.dtype is kind.dtype:
        return values
    return UnreadTensor("tensor that is cast on loading")


def _unread(kind: str, size_at: int | None = None) -> Callable[[tuple[object, ...]], UnreadTensor]:
    """Describe a kind of tensor that is not read, with its shape if that is one of the arguments."""

    def build(arguments: tuple[object, ...]) -> UnreadTensor:
        size = arguments[size_at] if size_at is not None and len(arguments) > size_at else None
        return UnreadTensor(kind, require_shape(size, "a tensor") if isinstance(size, (tuple, list)) else None)

    return build


def _size(arguments: tuple[object, ...]) -> tuple[object, ...]:
    lengths = arguments[0] if len(arguments) == 1 else None
    if not isinstance(lengths, (tuple, list)):
        raise bad_arguments("torch.Size", arguments)
    return tuple(lengths)


def _device(arguments: tuple[object, ...]) -> str:
    return ":".join(str(part)[:20] for part in arguments if isinstance(part, str) or is_count(part))


_REBUILDING: Final = {
    ("torch._utils", name): Constructor(f"torch._utils.{name}", build)
    for name, build in (
        ("_rebuild_tensor", _rebuild_tensor),
        ("_rebuild_tensor_v2", _rebuild_tensor_v2),
        ("_rebuild_tensor_v3", _rebuild_tensor_v3),
        ("_rebuild_parameter", _rebuild_parameter),
        ("_rebuild_parameter_with_state", _rebuild_parameter_with_state),
        ("_rebuild_device_tensor_from_numpy", _on_device),
        ("_rebuild_device_tensor_from_cpu_tensor", _on_device),
        ("_rebuild_xla_tensor", _on_device),
        ("_rebuild_sparse_tensor", _unread("sparse tensor")),
        ("_rebuild_sparse_csr_tensor", _unread("sparse tensor")),
        ("_rebuild_nested_tensor", _unread("nested tensor")),
        ("_rebuild_qtensor", _unread("quantized tensor", 2)),
        ("_rebuild_meta_tensor_no_storage", _unread("meta tensor without values", 1)),
        ("_rebuild_wrapper_subclass", _unread("tensor subclass", 2)),
    )
}
#: Classes of whole tensors. A pickle that calls one asks for memory, which nobody gives it.
_TENSOR_CLASSES: Final = {
    (module, name): _unread(f"tensor that {module}.{name} makes")
    for module in ("torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse")
    for name in ("Tensor", *(storage.replace("Storage", "Tensor") for storage in STORAGE_TYPES))
}
_CONSTRUCTORS: Final = {
    **_TENSOR_CLASSES,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    ("torch._tensor", "_rebuild_from_type"): _rebuild_from_type,
    ("torch.nn.parameter", "Parameter"): _new_parameter,
    ("torch.nn", "Parameter"): _new_parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
}

#: What a torch checkpoint's pickle may name beside opaque classes.
TORCH_NAMES: Final[KnownNames] = {
    **PYTHON_NAMES,
    **NUMPY_NAMES,
    **_STORAGE_KINDS,
    **_ELEMENT_TYPES,
    **_REBUILDING,
    **{key: Constructor(".".join(key), build) for key, build in _CONSTRUCTORS.items()},
}
