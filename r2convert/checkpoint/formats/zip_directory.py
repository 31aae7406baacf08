"""A strict reader of zip archives: the records must tile the file, and nothing may be said twice.

Zip files describe each record in two places, allow gaps and let anything stand before and after; programs
differ in which description they trust. Here both must agree, every byte must be accounted for, and only
stored (not compressed, not encrypted) records are taken. Layout: PKWARE APPNOTE 6.3.10.

Python's own `zipfile` would read the central directory alone and leave the rest to be done. It passes over what
stands before and between the records, reads a directory of any size into memory, tells truncation from other damage
by nothing but its messages, and takes longer to import (15 ms) than this takes to read the directory of a checkpoint
of a thousand records (8 ms).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from r2convert.checkpoint import limits
from r2convert.checkpoint.formats.sniffing import COMPARE_DIGESTS, other_archive, unsupported
from r2convert.checkpoint.storage import OpenFile, Window
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    UnsupportedCheckpointError,
)
from r2convert.files import printable

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR: Final = struct.Struct("<4sIQI")
_DESCRIPTORS: Final = (struct.Struct("<IQQ"), struct.Struct("<III"))
_DESCRIPTOR_FLAG: Final = 0x0008
_UTF8_FLAG: Final = 0x0800
_ENCRYPTED_FLAG: Final = 0x0001
_FULL16: Final = 0xFFFF
_FULL32: Final = 0xFFFFFFFF
_ZIP64_EXTRA: Final = 1


class ZipRecord(NamedTuple):
    """One stored record.

    Attributes:
        name: its name in the archive.
        header_offset: where its local header starts in the file, in bytes.
        offset: where its payload starts.
        size: how many bytes the payload has.
        crc32: its checksum; 0 also where the writer left it out.
    """

    name: str
    header_offset: int
    offset: int
    size: int
    crc32: int


class _Entry(NamedTuple):
    """A record as the central directory describes it, at byte ``at``."""

    at: int
    name: bytes
    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    header_offset: int


def read_zip_directory(file: OpenFile) -> dict[str, ZipRecord]:
    """Read and cross-check an archive's whole directory.

    Returns:
        The records by name, in file order. No payload has been read.

    Raises:
        TruncatedCheckpointError: the archive's end is missing.
        CorruptCheckpointError: two descriptions contradict each other, or bytes are not accounted for.
        UnsupportedCheckpointError: it is another program's archive, or a record is compressed or encrypted.
        LimitExceededError: too many records.
    """
    start, end, count = _locate_directory(file)
    file.budget.charge(count * limits.MEMBER_UNITS)
    entries = sorted(_central_entries(file, start, end, count), key=lambda entry: entry.header_offset)
    other = other_archive([entry.name.decode("utf-8", "replace") for entry in entries])
    if other:
        raise unsupported(file, *other)
    records: dict[str, ZipRecord] = {}
    position = 0
    window = Window(file)
    for entry in entries:
        _require_stored(file, entry)
        record, position = _read_local(file, window, entry, position, start)
        if record.name in records:
            raise _corrupt(file, f"the archive has two records named {record.name!r}", entry.header_offset)
        records[record.name] = record
    if position != start:
        raise _corrupt(file, "the archive has bytes that belong to no record", position, f"{start - position} bytes")
    return records


def _corrupt(
    file: OpenFile, what: str, offset: int, got: str | None = None, expected: str | None = None
) -> CheckpointError:
    return CorruptCheckpointError(
        what,
        where=f"{file.path}, byte {offset}",
        expected=expected,
        got=got,
        next_step=COMPARE_DIGESTS,
    )


def _locate_directory(file: OpenFile) -> tuple[int, int, int]:
    """Return where the central directory starts and ends, and how many entries it has."""
    end_at = file.size - _END.size
    if end_at < 0:
        raise _without_end(file)
    signature, disk, start_disk, here, count, size, start, comment = _END.unpack(
        file.read(end_at, _END.size, "the end of the zip directory")
    )
    if signature != b"PK\x05\x06" or comment:
        raise _without_end(file)
    directory_end = end_at
    if _has_locator(file, end_at):
        directory_end, here, count, size, start = _read_end64(file, end_at)
        disk = start_disk = 0
    if disk or start_disk or here != count:
        raise _corrupt(file, "the archive is split over several files", end_at)
    if start + size != directory_end:
        raise _corrupt(
            file,
            "the zip directory is not where the archive says",
            start,
            f"{start} + {size} bytes",
            f"an end at byte {directory_end}",
        )
    if count > limits.MAX_MEMBERS or size > limits.MAX_DIRECTORY_BYTES:
        raise LimitExceededError(
            "the archive has too many records", where=str(file.path), expected=f"at most {limits.MAX_MEMBERS}"
        )
    return start, start + size, count


def _without_end(file: OpenFile) -> CheckpointError:
    """Tell an archive that was cut off from one with something after it."""
    length = min(file.size, 2 * _FULL16)
    found = file.read(file.size - length, length, "the end of the file").rfind(b"PK\x05\x06")
    if found >= 0 and length - found > _END.size:
        behind = file.size - length + found + _END.size
        return _corrupt(file, "the archive has bytes after its end", behind, f"{file.size - behind} bytes")
    return file.truncated(file.size, "the end of a zip directory", "the end of the file")


def _has_locator(file: OpenFile, end_at: int) -> bool:
    at = end_at - _LOCATOR.size
    return at >= 0 and file.read(at, 4, "a zip64 locator") == b"PK\x06\x07"


def _read_end64(file: OpenFile, end_at: int) -> tuple[int, int, int, int, int]:
    locator_at = end_at - _LOCATOR.size
    at = locator_at - _END64.size
    _, disk, stated, disks = _LOCATOR.unpack(file.read(locator_at, _LOCATOR.size, "a zip64 locator"))
    if at < 0 or stated != at or disk or disks != 1:
        raise _corrupt(file, "the zip64 locator points elsewhere", locator_at, f"byte {stated}", f"byte {at}")
    signature, length, _, _, disk, start_disk, here, count, size, start = _END64.unpack(
        file.read(at, _END64.size, "the end of the zip64 directory")
    )
    if signature != b"PK\x06\x06" or length != _END64.size - 12 or disk or start_disk:
        raise _corrupt(file, "the end of the zip64 directory is damaged", at)
    plain = _END.unpack(file.read(end_at, _END.size, "the end of the zip directory"))
    for narrow, wide, full in zip(plain[3:7], (here, count, size, start), (_FULL16,) * 2 + (_FULL32,) * 2, strict=True):
        if narrow not in (full, wide):
            raise _corrupt(file, "the two ends of the zip directory contradict each other", end_at)
    return at, here, count, size, start


def _central_entries(file: OpenFile, start: int, end: int, count: int) -> Iterator[_Entry]:
    directory = file.read(start, end - start, "the zip directory")
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > len(directory):
            raise _corrupt(file, "the zip directory ends in the middle of an entry", start + position)
        entry, length = _central_entry(file, directory, position, start + position)
        yield entry
        position += length
    if position != len(directory):
        raise _corrupt(file, "the zip directory has more entries than it says", start + position)


def _central_entry(file: OpenFile, directory: bytes, position: int, at: int) -> tuple[_Entry, int]:
    fields = _CENTRAL.unpack_from(directory, position)
    signature, flags, method, crc32, packed, size = fields[0], *fields[3:5], *fields[7:10]
    name_length, extra_length, comment_length, disk, header_offset = *fields[10:14], fields[16]
    if signature != b"PK\x01\x02" or comment_length or disk:
        raise _corrupt(file, "an entry of the zip directory is damaged", at)
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_length
    name, extra = directory[name_at:extra_at], directory[extra_at : extra_at + extra_length]
    if len(name) != name_length or len(extra) != extra_length:
        raise _corrupt(file, "the zip directory ends in the middle of an entry", at)
    if _FULL32 in (size, packed, header_offset):
        size, packed, header_offset = _wide(file, extra, (size, packed, header_offset), at)
    return _Entry(at, name, flags, method, crc32, packed, size, header_offset), extra_at + extra_length - position


def _require_stored(file: OpenFile, entry: _Entry) -> None:
    what = None
    if entry.flags & _ENCRYPTED_FLAG:
        what = "is encrypted"
    elif entry.method:
        what = "is compressed" if entry.method == 8 else f"uses compression method {entry.method}"
    elif entry.flags & ~(_DESCRIPTOR_FLAG | _UTF8_FLAG):
        what = f"has unknown flags {entry.flags:#06x}"
    if what:
        raise UnsupportedCheckpointError(
            f"the record {_shown(entry.name)} {what}",
            where=f"{file.path}, byte {entry.at}",
            expected="a stored record, as torch writes them",
            next_step="if you zipped a checkpoint yourself, unzip it first and use the file inside",
        )
    if entry.packed != entry.size:
        raise _corrupt(file, "a stored record states two sizes", entry.at, f"{entry.packed} and {entry.size} bytes")


def _wide(file: OpenFile, extra: bytes, fields: tuple[int, ...], at: int) -> list[int]:
    """Return 32-bit fields, those that are full with their 64-bit values from the zip64 extra field."""
    full = fields.count(_FULL32)
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        position += 4
        if kind == _ZIP64_EXTRA:
            if length != 8 * full or position + length > len(extra):
                break
            values = iter(struct.unpack_from(f"<{full}Q", extra, position))
            return [next(values) if field == _FULL32 else field for field in fields]
        position += length
    raise _corrupt(file, "an entry of the zip directory lacks its 64-bit sizes", at)


def _read_local(
    file: OpenFile, window: Window, entry: _Entry, position: int, directory_start: int
) -> tuple[ZipRecord, int]:
    """Check a record's own header against the directory; return it and where the next record must start."""
    at = entry.header_offset
    if at != position:
        what = "two records overlap" if at < position else "the archive has bytes that belong to no record"
        raise _corrupt(file, what, min(at, position), f"a record at byte {at}", f"one at byte {position}")
    header = window.read(at, _LOCAL.size + len(entry.name), "a zip record's header")
    signature, _, flags, method, _, _, crc32, packed, size, name_length, extra_length = _LOCAL.unpack_from(header)
    if signature != b"PK\x03\x04" or name_length != len(entry.name) or header[_LOCAL.size :] != entry.name:
        raise _corrupt(file, "a record's own header names it differently from the directory", at)
    extra = window.read(at + len(header), extra_length, "a zip record's extra field")
    if _FULL32 in (size, packed):
        size, packed = _wide(file, extra, (size, packed), at)
    stated = (crc32, packed, size)
    deferred = flags & _DESCRIPTOR_FLAG and stated in ((0, 0, 0), (0, entry.size, entry.size))
    if flags != entry.flags or method or (not deferred and stated != (entry.crc32, entry.size, entry.size)):
        raise _corrupt(file, "a record's own header contradicts the directory", at)
    offset = at + len(header) + extra_length
    end = offset + entry.size
    if end > directory_start:
        raise _corrupt(file, "a record reaches into the zip directory", at, f"an end at byte {end}")
    if flags & _DESCRIPTOR_FLAG:
        end = _end_of_descriptor(file, window, entry, end)
    return ZipRecord(_name(file, entry, at), at, offset, entry.size, entry.crc32), end


def _end_of_descriptor(file: OpenFile, window: Window, entry: _Entry, at: int) -> int:
    """Check the sizes repeated after a record's payload; 32 or 64 bits wide, with or without a signature."""
    available = window.read(at, min(24, file.size - at), "a zip data descriptor")
    stated = (entry.crc32, entry.size, entry.size)
    for start in (4, 0) if available.startswith(b"PK\x07\x08") else (0,):
        for layout in _DESCRIPTORS:
            if start + layout.size <= len(available) and layout.unpack_from(available, start) == stated:
                return at + start + layout.size
    raise _corrupt(file, "the sizes after a record contradict the directory", at)


def _name(file: OpenFile, entry: _Entry, at: int) -> str:
    try:
        name = entry.name.decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or not name:
        raise _corrupt(file, "a record's name is not readable text", at, _shown(entry.name))
    return name


def _shown(name: bytes) -> str:
    return printable(name[:80].decode("utf-8", "backslashreplace"))
