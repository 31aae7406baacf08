"""A verified copy of a cached file where a user wants it."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from r2convert.download.atomic import TEMPORARY_SUFFIX, hash_file, sync_folder
from r2convert.download.cache import CachedFile
from r2convert.errors import AccessError, OutputExistsError

_BLOCK = 1 << 20


def copy_to(file: CachedFile, folder: Path) -> Path:
    """Copy a cached file into a folder, hashing it on the way; a copy that is already there is kept.

    Args:
        file: what to copy.
        folder: where to; made if need be.

    Returns:
        The copy's path.

    Raises:
        OutputExistsError: a different file of that name is there.
        AccessError: reading or writing failed, or the bytes changed on the way.
    """
    target = folder / file.path.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return _existing(target, file)
        temporary = folder / f".{target.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY_SUFFIX}"
        try:
            if _copy(file.path, temporary) != file.sha256:
                raise AccessError(
                    "the file changed while it was copied", where=str(file.path), next_step="r2convert cache --verify"
                )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(folder)
    except OSError as problem:
        raise AccessError(
            "the copy cannot be written",
            where=str(target),
            got=problem.strerror or str(problem),
            next_step="choose another folder with --dest; the file itself is in the cache",
        ) from problem
    return target


def _existing(target: Path, file: CachedFile) -> Path:
    sha256, _ = hash_file(target)
    if sha256 == file.sha256:
        return target
    raise OutputExistsError(
        "a different file of that name is already there",
        where=str(target),
        expected=f"SHA-256 {file.sha256}",
        got=f"SHA-256 {sha256}",
        next_step="move it away, or choose another folder with --dest",
    )


def _copy(origin: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with origin.open("rb") as reader, target.open("xb") as writer:
        while block := reader.read(_BLOCK):
            writer.write(block)
            digest.update(block)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()
