"""Bad Paddle files: arrays and variables whose parts do not fit."""

from __future__ import annotations

import struct
from collections.abc import Callable

from r2convert.checkpoint.pickles.pickle_output import global_name, integer, integers, text
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from r2convert.selftest.bad_file import BadFile
from r2convert.selftest.specimens import FLOATS, dictionary, lod_tensor, numpy_array, pdparams, tar


def bad_paddle_files() -> tuple[BadFile, ...]:
    """Return the Paddle part of the catalogue."""
    corrupt, truncated = CorruptCheckpointError, TruncatedCheckpointError
    return (
        _pickle("an array with too few bytes", corrupt, lambda: _array(numpy_array(FLOATS[:-4]))),
        _pickle("an array with too many bytes", corrupt, lambda: _array(numpy_array(FLOATS + b"1234"))),
        _pickle("an array whose text has too few bytes", corrupt, _short_text),
        _pickle("an array whose text is no Latin-1", corrupt, _foreign_text),
        _pickle("an array of objects", UnsupportedCheckpointError, lambda: _array(numpy_array(code="O8"))),
        _pickle("big-endian numbers", UnsupportedCheckpointError, lambda: _array(numpy_array(order=">"))),
        _pickle("an array without contents", corrupt, _empty_array),
        _pickle(
            "a negative length", corrupt, lambda: _array(numpy_array(shape=(3, 4)).replace(b"(K\x03K\x04t", _MINUS))
        ),
        _pickle("a split array that lacks a piece", corrupt, _split_array),
        _pickle("a NumPy scalar", UnsafeCheckpointError, _scalar),
        _pickle("bytes behind the pickle", corrupt, lambda: pdparams() + b"x"),
        _pickle("a truncated array", truncated, lambda: pdparams()[:-20]),
        _variable("a negative description size", corrupt, lambda: lod_tensor(description_size=-1)),
        _variable("a huge description size", LimitExceededError, lambda: lod_tensor(description_size=1 << 30)),
        _variable("2^60 level-of-detail tables", LimitExceededError, lambda: lod_tensor(levels=1 << 60)),
        _variable("a huge level-of-detail table", LimitExceededError, lambda: lod_tensor(levels=1)),
        _variable("a number without an end", corrupt, lambda: lod_tensor(description=b"\x08" + b"\xff" * 11)),
        _variable(
            "a number that is cut off", truncated, lambda: lod_tensor(description=b"\x08\x05\x10\xff", payload=b"")
        ),
        _variable("dimensions that overflow", LimitExceededError, lambda: lod_tensor([1 << 62, 1 << 62])),
        _variable("a negative dimension", corrupt, lambda: lod_tensor([(1 << 64) - 1])),
        _variable("an unknown element type", UnsupportedCheckpointError, lambda: lod_tensor(kind=24)),
        _variable("an unknown field", corrupt, lambda: lod_tensor(description=b"\x1a\x00")),
        _variable("too few elements", truncated, lambda: lod_tensor(payload=FLOATS[:-1])),
        _variable("too many elements", corrupt, lambda: lod_tensor(payload=FLOATS + b"x")),
        BadFile("variables: two of one name", ".tar", corrupt, lambda: tar({"a/w": lod_tensor(), "b/w": lod_tensor()})),
    )


_MINUS = b"(J" + struct.pack("<i", -3) + b"J" + struct.pack("<i", -4) + b"t"


def _pickle(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"pdparams: {name}", ".pdparams", expected, make)


def _variable(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"variables: {name}", ".tar", expected, lambda: tar({"res/conv1_weights": make()}))


def _array(value: bytes) -> bytes:
    return pdparams([("conv.weight", value)])


def _short_text() -> bytes:
    """Thirty letters of two bytes each: sixty bytes in the file could be the array's 48, but are 30."""
    return _array(numpy_array(b"\xff" * 30, as_text=True))


def _foreign_text() -> bytes:
    foreign = "\u20ac".encode() * 20
    encoded = "\xff".encode("latin-1").decode("latin-1").encode() * 30
    return _array(numpy_array(b"\xff" * 30, as_text=True).replace(encoded, foreign))


def _empty_array() -> bytes:
    reconstruct = global_name("numpy.core.multiarray", "_reconstruct") + global_name("numpy", "ndarray")
    return _array(reconstruct + integers((0,)) + b"C\x01b\x87R")


def _split_array() -> bytes:
    slices = b"](" + text("w@@.0") + text("w@@.1") + b"e"
    split = dictionary([("w", dictionary([("OriginShape", integers((3, 4))), ("slices", slices)]))])
    piece = numpy_array(FLOATS[:24], (6,))
    return pdparams([("w@@.0", piece), ("UnpackBigParamInfor@@", split)])


def _scalar() -> bytes:
    call = global_name("numpy.core.multiarray", "scalar") + b"(" + integer(1) + b"tR"
    return pdparams([("conv.weight", numpy_array()), ("accuracy", call)])
