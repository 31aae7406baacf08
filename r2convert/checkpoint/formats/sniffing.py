"""What kind of file is this, really? Known by its content, whatever it is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from typing import Final

from r2convert.checkpoint.formats.torch_legacy import starts_legacy
from r2convert.checkpoint.storage import OpenFile
from r2convert.errors import CheckpointError, CorruptCheckpointError, UnsupportedCheckpointError
from r2convert.files import printable

#: How many bytes of the file are looked at.
_HEAD_BYTES: Final = 4096

#: For a file that contradicts itself: whether it was damaged on the way, its digest tells.
COMPARE_DIGESTS: Final = "compare its SHA-256 with the publisher's; if they differ, download it again"

_UNPACK: Final = "unpack it and use the checkpoint inside"
_SAVE: Final = "load it with the program it belongs to and save its tensors by name as .pth, .safetensors or .pdparams"
_THE_FILE: Final = "give the checkpoint itself"
_FROM_A_LINK: Final = "if you downloaded it, the link leads to a page: take one that leads to the file itself"
_ONEFLOW: Final = "load the (unpacked) folder with `oneflow.load`, and save its tensors by name as .safetensors"
#: Of an inference model's parameters, the names stand in its program only.
PADDLE_PROGRAM: Final = (
    "use the training checkpoint (.pdparams), or load the model in Paddle and `paddle.save` its state_dict()"
)

#: Beginnings of other files (at the offset given), what they are, and what to do.
_BEGINNINGS: Final = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it stands for", "run `git lfs pull`"),
    (0, b"version https://hawser", "a Git LFS pointer, not the file it stands for", "run `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer, not the file it stands for", "run `git annex get`"),
    (0, b"\x1f\x8b", "a gzip file", "unpack it with gunzip (or tar -xzf) and use what is inside"),
    (0, b"BZh", "a bzip2 file", "unpack it with bunzip2 and use what is inside"),
    (0, b"\xfd7zXZ\x00", "an xz file", "unpack it with unxz and use what is inside"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it with unzstd and use what is inside"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file", "unpack it with unlz4 and use what is inside"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"\x89PNG", "a PNG image", _THE_FILE),
    (0, b"\xff\xd8\xff", "a JPEG image", _THE_FILE),
    (0, b"%PDF", "a PDF document", _THE_FILE),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and others write them", _SAVE),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file", _SAVE),
    (0, b"GGUF", "a GGUF file", _SAVE),
    (0, b"\x93NUMPY", "a single NumPy array (.npy)", _SAVE),
    (0, b"\x12\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "an MXNet parameter file", _SAVE),
    (0, b"MNNB", "an MNN model", _SAVE),
    (0, b"7767517\n", "an ncnn network", _SAVE),
    (4, b"TFL3", "a TensorFlow Lite model", _SAVE),
    (4, b"ET12", "an ExecuTorch program", "use the state_dict() of the module it was exported from"),
)
#: A TensorFlow checkpoint's index is an SSTable, which ends in this number.
_SSTABLE_END: Final = bytes.fromhex("57fb808b247547db")

_TENSORFLOW_DATA: Final = re.compile(r"\.data-\d{5}-of-\d{5}$")

_WEB_PAGE_MARKS: Final = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<error", b"<!--", b"<script")
_TITLE: Final = re.compile(rb"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_CHECKPOINT_SUFFIXES: Final = (".pth", ".pt", ".safetensors", ".pdparams", ".bin", ".ckpt", ".pkl", ".tar")
#: What pickles of protocols 0 and 1 begin with: a dictionary, a list, or the name of a class.
_OLD_PICKLE: Final = re.compile(
    rb"\((dp?\d*|lp?\d*)\n|c(collections|copy_?reg|builtins|__builtin__|numpy|torch)[\w.]*\n[\w.]+\n|[}\]]q\x00"
)


class Kind(Enum):
    """What the first bytes of a file announce."""

    ZIP = "zip"
    TORCH_LEGACY = "torch-legacy"
    PICKLE = "pickle"
    TAR = "tar"
    SAFETENSORS = "safetensors"
    LOD_TENSOR = "lod-tensor"
    SHARD_INDEX = "shard-index"
    MINDSPORE = "mindspore"


def sniff(file: OpenFile) -> Kind:
    """Return the kind of container a file's first bytes announce.

    Raises:
        TruncatedCheckpointError: the file is empty, or ends within what announces its kind.
        UnsupportedCheckpointError: it is something else; the message says what.
        CorruptCheckpointError: it is a zip archive with something in front of it.
    """
    head = file.read(0, min(file.size, _HEAD_BYTES), "the file")
    if not head:
        raise file.truncated(0, "a checkpoint", "an empty file")
    kind = _known_kind(head, file.size)
    if kind is None:
        raise _not_a_checkpoint(file, head)
    return kind


def other_archive(names: Collection[str]) -> tuple[str, str] | None:
    """Tell which other program's zip archive has members of these names.

    Returns:
        What it is and what to do about it; ``None`` if it may be a checkpoint.
    """
    last = {name.rpartition("/")[2] for name in names}
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)", _SAVE
    if "model.weights.h5" in last and "config.json" in last:
        return "a Keras model (.keras)", _SAVE
    if "pickled_data" in last or "snapshot_done" in last or ({"meta", "out"} <= last and "data.pkl" not in last):
        return (
            "a zipped OneFlow checkpoint",
            "unpack it, `oneflow.load` the folder, and save its tensors as .safetensors",
        )
    if "constants.pkl" in last or any("/code/__torch__" in name for name in names):
        return "a TorchScript program", "use its state dict: torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)"
    if "serialized_exported_program.json" in last or "archive_format" in last:
        return "a torch.export program (.pt2)", "use the state_dict() of the module it was exported from"
    if any("/.data/extern_modules" in f"/{name}" for name in names):
        return "a torch.package archive", "load it with torch.package and save the module's state_dict()"
    if "MAR-INF/MANIFEST.json" in names:
        return "a TorchServe model archive (.mar)", _UNPACK
    if "[Content_Types].xml" in names or "META-INF/MANIFEST.MF" in names:
        return "a zip archive of another program", _THE_FILE
    return None


def other_tar(names: Collection[str]) -> tuple[str, str]:
    """Tell what a tar archive of these members is, if it is none of Paddle 1.x variables: as `other_archive`."""
    what, next_step = other_folder(names)
    return f"a tar archive: {what}", next_step if next_step == PADDLE_PROGRAM else _UNPACK


def other_folder(names: Collection[str]) -> tuple[str, str]:
    """Tell what a folder with files of these names is, if it is none of Paddle 1.x variables: as `other_archive`."""
    if "saved_model.pb" in names:
        return "a TensorFlow saved model", _SAVE
    if "snapshot_done" in names or "pickled_data" in names:
        return "a OneFlow checkpoint", _ONEFLOW
    if "_METADATA" in names or "manifest.ocdbt" in names or "_CHECKPOINT_METADATA" in names:
        return "an Orbax checkpoint of JAX", _SAVE
    if any(name.endswith(".distcp") for name in names):
        return (
            "a distributed torch checkpoint",
            "join it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE`",
        )
    if any(name.endswith((".pdmodel", ".pdiparams", "__model__", "__params__")) for name in names):
        return "a Paddle inference model", PADDLE_PROGRAM
    files = [name for name in sorted(names) if name.endswith(_CHECKPOINT_SUFFIXES)]
    if files:
        return f"a folder with {', '.join(map(ascii, files[:3]))}", "give the path of a file in it"
    return "a folder of other files" if names else "an empty folder", "give the path of a checkpoint file"


def _known_kind(head: bytes, size: int) -> Kind | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind.ZIP
    if starts_legacy(head):
        return Kind.TORCH_LEGACY
    if head[257:262] == b"ustar":
        return Kind.TAR
    if len(head) > 8 and head[8:9] == b"{" and head[4:8] == b"\0\0\0\0":
        return Kind.SAFETENSORS
    if head[0] == 0x80 and len(head) > 1 and 2 <= head[1] <= 5:
        return Kind.PICKLE
    if len(head) >= 12 and head[:12] == b"\0" * 12 and size > 16 and head.strip(b"\0"):
        return Kind.LOD_TENSOR
    if head.lstrip().startswith(b"{") and b'"weight_map"' in head:
        return Kind.SHARD_INDEX
    return Kind.MINDSPORE if head[0] == 0x0A and _is_mindspore(head) else None


def _not_a_checkpoint(file: OpenFile, head: bytes) -> CheckpointError:
    found = _by_ends(file, head) or _by_text(head) or _by_structure(head)
    if found is not None:
        return unsupported(file, *found)
    tail = _tail(file, 22)
    if tail.startswith(b"PK\x05\x06"):
        return CorruptCheckpointError(
            "the file is a zip archive with other bytes in front of it",
            where=f"{file.path}, byte 0",
            expected="a zip record",
            got=_shown(head),
            next_step=COMPARE_DIGESTS,
        )
    if not head.strip(b"\0"):
        return file.truncated(0, "a checkpoint", f"zeros only in the first {len(head):,} bytes")
    if b"PK\x03\x04".startswith(head[:4]):
        return file.truncated(file.size, "a checkpoint", _shown(head))
    if _TENSORFLOW_DATA.search(file.path.name):  # bare numbers, which only the name tells
        return unsupported(file, "the data of a TensorFlow checkpoint", _SAVE)
    kind = "a text file" if _is_text(head) else "a file of an unknown kind"
    return unsupported(file, f"{kind} that starts with {_shown(head)}", _THE_FILE)


def unsupported(file: OpenFile, what: str, next_step: str) -> UnsupportedCheckpointError:
    """Return the error for a file that is something else."""
    return UnsupportedCheckpointError(
        "this is not a checkpoint that r2convert reads",
        where=str(file.path),
        expected="a torch, safetensors or Paddle file",
        got=what,
        next_step=next_step,
    )


def _by_ends(file: OpenFile, head: bytes) -> tuple[str, str] | None:
    for offset, beginning, what, next_step in _BEGINNINGS:
        if head.startswith(beginning, offset):
            return what, next_step
    if head[0] == 0x78 and len(head) > 1 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib-compressed data, such as joblib writes", _SAVE
    if _tail(file, len(_SSTABLE_END)) == _SSTABLE_END:
        return "the index of a TensorFlow checkpoint", _SAVE
    return None


def _by_text(head: bytes) -> tuple[str, str] | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.lower().startswith(_WEB_PAGE_MARKS):
        title = _TITLE.search(text)
        named = f', titled "{printable(title[1].decode("utf-8", "replace").strip())}"' if title else ""
        kind = "an XML document" if text.lower().startswith((b"<?xml", b"<error")) else "an HTML page"
        return f"{kind}{named}", _FROM_A_LINK
    if text.startswith((b"{", b"[")):
        return _json_text(head)
    if text.startswith(b"model_checkpoint_path:"):
        return "the list of a TensorFlow run's checkpoints", _SAVE
    if _OLD_PICKLE.match(head):
        return (
            "a pickle of protocol 0 or 1",
            "if you trust it, load it with Python's pickle and save its tensors as .safetensors",
        )
    return None


def _json_text(head: bytes) -> tuple[str, str]:
    if b'"magic"' in head and b'"pir"' in head:
        return "the program of a Paddle inference model", PADDLE_PROGRAM
    return "a JSON text", _THE_FILE


# -- formats made of protobuf messages -----------------------------------------------------------------------


def _by_structure(head: bytes) -> tuple[str, str] | None:
    if _is_msgpack_table(head):
        return "a msgpack file, as Flax writes them", _SAVE
    fields = list(_fields(head))
    first = dict(reversed(fields))  # of a field that is repeated, the first one
    for what, is_one, next_step in _PROTOBUF_FORMATS:
        if fields and is_one(fields[0][0], first):
            return what, next_step
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protobuf message: number, and value or bytes; the last one may be cut off by the head."""
    position = 0
    while position < len(data):
        tag, position = _number(data, position)
        field, wire = tag >> 3, tag & 7
        if wire not in (0, 2) or field == 0 or position > len(data):
            return
        value, position = _number(data, position)
        if wire == 0:
            yield field, value
            continue
        yield field, data[position : position + value]
        position += value


def _number(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        number |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return number, position
        shift += 7
    return number, len(data) + 1


_Fields = dict[int, int | bytes]


def _text(value: int | bytes | None) -> str:
    """A field's value as text; empty if it is none."""
    if not isinstance(value, bytes):
        return ""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _inner(value: int | bytes | None) -> _Fields:
    return dict(reversed(list(_fields(value)))) if isinstance(value, bytes) else {}


def _is_onnx(first: int, fields: _Fields) -> bool:
    """ModelProto: 1 ir_version, 2 producer_name, 3 producer_version, 7 graph (of named nodes), 8 opset_import."""
    if first != 1 or not isinstance(fields[1], int) or not 1 <= fields[1] <= 100:
        return False
    return bool(_text(fields.get(2))) or isinstance(fields.get(7), bytes) or isinstance(fields.get(8), bytes)


def _is_saved_model(first: int, fields: _Fields) -> bool:
    """SavedModel: 1 schema version (1), 2 MetaGraphDef, which begins with 1 MetaInfoDef."""
    return first == 1 and fields[1] == 1 and isinstance(_inner(fields.get(2)).get(1), bytes) and not _text(fields[2])


def _is_graph(first: int, fields: _Fields) -> bool:
    """GraphDef: 1 NodeDef, of 1 name, 2 operation (a name with a capital)."""
    node = _inner(fields[1]) if first == 1 else {}
    return bool(_text(node.get(1))) and _text(node.get(2))[:1].isupper()


def _is_mindspore(head: bytes) -> bool:
    """Checkpoint: 1 Value, of 1 tag, 2 TensorProto of 1 dims, 2 element type ("Float32")."""
    value = _inner(dict(reversed(list(_fields(head)))).get(1))
    return (
        bool(_text(value.get(1)))
        and re.fullmatch(r"[A-Z][a-zA-Z]+\d*|str", _text(_inner(value.get(2)).get(2))) is not None
    )


def _is_mindir(first: int, fields: _Fields) -> bool:
    """ModelProto of MindIR: 1 version, 2 producer's name."""
    return first == 1 and _text(fields.get(2)) == "MindSpore"


def _is_paddle_program(first: int, fields: _Fields) -> bool:
    """ProgramDesc: 1 BlockDesc, of 1 index (0), 2 parent (-1)."""
    block = _inner(fields[1]) if first == 1 else {}
    return block.get(1) == 0 and block.get(2) == (1 << 64) - 1


def _is_caffe(first: int, fields: _Fields) -> bool:
    """NetParameter: 1 name, 100 layers (2 in the first version)."""
    return first == 1 and bool(_text(fields[1])) and isinstance(fields.get(100), bytes)


_PROTOBUF_FORMATS: Final[tuple[tuple[str, Callable[[int, _Fields], bool], str], ...]] = (
    ("the program of a Paddle inference model", _is_paddle_program, PADDLE_PROGRAM),
    ("a MindSpore model (MindIR)", _is_mindir, "use the checkpoint (.ckpt) it was exported from"),
    ("a TensorFlow saved model", _is_saved_model, _SAVE),
    ("an ONNX model", _is_onnx, "use the checkpoint it was exported from"),
    ("a TensorFlow graph", _is_graph, _SAVE),
    ("a Caffe model", _is_caffe, _SAVE),
)


def _is_msgpack_table(head: bytes) -> bool:
    """A map whose first key is a short name, and whose first value is a map, an extension or a number."""
    at = {0xDE: 3, 0xDF: 5}.get(head[0], 1 if 0x81 <= head[0] <= 0x8F else 0)
    if not at or len(head) <= at:
        return False
    length, start = (head[at] & 0x1F, at + 1) if 0xA0 <= head[at] <= 0xBF else (0, at + 1)
    if head[at] == 0xD9 and len(head) > at + 1:
        length, start = head[at + 1], at + 2
    name = head[start : start + length]
    return 0 < length == len(name) and name.isascii() and name.decode("ascii").isprintable()


def _tail(file: OpenFile, length: int) -> bytes:
    at = max(file.size - length, 0)
    return file.read(at, file.size - at, "the end of the file")


def _is_text(head: bytes) -> bool:
    try:
        # The head may end in the middle of a letter.
        text = head.decode("utf-8") if len(head) < _HEAD_BYTES else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return text.translate(dict.fromkeys(b"\n\r\t")).isprintable()


def _shown(head: bytes) -> str:
    return ascii(head[:16].decode("latin-1"))
