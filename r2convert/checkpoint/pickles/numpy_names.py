"""NumPy arrays as pickles describe them: element type, shape, and where the bytes stand in the file.

The names and argument orders are NumPy's own (`ndarray.__reduce__`, `dtype.__reduce__`); Paddle adds a few of
its own (`paddle/framework/io.py`: `reduce_varbase`, `reduce_DenseTensor`).
"""

from __future__ import annotations

from typing import Final

from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.pickles.values import (
    Allowlist,
    Buildable,
    Constructor,
    PickledBytes,
    PickledText,
    bad_arguments,
    describe_briefly,
    make_ordered_dictionary,
)
from r2convert.checkpoint.storage import Encoding, Extent
from r2convert.checkpoint.tensor import require_shape
from r2convert.errors import CorruptCheckpointError, UnsafeCheckpointError, UnsupportedCheckpointError

#: NumPy's type codes. NumPy has no bfloat16: Paddle saves its bit patterns as uint16 and has no uint16 itself.
NUMPY_TYPES: Final = {
    "f8": DType.FLOAT64,
    "f4": DType.FLOAT32,
    "f2": DType.FLOAT16,
    "u2": DType.BFLOAT16,
    "i8": DType.INT64,
    "i4": DType.INT32,
    "i2": DType.INT16,
    "i1": DType.INT8,
    "u1": DType.UINT8,
    "b1": DType.BOOL,
}
_NDARRAY: Final = "numpy.ndarray"
_EMPTY: Final = PickledBytes(0, 0)


class PickledType(Buildable):
    """A `numpy.dtype` being described; complete once its state has come."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.is_complete = False

    def build(self, state: object) -> None:
        """Take ``(version, byte order, ...)``; a plain element type has nothing else to say."""
        if not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None, None, None):
            raise bad_arguments("numpy.dtype", state)
        if state[1] not in ("<", "|") or (state[1] == "|") != (self.dtype.itemsize == 1):
            raise UnsupportedCheckpointError(
                "The numbers are not little-endian", expected="'<'", got=describe_briefly(state[1])
            )
        self.is_complete = True


class PickledArray(Buildable):
    """A `numpy.ndarray` being described; complete once its state has come.

    Attributes:
        dtype: the type of its elements.
        shape: its lengths.
        is_fortran: whether the first dimension changes fastest in the bytes.
        extent: where its bytes stand in the file.
    """

    def __init__(self) -> None:
        self.dtype: DType | None = None
        self.shape: tuple[int, ...] = ()
        self.is_fortran = False
        self.extent = Extent(0, 0, 0)

    def build(self, state: object) -> None:
        """Take ``(version, shape, dtype, is_fortran, bytes)``."""
        if self.dtype is not None or not isinstance(state, tuple) or len(state) != 5:
            raise bad_arguments(_NDARRAY, state)
        _, shape, kind, is_fortran, data = state
        if not isinstance(kind, PickledType) or not kind.is_complete or not isinstance(is_fortran, (bool, int)):
            raise bad_arguments(_NDARRAY, state)
        self.shape = require_shape(shape, "An array")
        self.extent = _extent(data)
        self.is_fortran = bool(is_fortran)
        self.dtype = kind.dtype
        self._require_size()

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        size = self.dtype.itemsize if self.dtype else 0
        for length in self.shape:
            size *= length
        return size

    def _require_size(self) -> None:
        """Bytes kept as text take one or two bytes each; how many there are is known only once they are read."""
        most = self.nbytes * (2 if self.extent.encoding is Encoding.LATIN1_IN_UTF8 else 1)
        if not self.nbytes <= self.extent.length <= most:
            raise CorruptCheckpointError(
                "An array's bytes do not fit its shape",
                expected=f"{self.nbytes} bytes for shape {list(self.shape)}",
                got=f"{self.extent.length} bytes",
            )


class _EncodedText:
    """Bytes that Python 3 pickled as text (`_codecs.encode(text, 'latin1')`)."""

    def __init__(self, offset: int, length: int) -> None:
        self.extent = Extent(0, offset, length, Encoding.LATIN1_IN_UTF8)


def _extent(data: object) -> Extent:
    if isinstance(data, _EncodedText):
        return data.extent
    if isinstance(data, PickledText) or (isinstance(data, PickledBytes) and not data.is_text):
        return Extent(0, data.offset, data.length)
    raise bad_arguments(_NDARRAY, data)


def _reconstruct(arguments: tuple[object, ...]) -> PickledArray:
    if len(arguments) != 3 or arguments[0] != _NDARRAY or arguments[1] != (0,):
        raise bad_arguments("numpy.core.multiarray._reconstruct", arguments)
    return PickledArray()


def _dtype(arguments: tuple[object, ...]) -> PickledType:
    code = arguments[0] if len(arguments) == 3 else None
    if not isinstance(code, str):
        raise bad_arguments("numpy.dtype", arguments)
    dtype = NUMPY_TYPES.get(code)
    if dtype is None:
        raise UnsupportedCheckpointError(
            "An array has an element type that is not read", expected=", ".join(NUMPY_TYPES), got=describe_briefly(code)
        )
    return PickledType(dtype)


def _encode(arguments: tuple[object, ...]) -> _EncodedText:
    if len(arguments) != 2 or arguments[1] not in ("latin1", "latin-1"):
        raise bad_arguments("_codecs.encode", arguments)
    text = arguments[0]
    if isinstance(text, PickledText) or (isinstance(text, PickledBytes) and text.is_text):
        return _EncodedText(text.offset, text.length)
    raise bad_arguments("_codecs.encode", arguments)


def _no_bytes(arguments: tuple[object, ...]) -> PickledBytes:
    if arguments != ():
        raise bad_arguments("bytes", arguments)
    return _EMPTY


def _named_array(arguments: tuple[object, ...]) -> object:
    """Describe Paddle's `tuple((name, array))`: the array; its name in the program does not matter."""
    pair = arguments[0] if len(arguments) == 1 else None
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
        raise bad_arguments("tuple", arguments)
    if not isinstance(pair[1], PickledArray):
        raise bad_arguments("tuple", pair)
    return pair[1]


def _evaluated_array(arguments: tuple[object, ...]) -> object:
    """Describe Paddle's `eval('data', {'data': array})`, the one call of `eval` that is no danger: the array."""
    scope = arguments[1] if len(arguments) == 2 else None
    if not isinstance(scope, dict) or arguments[0] != "data" or list(scope) != ["data"]:
        raise UnsafeCheckpointError(
            "The pickle asks to evaluate code",
            expected="eval('data', {'data': array}), as Paddle writes it",
            got=f"eval({describe_briefly(arguments[0])}, ...)" if arguments else "eval()",
            next_step="Do not load this file with another program: it may run code.",
        )
    if not isinstance(scope["data"], PickledArray):
        raise bad_arguments("eval", arguments)
    return scope["data"]


def paddle_allowlist() -> Allowlist:
    """Return what a Paddle state dict's pickle may name."""
    constructors = {
        ("collections", "OrderedDict"): make_ordered_dictionary,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _encode,
    }
    for numpy_module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        constructors[numpy_module, "_reconstruct"] = _reconstruct
    for builtins in ("builtins", "__builtin__"):
        constructors[builtins, "bytes"] = _no_bytes
        constructors[builtins, "tuple"] = _named_array
        constructors[builtins, "eval"] = _evaluated_array
    allowed: dict[tuple[str, str], object] = {("numpy", "ndarray"): _NDARRAY}
    allowed.update({key: Constructor(".".join(key), build) for key, build in constructors.items()})
    return allowed
