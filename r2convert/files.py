"""Files that appear whole or not at all, their digests, untrusted text made safe to print, and the TOML parser.

A file is written under a hidden name beside its target, synced, and only then linked or renamed to it. It is locked
while it is being written, so that a later run can tell leftovers of a killed run from the file of a live one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from r2convert.errors import AccessError, NoSpaceError, OutputExistsError

try:
    # Compiled: tomllib takes four times as long for the whole catalogue, a tenth of a short command.
    from tomli import loads
except ModuleNotFoundError:  # only speed depends on it
    from tomllib import loads

PART_SUFFIX = ".part"
"""Suffix of a file that is still being written."""

_PART_NAME = re.compile(rf"\..+\.[0-9a-f]{{16}}{re.escape(PART_SUFFIX)}", re.DOTALL)
_LONGEST_NAME = 255
"""Bytes in a file's name: the limit of ext4, xfs, APFS and most others."""

_BLOCK = 1 << 20
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
"""Error numbers for a full disk, an exceeded quota or an exceeded file size limit."""


@contextlib.contextmanager
def atomic_output(target: Path, *, overwrite: bool) -> Iterator[tuple[Path, int]]:
    """Yield a new file beside ``target``, and move it into place when the block succeeds.

    The file is synced, then linked (or, to overwrite, renamed) into place, so that at no moment a half-written
    file is visible under the target's name. A symbolic link at the target is replaced, never followed.
    If anything goes wrong inside the block, an interrupt included, the new file is removed. Leftovers of killed runs in
    this folder are removed first.

    Args:
        target: where the file belongs.
        overwrite: whether a file that is there may be replaced.

    Yields:
        The new file's path and a descriptor open for reading and writing.

    Raises:
        OutputExistsError: the target exists, now or by the time the file is finished.
        NoSpaceError: the disk is full.
        AccessError: the folder cannot be written to.
    """
    require_place(target, overwrite=overwrite)
    part, descriptor = _part_of(target), None
    try:  # entered before the file exists: an interrupt may come at any moment
        with _as_access_error(target):
            _sweep(target.parent)
            descriptor = _create(part)
            yield part, descriptor
            os.fsync(descriptor)
            _put_in_place(part, target, overwrite=overwrite)
            sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
        if descriptor is not None:
            os.close(descriptor)  # drops the lock: not before the file is in its place, or gone


def require_place(target: Path, *, overwrite: bool) -> None:
    """Check, before anything is written, that a file could be put there.

    Raises:
        OutputExistsError: the target exists and may not be replaced.
        AccessError: it is a folder, a device or a pipe, or lies in a folder that cannot be reached.
    """
    if not overwrite and os.path.lexists(target):
        raise _exists(target)
    if os.path.isdir(target) and not os.path.islink(target):  # noqa: PTH112, PTH114 - these never raise
        raise AccessError("the output is a folder", where=str(target), next_step="give the path of a file")
    if is_stream(target):
        raise AccessError("the output is a device or a pipe", where=str(target), next_step="give the path of a file")
    with _as_access_error(target):
        os.stat(target.parent)  # noqa: PTH116 - tells why it cannot be reached


def is_stream(target: Path) -> bool:
    """Whether a path leads to a device, a pipe or what a process has open (``/dev/stdout``), not to a file of its own.

    Nothing may be put in its place: who runs as root would have a file for ``/dev/null``.
    """
    try:
        mode, link = target.stat().st_mode, target.readlink() if target.is_symlink() else target.name
        held = (target.parent / link).parent.resolve().parts[:2] == (os.sep, "proc")
    except (OSError, ValueError):  # a name that no file can have
        return False
    return held or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write a text file whole, as :func:`text_output` does; readers see the old file or the new one.

    Raises:
        OutputExistsError: the file exists and may not be replaced.
        AccessError: it cannot be written.
    """
    with text_output(path, overwrite=overwrite) as write:
        write(text)


@contextlib.contextmanager
def text_output(target: Path, *, overwrite: bool = True) -> Iterator[Callable[[str], None]]:
    r"""Open an output now, and put its text (UTF-8) in place when the block succeeds.

    File names need not be UTF-8. Bytes that are not become escapes such as ``\udc80``, as in JSON and YAML. A device
    or a pipe is written to as it is.

    Yields:
        A function that takes the whole text.

    Raises:
        OutputExistsError: the file exists and may not be replaced.
        AccessError: it cannot be written.
    """
    if overwrite and is_stream(target):
        with _as_access_error(target):
            descriptor = os.open(target, os.O_WRONLY)
            with os.fdopen(descriptor, "wb"):
                yield lambda text: write_all(descriptor, _encoded(text))
        return
    with atomic_output(target, overwrite=overwrite) as (_, descriptor):
        yield lambda text: write_all(descriptor, _encoded(text))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="backslashreplace")


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    Raises:
        ValueError: it is not TOML; the message says where.
    """
    return loads(text)


def copy_verified(origin: Path, target: Path, *, sha256: str, overwrite: bool = False) -> None:
    """Copy a file with a known digest, hashing it on the way.

    Args:
        origin: what to copy.
        target: where to.
        sha256: the digest it must have, in hexadecimal.
        overwrite: whether a file that is there may be replaced.

    Raises:
        OutputExistsError: the target exists.
        AccessError: the bytes are not those expected, or reading or writing failed; nothing is left behind.
    """
    digest = hashlib.sha256()
    with atomic_output(target, overwrite=overwrite) as (_, descriptor):
        for block in _blocks(origin):
            digest.update(block)
            write_all(descriptor, block)
        if digest.hexdigest() != sha256:
            raise AccessError(
                "the file changed while it was copied",
                where=str(origin),
                expected=f"SHA-256 {sha256}",
                got=f"SHA-256 {digest.hexdigest()}",
            )


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading: never a pipe, which could block, nor a device, which may have no end.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_at(descriptor: int, target: memoryview, offset: int) -> int:
    """Read bytes at ``offset`` into ``target`` without moving the file position; return how many were read.

    Raises:
        OSError: reading failed.
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [target], offset)
    data = os.pread(descriptor, len(target), offset)  # macOS before 11
    target[: len(data)] = data
    return len(data)


def sha256_of(path: Path) -> tuple[str, int]:
    """Return the SHA-256 (hex) of a file and its size in bytes, both from a single pass.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def write_all(descriptor: int, data: memoryview | bytes) -> None:
    """Write all of the data, in as many calls as the system takes."""
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]


def sync_data(descriptor: int) -> None:
    """Flush a file's data to disk, and as little of its metadata as the platform allows."""
    getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS has fsync only


def sync_folder(folder: Path) -> None:
    """Make a new name in ``folder`` durable, where a folder can be synced."""
    with contextlib.suppress(OSError):  # Windows and some network file systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Escape what could control a terminal, a page or the text direction, as in a Python string.

    Args:
        text: untrusted text: names in a file, a server's answer.
        keep_lines: whether line ends stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or (keep_lines and character == "\n") else _escaped(character)
        for character in text
    )


def first_names(names: Collection[str], shown: int = 5) -> str:
    """The first names of many, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(islice(names, shown)) + more


def counted(number: int, thing: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _part_of(target: Path) -> Path:
    """Where ``target`` is written until it is complete."""
    room = _LONGEST_NAME - len(f"..{'0' * 16}{PART_SUFFIX}")
    # Cutting bytes may cut a character in two: the rest of it is dropped as well.
    name = os.fsdecode(os.fsencode(target.name)[:room].decode("utf-8", errors="ignore").encode())
    return target.with_name(f".{name}.{os.urandom(8).hex()}{PART_SUFFIX}")


def _create(part: Path) -> int:
    """Create the new file, locked."""
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with contextlib.suppress(OSError):
            _lock(descriptor, wait=True)
        # Between creation and lock another run may have taken it for a leftover and removed it.
        if os.fstat(descriptor).st_nlink > 0:
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> None:
    """Take the advisory lock of an open file; it is released with the descriptor, however the process ends.

    Raises:
        BlockingIOError: another run holds it, and ``wait`` is not set.
        OSError: there are no such locks on this platform or file system.
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError(errno.ENOTSUP, "no advisory locks") from error
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _sweep(folder: Path) -> None:
    """Remove what killed runs were writing: partial files that can be locked."""
    parts: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # a folder may be writable and not readable
        parts += [Path(entry) for entry in entries if _PART_NAME.fullmatch(entry.name) and entry.is_file()]
    for part in parts:
        with contextlib.suppress(OSError):  # a live run's, or not ours to remove
            descriptor = os.open(part, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                _lock(descriptor, wait=False)
                part.unlink()
            finally:
                os.close(descriptor)


def _put_in_place(part: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite:
        part.replace(target)
        return
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except (OSError, AttributeError, NotImplementedError):
        # Some file systems and platforms have no hard links: claim the name first, so that nobody's file is replaced.
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError as error:
            raise _exists(target) from error
        part.replace(target)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise AccessError("the file cannot be read", where=str(path), got=error.strerror or str(error)) from error


def _exists(target: Path) -> OutputExistsError:
    return OutputExistsError(
        "the output already exists", where=str(target), next_step="choose another name, or pass --overwrite"
    )


@contextlib.contextmanager
def _as_access_error(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = NoSpaceError if error.errno in DISK_FULL else AccessError
        missing = error.errno == errno.ENOENT and not target.parent.exists()
        raise kind(
            f"the output cannot be written: {error.strerror or error}",
            where=str(target),
            next_step=f"create the folder {target.parent}"
            if missing
            else "check the folder's permissions and the free space",
        ) from error
