"""NumPy arrays as pickles describe them: element type, shape, and where the bytes stand in the file.

The names and argument orders are NumPy's own (`ndarray.__reduce__`, `dtype.__reduce__`); Paddle adds a few of
its own (`paddle/framework/io.py`: `reduce_varbase`, `reduce_DenseTensor`).
"""

from __future__ import annotations

from typing import Final

from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.pickles.values import (
    PYTHON_NAMES,
    Buildable,
    Constructor,
    KnownNames,
    Opaque,
    PickledBytes,
    PickledText,
    bad_arguments,
    describe_briefly,
)
from r2convert.checkpoint.storage import Encoding, Extent
from r2convert.checkpoint.tensor import require_shape
from r2convert.errors import CorruptCheckpointError, UnsafeCheckpointError

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
_EMPTY: Final = PickledBytes(0, 0)


class PickledType(Buildable):
    """A `numpy.dtype` being described; complete once its state has come.

    Attributes:
        name: NumPy's code of it.
        dtype: the type that is given out; ``None`` for one that is not read, and until the byte order is known.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dtype: DType | None = None

    def build(self, state: object) -> None:
        """Take ``(version, byte order, fields, ...)``; a plain element type has nothing else to say."""
        if not isinstance(state, tuple) or len(state) < 5:
            raise bad_arguments("numpy.dtype", state)
        known = NUMPY_TYPES.get(self.name)
        if known is None or state[2:5] != (None, None, None):
            return
        if state[1] in ("<", "|") and (state[1] == "|") == (known.itemsize == 1):
            self.dtype = known
        else:
            self.name = f"{self.name}, not little-endian"


class PickledArray(Buildable):
    """A `numpy.ndarray` being described; complete once its state has come.

    Attributes:
        kind: NumPy's name of the element type.
        dtype: the type of its elements; ``None`` for one that is not read.
        shape: its lengths.
        is_fortran: whether the first dimension changes fastest in the bytes.
        extent: where its bytes stand in the file.
    """

    def __init__(self) -> None:
        self.kind: str | None = None
        self.dtype: DType | None = None
        self.shape: tuple[int, ...] = ()
        self.is_fortran = False
        self.extent = Extent(0, 0, 0)

    def build(self, state: object) -> None:
        """Take ``(version, shape, dtype, is_fortran, bytes)``."""
        if self.kind is not None or not isinstance(state, tuple) or len(state) != 5:
            raise bad_arguments(_NDARRAY.name, state)
        _, shape, kind, is_fortran, data = state
        if not isinstance(kind, PickledType) or not isinstance(is_fortran, (bool, int)):
            raise bad_arguments(_NDARRAY.name, state)
        self.fill(kind, shape, data, is_fortran=bool(is_fortran))

    def fill(self, kind: PickledType, shape: object, data: object, *, is_fortran: bool) -> None:
        """Take element type, lengths and bytes; of a type that is not read, the bytes do not matter."""
        self.kind = kind.name
        self.shape = require_shape(shape, "an array")
        if kind.dtype is None:
            return
        self.extent = _extent(data)
        self.is_fortran = is_fortran
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
                "an array's bytes do not fit its shape",
                expected=f"{self.nbytes} bytes for shape {list(self.shape)}",
                got=f"{self.extent.length} bytes",
            )


class EncodedText:
    """Bytes that Python 3 pickled as text (`_codecs.encode(text, 'latin1')`)."""

    def __init__(self, offset: int, length: int) -> None:
        self.extent = Extent(0, offset, length, Encoding.LATIN1_IN_UTF8)


def _extent(data: object) -> Extent:
    if isinstance(data, EncodedText):
        return data.extent
    if isinstance(data, PickledText) or (isinstance(data, PickledBytes) and not data.is_text):
        return Extent(0, data.offset, data.length)
    raise bad_arguments(_NDARRAY.name, data)


#: The class itself, which `_reconstruct` names as what it makes.
_NDARRAY: Final = Constructor("numpy.ndarray", lambda arguments: Opaque("numpy.ndarray", arguments))


def _reconstruct(arguments: tuple[object, ...]) -> object:
    if len(arguments) != 3 or arguments[1] != (0,):
        raise bad_arguments("numpy.core.multiarray._reconstruct", arguments)
    made = arguments[0]
    return PickledArray() if made is _NDARRAY else Opaque(describe_briefly(made), arguments)


def _from_buffer(arguments: tuple[object, ...]) -> object:
    """Describe protocol 5's ``_frombuffer(bytes, dtype, shape, order)``."""
    data, kind, shape, order = arguments if len(arguments) == 4 else (None, None, None, None)
    if not isinstance(kind, PickledType) or order not in ("C", "F"):
        raise bad_arguments("numpy.core.numeric._frombuffer", arguments)
    array = PickledArray()
    array.fill(kind, shape, data, is_fortran=order == "F")
    return array


def _dtype(arguments: tuple[object, ...]) -> PickledType:
    code = arguments[0] if len(arguments) in (1, 3) else None
    if not isinstance(code, str):
        raise bad_arguments("numpy.dtype", arguments)
    return PickledType(str(code[:80]))


def _encode(arguments: tuple[object, ...]) -> object:
    text = arguments[0] if len(arguments) == 2 and arguments[1] in ("latin1", "latin-1") else None
    if isinstance(text, PickledText) or (isinstance(text, PickledBytes) and text.is_text):
        return EncodedText(text.offset, text.length)
    return Opaque("_codecs.encode", arguments)


def _bytes(arguments: tuple[object, ...]) -> object:
    """Describe ``bytes()`` and ``bytearray(bytes)``; ``bytearray(3_000_000_000)`` is only named."""
    if arguments == ():
        return _EMPTY
    data = arguments[0] if len(arguments) == 1 else _encode(arguments)
    return data if isinstance(data, (PickledBytes, EncodedText)) else Opaque("builtins.bytes", arguments)


def _named_array(arguments: tuple[object, ...]) -> object:
    """Describe Paddle's `tuple((name, array))`: the array; its name in the program does not matter."""
    pair = arguments[0] if len(arguments) == 1 else None
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
        raise bad_arguments("tuple", arguments)
    if not isinstance(pair[1], PickledArray):
        raise bad_arguments("tuple", pair)
    return pair[1]


def _jittor_variable(arguments: tuple[object, ...]) -> object:
    """Describe Jittor's `Var(array)`: the array."""
    is_array = len(arguments) == 1 and isinstance(arguments[0], PickledArray)
    return arguments[0] if is_array else Opaque("jittor_core.Var", arguments)


def _evaluated_array(arguments: tuple[object, ...]) -> object:
    """Describe Paddle's `eval('data', {'data': array})`, the one call of `eval` that is no danger: the array."""
    scope = arguments[1] if len(arguments) == 2 else None
    if not isinstance(scope, dict) or arguments[0] != "data" or list(scope) != ["data"]:
        raise UnsafeCheckpointError(
            "the pickle asks to evaluate code",
            expected="eval('data', {'data': array}), as Paddle writes it",
            got=f"eval({describe_briefly(arguments[0])}, ...)" if arguments else "eval()",
            next_step="do not load this file with another program: it may run code",
        )
    if not isinstance(scope["data"], PickledArray):
        raise bad_arguments("eval", arguments)
    return scope["data"]


#: What a pickle with NumPy arrays names.
NUMPY_NAMES: Final[KnownNames] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Constructor("numpy.dtype", _dtype),
    ("_codecs", "encode"): Constructor("_codecs.encode", _encode),
    **{
        (f"{module}.multiarray", "_reconstruct"): Constructor(f"{module}.multiarray._reconstruct", _reconstruct)
        for module in ("numpy.core", "numpy._core")
    },
    **{
        (f"{module}.numeric", "_frombuffer"): Constructor(f"{module}.numeric._frombuffer", _from_buffer)
        for module in ("numpy.core", "numpy._core")
    },
    **{
        (module, name): Constructor(f"{module}.{name}", _bytes)
        for module in ("builtins", "__builtin__")
        for name in ("bytes", "bytearray")
    },
}

#: What Paddle's pickles name beside opaque classes: two calls more, matched symbolically.
PADDLE_NAMES: Final[KnownNames] = {
    **PYTHON_NAMES,
    **NUMPY_NAMES,
    **{
        (module, name): Constructor(f"{module}.{name}", build)
        for module in ("builtins", "__builtin__")
        for name, build in (("tuple", _named_array), ("eval", _evaluated_array))
    },
    ("jittor", "jittor_core.Var"): Constructor("jittor.jittor_core.Var", _jittor_variable),
    ("jittor_core", "Var"): Constructor("jittor_core.Var", _jittor_variable),
}
