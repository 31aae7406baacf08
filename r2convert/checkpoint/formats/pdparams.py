"""Reads and writes Paddle 2's `.pdparams`: one pickle of NumPy arrays, as `paddle.save` writes state dicts.

The `.pkl` files of Jittor and detectron2 are such pickles too, detectron2's with a dictionary around the tensors.

Written files are protocol 4, and the arrays' bytes stand in the pickle as they are. NumPy is named `numpy.core`,
which NumPy 1 and 2 both load.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from r2convert.checkpoint import limits
from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.formats.contents import Contents, Segments, Wrapper
from r2convert.checkpoint.pickles.machine import PickleBytes, PickleMachine
from r2convert.checkpoint.pickles.numpy_names import NUMPY_TYPES, PADDLE_NAMES, PickledArray
from r2convert.checkpoint.pickles.pickle_output import global_name, integers, text
from r2convert.checkpoint.pickles.values import UnreadTensor
from r2convert.checkpoint.storage import Extent, OpenFile, Storage
from r2convert.checkpoint.tensor import TensorInfo, contiguous_strides, require_shape
from r2convert.errors import CheckpointError, CorruptCheckpointError, LimitExceededError, UsageError

#: The table from a layer's names to the program's: Paddle takes it out when it loads a file.
_STRUCTURED_NAMES: Final = "StructuredToParameterName@@"
#: What Jittor's pickles end in, after their SHA-1 (`jittor/__init__.py`, `safepickle`).
_JITTOR_MARK: Final = b"HCAJSLHD"
#: Which arrays were split because protocols 2 and 3 cannot hold them (the spelling is Paddle's).
_SPLIT_ARRAYS: Final = "UnpackBigParamInfor@@"


def read_pdparams(file: OpenFile) -> Contents:
    """Describe a `.pdparams` file; the arrays' bytes are not read.

    Raises:
        CheckpointError: the pickle is damaged, unsafe or of a kind that is not read.
    """
    end = _end_of_pickle(file)
    data = PickleBytes(file, 0, end, "the pickle")
    machine = PickleMachine(data, PADDLE_NAMES)
    root = machine.load()
    if data.position != end:
        raise CorruptCheckpointError(
            "the file has bytes after its pickle", where=data.where(), got=f"{data.remaining} bytes"
        )
    arrays = _Arrays(file)
    described = arrays.described(root)
    warnings = []
    if any(isinstance(value, TensorInfo) and value.dtype is DType.BFLOAT16 for value in arrays.references):
        warnings.append("16-bit unsigned arrays are taken for bfloat16, which Paddle saves that way")
    return Contents("pdparams", described, tuple(arrays.storages), {}, tuple(warnings), machine.opaque)


def _end_of_pickle(file: OpenFile) -> int:
    """Return where the pickle ends. Jittor appends a SHA-1 over everything, and a mark: it is checked first."""
    length = hashlib.sha1(usedforsecurity=False).digest_size + len(_JITTOR_MARK)
    if file.size < length:
        return file.size
    end = file.size - length
    stated = file.read(end, length, "the end of the file")
    if not stated.endswith(_JITTOR_MARK):
        return file.size
    digest = hashlib.sha1(usedforsecurity=False)
    for position in range(0, end, limits.CHUNK_BYTES):
        digest.update(file.read(position, min(limits.CHUNK_BYTES, end - position), "the pickle"))
    if digest.digest() != stated[: digest.digest_size]:
        raise CorruptCheckpointError(
            "the pickle does not match the SHA-1 that Jittor appended to it",
            where=str(file.path),
            expected=stated[: digest.digest_size].hex(),
            got=digest.hexdigest(),
            next_step="the file is damaged: download it again",
        )
    return end


class _Arrays:
    """Turns the arrays in a described object into tensor references and their storages."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._done: dict[int, object] = {}
        self.storages: list[Storage] = []
        self.references: list[TensorInfo] = []

    def described(self, value: object) -> object:
        """Return the value with references for arrays; each shared container is walked once, depth is bounded."""
        if not isinstance(value, (PickledArray, dict, list, tuple)):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = self._convert(value)
        return self._done[id(value)]

    def _convert(self, value: PickledArray | dict[object, object] | list[object] | tuple[object, ...]) -> object:
        if isinstance(value, PickledArray):
            if value.dtype is None and value.kind is not None:
                return UnreadTensor(f"NumPy array of type {value.kind}", value.shape)
            return self._reference(value, value.shape, (value.extent,), value.nbytes)
        if isinstance(value, dict):
            return self._dictionary(value)
        return [self.described(inner) for inner in value]

    def _dictionary(self, entries: dict[object, object]) -> dict[object, object]:
        whole = dict(entries)
        whole.pop(_STRUCTURED_NAMES, None)
        split = whole.pop(_SPLIT_ARRAYS, {})
        if not isinstance(split, dict):
            raise self._damaged("the table of split arrays is not a table")
        joined: dict[object, object] = {}
        for name, pieces in split.items():
            joined[name] = self._joined(whole, name, pieces)
        result = {name: self.described(value) for name, value in whole.items()}
        if joined.keys() & result.keys():
            raise self._damaged("a split array is also there in one piece")
        return result | joined

    def _joined(self, entries: dict[object, object], name: object, split: object) -> TensorInfo:
        """Join an array that was cut into flat pieces; the pieces leave the dictionary."""
        names = split.get("slices") if isinstance(split, dict) else None
        if not isinstance(split, dict) or not isinstance(names, list) or not names:
            raise self._damaged(f"{name!a} is split in no known way")
        pieces = [entries.pop(piece, None) if isinstance(piece, str) else None for piece in names]
        arrays = [piece for piece in pieces if isinstance(piece, PickledArray) and len(piece.shape) == 1]
        if len(arrays) != len(names) or len({piece.dtype for piece in arrays}) != 1:
            raise self._damaged(f"{name!a} lacks one of its {len(names)} pieces")
        shape = require_shape(split.get("OriginShape"), f"the split array {name!a}")
        if math.prod(shape) != sum(piece.shape[0] for piece in arrays):
            raise self._damaged(f"the pieces of {name!a} do not make up its shape")
        extents = tuple(piece.extent for piece in arrays)
        return self._reference(arrays[0], shape, extents, sum(piece.nbytes for piece in arrays))

    def _reference(
        self, array: PickledArray, shape: tuple[int, ...], extents: tuple[Extent, ...], nbytes: int
    ) -> TensorInfo:
        if array.dtype is None:
            raise self._damaged("an array was never given its contents")
        if len(self.storages) >= limits.MAX_TENSORS:
            raise LimitExceededError(
                "too many arrays", where=str(self._file.path), expected=f"at most {limits.MAX_TENSORS}"
            )
        strides = contiguous_strides(shape[::-1])[::-1] if array.is_fortran else contiguous_strides(shape)
        reference = TensorInfo("", array.dtype, shape, strides, 0, len(self.storages))
        self.storages.append(Storage(f"the array at byte {extents[0].offset}", extents, nbytes))
        self.references.append(reference)
        return reference

    def _damaged(self, what: str) -> CheckpointError:
        return CorruptCheckpointError(f"the Paddle file is damaged: {what}", where=str(self._file.path))


_TYPE_CODES: Final = {dtype: code for code, dtype in NUMPY_TYPES.items()}
_FULL32: Final = 0xFFFFFFFF


def pdparams_segments(
    tensors: Sequence[OutputTensor], metadata: Callable[[], Mapping[str, str]], checksums: Mapping[int, int]
) -> Segments:
    """Lay out a `.pdparams` file; the format has no place for metadata. bfloat16 goes in as uint16 patterns."""
    del metadata, checksums
    yield b"\x80\x04"
    yield from _dictionary(tensors)
    yield b"."


def pkl_segments(
    tensors: Sequence[OutputTensor],
    metadata: Callable[[], Mapping[str, str]],
    checksums: Mapping[int, int],
    wrapper: Wrapper | None = None,
) -> Segments:
    """Lay out a pickle of NumPy arrays, in a dictionary around them if there is one; there is no place for metadata.

    Raises:
        UsageError: a tensor is bfloat16, which NumPy has not.
    """
    unknown = next((tensor.name for tensor in tensors if tensor.dtype is DType.BFLOAT16), None)
    if unknown is not None:
        raise UsageError("NumPy has no bfloat16", got=unknown, next_step="cast it with --dtype float32")
    if wrapper is None:
        yield from pdparams_segments(tensors, metadata, checksums)
        return
    yield b"\x80\x04}(" + text(wrapper.key)
    yield from _dictionary(tensors)
    for name, value in wrapper.beside.items():
        yield text(name) + (text(value) if isinstance(value, str) else b"\x88" if value else b"\x89")
    yield b"u."


def _dictionary(tensors: Sequence[OutputTensor]) -> Segments:
    yield b"}("
    for index, tensor in enumerate(tensors):
        yield text(tensor.name) + _array_before_bytes(tensor)
        yield index
        yield b"tb"
    yield b"u"


def _array_before_bytes(tensor: OutputTensor) -> bytes:
    """Pickle `_reconstruct(ndarray, (0,), b'b')` and its state up to the bytes."""
    reconstruct = global_name("numpy.core.multiarray", "_reconstruct") + global_name("numpy", "ndarray")
    empty = reconstruct + integers((0,)) + b"C\x01b" + b"\x87R"
    state = b"(K\x01" + integers(tensor.shape) + _type(tensor.dtype) + b"\x89"
    length = tensor.nbytes
    prefix = b"\x8e" + struct.pack("<Q", length) if length > _FULL32 else b"B" + struct.pack("<I", length)
    return empty + state + prefix


def _type(dtype: DType) -> bytes:
    """Pickle a `numpy.dtype` and its state `(3, byte order, None, None, None, -1, -1, 0)`."""
    order = "|" if dtype.itemsize == 1 else "<"
    made = global_name("numpy", "dtype") + text(_TYPE_CODES[dtype]) + b"\x89\x88\x87R"
    return (
        made
        + b"(K\x03"
        + text(order)
        + b"NNN"
        + b"J"
        + struct.pack("<i", -1)
        + b"J"
        + struct.pack("<i", -1)
        + b"K\x00tb"
    )
