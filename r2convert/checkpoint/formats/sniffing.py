"""What kind of file is this, really?"""

from __future__ import annotations

from enum import Enum
from typing import Final

from r2convert.checkpoint.formats.torch_legacy import MAGIC
from r2convert.checkpoint.storage import OpenFile
from r2convert.errors import CheckpointError, CorruptCheckpointError, UnsupportedCheckpointError

#: How many bytes of the file are looked at.
_HEAD_BYTES: Final = 1024

_AGAIN: Final = "Download the checkpoint again, from a link that leads to the file itself."

#: Beginnings of files that are no checkpoints, what they are, and what to do.
_OTHER_FILES: Final = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file it stands for",
        "Run `git lfs pull`, or download it.",
    ),
    (b"\x1f\x8b", "a gzip file", "Unpack it with gunzip (or tar -xzf) and use what is inside."),
    (b"BZh", "a bzip2 file", "Unpack it with bunzip2 and use what is inside."),
    (b"\xfd7zXZ\x00", "an xz file", "Unpack it with unxz and use what is inside."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it and use the checkpoint inside."),
    (b"Rar!", "a RAR archive", "Unpack it and use the checkpoint inside."),
    (b"\x89PNG", "a PNG image", _AGAIN),
    (b"\xff\xd8\xff", "a JPEG image", _AGAIN),
    (b"%PDF", "a PDF document", _AGAIN),
    (b"\x89HDF", "an HDF5 file", "r2convert reads torch, safetensors and Paddle checkpoints."),
    (b"GGUF", "a GGUF file", "r2convert reads torch, safetensors and Paddle checkpoints."),
    (b"\x93NUMPY", "a NumPy array file", "r2convert reads torch, safetensors and Paddle checkpoints."),
)

_WEB_PAGE_MARKS: Final = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<error")


class Kind(Enum):
    """What the first bytes of a file announce."""

    ZIP = "zip"
    TORCH_LEGACY = "torch-legacy"
    PICKLE = "pickle"
    TAR = "tar"
    SAFETENSORS = "safetensors"
    LOD_TENSOR = "lod-tensor"


def sniff(source: OpenFile) -> Kind:
    """Return the kind of container a file's first bytes announce.

    Raises:
        TruncatedCheckpointError: the file is empty, or ends within what announces its kind.
        UnsupportedCheckpointError: it is something else; the message says what.
        CorruptCheckpointError: it is a zip archive with something in front of it.
    """
    head = source.read(0, min(source.size, _HEAD_BYTES), "the file")
    if not head:
        raise source.truncated(0, "a checkpoint", "an empty file")
    kind = _known_kind(head, source.size)
    if kind is None:
        raise _not_a_checkpoint(source, head)
    return kind


def _known_kind(head: bytes, size: int) -> Kind | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind.ZIP
    if head.startswith(MAGIC) or (size < len(MAGIC) and MAGIC.startswith(head)):
        return Kind.TORCH_LEGACY
    if head[257:262] == b"ustar":
        return Kind.TAR
    if len(head) > 8 and head[8:9] == b"{" and head[4:8] == b"\0\0\0\0":
        return Kind.SAFETENSORS
    if head[0] == 0x80 and len(head) > 1 and 2 <= head[1] <= 5:
        return Kind.PICKLE
    if len(head) >= 12 and head[:12] == b"\0" * 12 and size > 16:
        return Kind.LOD_TENSOR
    return None


def _not_a_checkpoint(source: OpenFile, head: bytes) -> CheckpointError:
    for beginning, what, next_step in _OTHER_FILES:
        if head.startswith(beginning):
            return _unsupported(source, what, next_step)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_WEB_PAGE_MARKS):
        return _unsupported(source, "an HTML page: the download link answered with an error page", _AGAIN)
    if text.startswith((b"{", b"[")):
        return _unsupported(source, "a JSON text", _AGAIN)
    tail_at = max(source.size - 22, 0)
    if source.read(tail_at, source.size - tail_at, "the end of the file").startswith(b"PK\x05\x06"):
        return CorruptCheckpointError(
            "The file is a zip archive with other bytes in front of it",
            where=f"{source.path}, byte 0",
            expected="a zip record",
            got=_shown(head),
            next_step=_AGAIN,
        )
    if b"PK\x03\x04".startswith(head[:4]) or not head.strip(b"\0"):
        return source.truncated(source.size, "a checkpoint", _shown(head))
    kind = "a text file" if _is_text(head) else "a file of an unknown kind"
    return _unsupported(source, f"{kind} that starts with {_shown(head)}", _AGAIN)


def _unsupported(source: OpenFile, what: str, next_step: str) -> UnsupportedCheckpointError:
    return UnsupportedCheckpointError(
        "This is no checkpoint",
        where=str(source.path),
        expected="a torch, safetensors or Paddle file",
        got=what,
        next_step=next_step,
    )


def _is_text(head: bytes) -> bool:
    try:
        return head.decode("utf-8").replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return False


def _shown(head: bytes) -> str:
    return ascii(head[:16].decode("latin-1"))
