"""A verified copy of a cached file where a user wants it."""

from __future__ import annotations

from pathlib import Path

from r2convert.download.cache import CachedFile
from r2convert.errors import AccessError, OutputExistsError
from r2convert.files import copy_verified, sha256_of


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
        # A link that leads nowhere is in nobody's way, and is not followed.
        copy_verified(file.path, target, sha256=file.sha256, overwrite=target.is_symlink())
    except OSError as problem:
        raise AccessError(
            "the copy cannot be written",
            where=str(target),
            got=problem.strerror or str(problem),
            next_step="choose another folder with --dest; the file itself is in the cache",
        ) from problem
    return target


def _existing(target: Path, file: CachedFile) -> Path:
    sha256, _ = sha256_of(target)
    if sha256 == file.sha256:
        return target
    raise OutputExistsError(
        "a different file of that name is already there",
        where=str(target),
        expected=f"SHA-256 {file.sha256}",
        got=f"SHA-256 {sha256}",
        next_step="move it away, or choose another folder with --dest",
    )
