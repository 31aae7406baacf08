"""Puts a finished file in its place, or leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from r2convert.errors import AccessError, OutputExistsError


@contextlib.contextmanager
def file_beside(target: Path, *, overwrite: bool) -> Iterator[tuple[Path, int]]:
    """Give a new file beside ``target``; put it in its place when the block ends well.

    The file is synced, then linked (or, to overwrite, renamed) into place, so that at no moment a half-written
    file is visible under the target's name. A symbolic link at the target is replaced, never followed.
    Whatever goes wrong inside the block, an interrupt included, the new file is removed.

    Args:
        target: where the file belongs.
        overwrite: whether a file that is there may be replaced.

    Yields:
        The new file's path and a descriptor open for reading and writing.

    Raises:
        OutputExistsError: the target exists, now or by the time the file is finished.
        AccessError: the folder cannot be written to, or the disk is full.
    """
    require_place(target, overwrite=overwrite)
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.part")
    with _as_access_error(target):
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with _as_access_error(target):
            try:
                yield temporary, descriptor
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _publish(temporary, target, overwrite=overwrite)
            _sync_folder(target.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def require_place(target: Path, *, overwrite: bool) -> None:
    """Check, before anything is written, that a file could be put there.

    Raises:
        OutputExistsError: the target exists and may not be replaced.
        AccessError: it is a folder, or lies in a folder that cannot be reached.
    """
    if not overwrite and os.path.lexists(target):
        raise _exists(target)
    if os.path.isdir(target) and not os.path.islink(target):  # noqa: PTH112, PTH114 - these never raise
        raise AccessError("The output is a folder", where=str(target), next_step="Give the path of a file.")
    with _as_access_error(target):
        os.stat(target.parent)  # noqa: PTH116 - tells why it cannot be reached


def _publish(temporary: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError:
        # Some file systems have no hard links: take the name first, so that nobody else's file is replaced.
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        except FileExistsError as error:
            raise _exists(target) from error
        temporary.replace(target)


def _exists(target: Path) -> OutputExistsError:
    return OutputExistsError(
        "The output exists already", where=str(target), next_step="Choose another name, or pass --overwrite."
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _as_access_error(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AccessError(
            f"The output cannot be written: {error.strerror or error}",
            where=str(target),
            next_step="Check the folder's permissions and the free space.",
        ) from error
