"""The catalogue of bad files: everything a reader of checkpoints must refuse, and with which error."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from r2convert.checkpoint.pickles.pickle_output import global_name, integers, text
from r2convert.errors import (
    AccessError,
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    R2ConvertError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from r2convert.selftest.bad_torch_files import bad_files_by_torch, bad_legacy_files, bad_pickles, bad_zip_files
from r2convert.selftest.specimens import (
    FLOATS,
    dictionary,
    lod_tensor,
    numpy_array,
    pdparams,
    safetensors,
    tar,
    torch_zip,
    variable_length,
)
from r2convert.selftest.torch_judge import judge_with_torch
from r2convert.selftest.trial import BadFile, Trial, try_bad_file


def bad_files() -> tuple[BadFile, ...]:
    """Return the whole catalogue."""
    return (
        *not_checkpoints(),
        *bad_zip_files(),
        *bad_pickles(),
        *bad_legacy_files(),
        *bad_files_by_torch(),
        *bad_safetensors_files(),
        *bad_paddle_files(),
    )


def not_checkpoints() -> tuple[BadFile, ...]:
    """Return the part of the catalogue that is about mistaken files."""
    return (
        _other("an empty file", TruncatedCheckpointError, lambda: b""),
        _other("an HTML error page", UnsupportedCheckpointError, _web_page),
        _other("a JSON error message", UnsupportedCheckpointError, lambda: b'{"error": "quota exceeded"}'),
        _other("a Git LFS pointer", UnsupportedCheckpointError, _pointer),
        _other("a git-annex pointer", UnsupportedCheckpointError, lambda: b"/annex/objects/SHA256E-s10--00.pth\n"),
        _other("a gzip file", UnsupportedCheckpointError, lambda: gzip.compress(torch_zip(), mtime=0)),
        _other("a PNG image", UnsupportedCheckpointError, lambda: b"\x89PNG\r\n\x1a\n" + bytes(100)),
        *(_other(name, UnsupportedCheckpointError, make) for name, make in _OTHER_PROGRAMS),
        _other("an index that leads out of its folder", UnsafeCheckpointError, lambda: _index("../a.safetensors")),
        _other("an index of a missing shard", AccessError, lambda: _index("missing.safetensors")),
        _other("an index without files", UnsupportedCheckpointError, lambda: b'{"weight_map": {}}'),
        _other("an index that is cut off", CorruptCheckpointError, lambda: _index("a.safetensors")[:-3]),
        _other("a text file", UnsupportedCheckpointError, lambda: b"conv1.weight 64 3 7 7\n"),
        _other("random bytes", UnsupportedCheckpointError, lambda: bytes(range(255, 0, -1))),
        _other("zeros: a download that was never filled in", TruncatedCheckpointError, lambda: bytes(12)),
        _other("more zeros than a variable's header has", TruncatedCheckpointError, lambda: bytes(4096)),
    )


def _other(name: str, expected: type[R2ConvertError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"no checkpoint: {name}", ".pth", expected, make)


def _web_page() -> bytes:
    return b"\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"


def _pointer() -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 102400000\n"


def _index(shard: str) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": {"conv.weight": shard}}).encode()


def _message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Make a protobuf message of numbers and of texts, messages or bytes, all below 128 bytes."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += bytes([number << 3]) + variable_length(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            encoded += bytes([number << 3 | 2, len(data)]) + data
    return encoded


def _archive(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(64))
    return file.getvalue()


_OTHER_PROGRAMS: Final[tuple[tuple[str, Callable[[], bytes]], ...]] = (
    ("an ONNX model", lambda: _message((1, 8), (2, "pytorch"), (3, "2.13.0"), (7, b"\x0a\x00"))),
    ("a MindSpore model", lambda: _message((1, "0.1.0"), (2, "MindSpore"), (3, "2.10.0"))),
    ("a TensorFlow saved model", lambda: _message((1, 1), (2, _message((1, _message((4, "serve"))))))),
    ("a TensorFlow graph", lambda: _message((1, _message((1, "input"), (2, "Placeholder"))))),
    ("a Paddle program", lambda: _message((1, _message((1, 0), (2, (1 << 64) - 1))))),
    ("all parameters of a Paddle model in one file", lambda: lod_tensor() + lod_tensor()),
    ("an HDF5 file", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100)),
    ("a Flax checkpoint", lambda: b"\x81\xa6params\x81\xa5conv1\x80"),
    ("a NumPy array", lambda: b"\x93NUMPY\x01\x00" + bytes(100)),
    ("a NumPy archive", lambda: _archive("conv1.weight.npy", "fc.weight.npy")),
    ("a Keras model", lambda: _archive("metadata.json", "config.json", "model.weights.h5")),
    ("a zipped OneFlow checkpoint", lambda: _archive("res2net/conv1.weight/meta", "res2net/conv1.weight/out")),
    ("a pickle of protocol 0", lambda: b"(dp0\nVconv1.weight\np1\nI1\ns."),
)


def bad_safetensors_files() -> tuple[BadFile, ...]:
    """Return the safetensors part of the catalogue."""
    corrupt = CorruptCheckpointError
    return (
        _safetensors("tensors that overlap", corrupt, lambda: _two([0, 8], [4, 12], 12)),
        _safetensors("a hole between tensors", corrupt, lambda: _two([0, 8], [12, 20], 20)),
        _safetensors("a hole before the first tensor", corrupt, lambda: _two([4, 12], [12, 20], 20)),
        _safetensors("bytes after the last tensor", corrupt, lambda: safetensors() + b"x"),
        _safetensors("a truncated buffer", TruncatedCheckpointError, lambda: safetensors()[:-1]),
        _safetensors("a truncated header", TruncatedCheckpointError, lambda: safetensors()[:40]),
        _safetensors("the same tensor twice", corrupt, _same_name),
        _safetensors("the same field twice", corrupt, lambda: safetensors(b'{"a":{"dtype":"F32","dtype":"F32"}}', b"")),
        _safetensors("a shape that overflows", LimitExceededError, lambda: _one("F32", [1 << 33, 1 << 33], [0, 0])),
        _safetensors("a negative length", corrupt, lambda: _one("F32", [-1], [0, 0])),
        _safetensors("a shape that does not fit its bytes", corrupt, lambda: _one("F32", [3], [0, 8], bytes(8))),
        _safetensors("offsets that run backwards", corrupt, lambda: _one("F32", [2], [8, 0], bytes(8))),
        _safetensors("offsets that are not numbers", corrupt, lambda: _one("F32", [2], ["0", "8"], bytes(8))),
        _safetensors("a header of 2^63 bytes", LimitExceededError, _huge_header),
        _safetensors("an unknown element type", UnsupportedCheckpointError, lambda: _one("F7", [8], [0, 8], bytes(8))),
        _safetensors("an unknown field", corrupt, lambda: safetensors({"a": {"x": 1}}, b"")),
        _safetensors("a header that is not an object", corrupt, lambda: safetensors(b'{"a":1}', b"")),
        _safetensors("a header that is no JSON", corrupt, lambda: safetensors(b"{nonsense", b"")),
        _safetensors("a header that is not UTF-8", corrupt, lambda: safetensors(b'{"\xff":1}', b"")),
        _safetensors("a number that is none", corrupt, lambda: safetensors(b'{"a":NaN}', b"")),
        _safetensors("100,000 nested lists", LimitExceededError, lambda: safetensors(b'{"a":' + b"[" * 100_000, b"")),
        _safetensors("metadata that is not text", corrupt, lambda: safetensors({"__metadata__": {"a": 1}}, b"")),
    )


def _safetensors(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"safetensors: {name}", ".safetensors", expected, make)


def _one(dtype: str, shape: list[int], offsets: list[object], buffer: bytes = b"") -> bytes:
    return safetensors({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, buffer)


def _two(first: list[int], second: list[int], size: int) -> bytes:
    header = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": offsets} for name, offsets in (("a", first), ("b", second))
    }
    return safetensors(header, bytes(size))


def _same_name() -> bytes:
    entry = b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return safetensors(b"{" + entry + b"," + entry + b"}", b"")


def _huge_header() -> bytes:
    return struct.pack("<Q", 1 << 31) + safetensors()[8:]


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
        _pickle("bytes after the pickle", corrupt, lambda: pdparams() + b"x"),
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


def try_every_file(*, with_torch: bool) -> tuple[list[Trial], list[str] | None]:
    """Make every bad file in a temporary folder and read it.

    Returns:
        One trial a file, and what torch did with each if ``with_torch``.
    """
    with tempfile.TemporaryDirectory(prefix="r2convert-selftest-") as folder:
        trials = [
            try_bad_file(bad_file, Path(folder) / f"{index:03}{bad_file.suffix}")
            for index, bad_file in enumerate(bad_files())
        ]
        return trials, judge_with_torch([trial.path for trial in trials]) if with_torch else None
