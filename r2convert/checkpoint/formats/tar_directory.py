"""A strict reader of uncompressed tar archives: regular files and folders, each named once, nothing extracted.

Layout: POSIX.1-2001 "ustar Interchange Format" and pax headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from r2convert.checkpoint import limits
from r2convert.checkpoint.formats.sniffing import COMPARE_DIGESTS
from r2convert.checkpoint.storage import OpenFile
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    UnsafeCheckpointError,
)

_BLOCK: Final = 512
_REGULAR: Final = (b"0", b"\0", b"7")
_FOLDER: Final = b"5"
_EXTENDED: Final = b"x"
_GLOBAL_EXTENDED: Final = b"g"
_OTHER_KINDS: Final = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
#: Extended attributes that change nothing about a member's name or bytes.
_HARMLESS_KEYWORDS: Final = frozenset(
    {"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment", "charset", "hdrcharset"}
)


class TarMember(Struct, frozen=True):
    """A regular file in the archive.

    Attributes:
        name: its path in the archive.
        offset: where its bytes start in the archive file.
        size: how many bytes it has.
    """

    name: str
    offset: int
    size: int


def read_tar_directory(file: OpenFile) -> dict[str, TarMember]:
    """Walk all headers of a tar archive.

    Returns:
        The regular files by name, in archive order. No contents have been read.

    Raises:
        TruncatedCheckpointError: the archive ends within a member, or without its end mark.
        CorruptCheckpointError: a header is damaged, a name appears twice, or there is something after the end.
        UnsafeCheckpointError: a member is not a regular file or folder, or its path points outside the archive.
        LimitExceededError: too many members.
    """
    members: dict[str, TarMember] = {}
    for name, kind, payload, size in _entries(file):
        _require_harmless(file, name, kind, payload - _BLOCK)
        if kind == _FOLDER:
            continue
        if name in members:
            raise _corrupt(file, f"the archive has two members named {name!a}", payload - _BLOCK)
        members[name] = TarMember(name, payload, size)
    return members


def _entries(file: OpenFile) -> Iterator[tuple[str, bytes, int, int]]:
    """Yield every member's name, kind, first byte and size, with extended headers applied, up to the end mark."""
    position, count = 0, 0
    long_name: str | None = None
    while (header := _read_header(file, position)) is not None:
        file.budget.charge(limits.MEMBER_UNITS)
        count += 1
        if count > limits.MAX_MEMBERS:
            raise LimitExceededError(
                "the archive has too many members", where=str(file.path), expected=f"at most {limits.MAX_MEMBERS}"
            )
        kind, payload = header[156:157], position + _BLOCK
        size = _number(file, header, position, 124, 12)
        following = payload + -(-size // _BLOCK) * _BLOCK
        if following > file.size:
            raise file.truncated(file.size, f"the archive up to byte {following}", f"{file.size} bytes")
        if kind in (_EXTENDED, _GLOBAL_EXTENDED):
            name = _extended_name(file, payload, size)
            long_name = name if kind == _EXTENDED else long_name
        else:
            yield long_name or _name(file, header, position), kind, payload, size
            long_name = None
        position = following
    _require_end(file, position)


def _corrupt(file: OpenFile, what: str, offset: int, got: str | None = None) -> CheckpointError:
    return CorruptCheckpointError(what, where=f"{file.path}, byte {offset}", got=got, next_step=COMPARE_DIGESTS)


def _read_header(file: OpenFile, position: int) -> bytes | None:
    """Return the header at ``position`` after checking its checksum; ``None`` at the end mark."""
    header = file.read(position, _BLOCK, "a tar header")
    if not any(header):
        return None
    stated = _number(file, header, position, 148, 8)
    computed = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
    if stated != computed:
        raise _corrupt(file, "a tar header does not match its checksum", position)
    if header[257:262] != b"ustar":
        raise _corrupt(file, "a tar header is of an unknown kind", position)
    return header


def _number(file: OpenFile, header: bytes, position: int, start: int, length: int) -> int:
    field = header[start : start + length].strip(b" \0")
    if not field.isdigit() or b"8" in field or b"9" in field:
        raise _corrupt(file, "a tar header has a number that is none", position + start, ascii(field))
    return int(field, 8)


def _name(file: OpenFile, header: bytes, position: int) -> str:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    # GNU tar keeps times where POSIX has the prefix; only the exact POSIX magic has one.
    full = prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
    return _decoded(file, full, position)


def _decoded(file: OpenFile, name: bytes, position: int) -> str:
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or len(text) > limits.MAX_NAME_LENGTH:
        raise _corrupt(file, "a tar member's name is not readable text", position, ascii(name[:80]))
    return text


def _require_harmless(file: OpenFile, name: str, kind: bytes, position: int) -> None:
    what = None
    if kind not in (*_REGULAR, _FOLDER):
        what = _OTHER_KINDS.get(kind, f"a member of the unknown kind {kind!a}")
    elif name.startswith("/") or ".." in PurePosixPath(name).parts:
        what = "a path that points outside the archive"
    if what:
        raise UnsafeCheckpointError(
            f"the archive's member {name[:80]!a} is {what}",
            where=f"{file.path}, byte {position}",
            expected="regular files and folders",
            next_step="do not unpack this archive with another program; get it from its publisher",
        )


def _extended_name(file: OpenFile, payload: int, size: int) -> str | None:
    """Return the name an extended header gives the next member, if it gives one."""
    if size > limits.MAX_EXTENDED_HEADER_BYTES:
        raise LimitExceededError(
            "a tar extended header is too large",
            where=f"{file.path}, byte {payload}",
            expected=f"at most {limits.MAX_EXTENDED_HEADER_BYTES} bytes",
            got=f"{size} bytes",
        )
    records = file.read(payload, size, "a tar extended header")
    name, position = None, 0
    while position < len(records):
        length_field, _, _ = records[position:].partition(b" ")
        length = int(length_field) if length_field.isdigit() and len(length_field) < 6 else 0
        record = records[position : position + length]
        keyword, equals, value = record[len(length_field) + 1 : -1].partition(b"=")
        if not equals or len(record) != length or not record.endswith(b"\n"):
            raise _corrupt(file, "a tar extended header is damaged", payload + position)
        if keyword == b"path":
            name = _decoded(file, value, payload + position)
        elif keyword.decode("latin-1") not in _HARMLESS_KEYWORDS:
            raise UnsafeCheckpointError(
                "a tar extended header changes more than a name",
                where=f"{file.path}, byte {payload + position}",
                got=ascii(keyword[:40].decode("latin-1")),
            )
        position += length
    return name


def _require_end(file: OpenFile, position: int) -> None:
    """The end mark is two empty blocks, and nothing but empty blocks follows."""
    available = file.size - position
    if available < 2 * _BLOCK or available % _BLOCK:
        raise file.truncated(position, "two or more whole empty blocks", f"{available} bytes")
    if available > limits.MAX_TAR_PADDING_BYTES or any(file.read(position, available, "the end of the archive")):
        raise _corrupt(file, "the archive has bytes after its end mark", position, f"{available} bytes")
