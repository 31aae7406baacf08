"""A mirror that is a folder on this machine or on a mounted share."""

from __future__ import annotations

import shutil
from pathlib import Path

from r2convert.download.expectation import Expectation
from r2convert.download.partial import Origin, PartialFile
from r2convert.download.retry import MirrorFaultError
from r2convert.download.transfer import Conditions
from r2convert.errors import NoSpaceError, ServerRefusedError, WrongFileError

_BLOCK = 1 << 20


def copy_into(partial: PartialFile, path: Path, wanted: Expectation, conditions: Conditions) -> None:
    """Copy a file from a mirror folder into the partial file, hashing it on the way.

    Raises:
        MirrorFaultError: the folder does not have it, or it has another size.
        CacheError: the disk refuses.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            _check_size(path, size, partial, wanted, conditions)
            partial.begin(Origin(url=str(path), total=size, resumable=False))
            conditions.progress.started(wanted.file_name, size, 0)
            while block := stream.read(_BLOCK):
                partial.write(block)
                conditions.progress.advanced(wanted.file_name, len(block))
    except OSError as problem:
        raise MirrorFaultError(
            ServerRefusedError(
                "the mirror folder does not give the file", where=str(path), got=problem.strerror or str(problem)
            )
        ) from problem


def _check_size(path: Path, size: int, partial: PartialFile, wanted: Expectation, conditions: Conditions) -> None:
    limit = conditions.largest_file
    if (wanted.size is not None and size != wanted.size) or size > limit:
        error = WrongFileError(
            "the mirror folder has a file of another size under this name",
            where=str(path),
            expected=f"{wanted.size:,} bytes" if wanted.size is not None else f"at most {limit:,} bytes",
            got=f"{size:,} bytes",
        )
        raise MirrorFaultError(error)
    folder = partial.path.parent
    free = shutil.disk_usage(folder).free + partial.size
    if size > free:
        raise NoSpaceError(
            "there is no room for the file",
            where=str(folder),
            expected=f"{size:,} bytes free",
            got=f"{free:,} bytes free",
            next_step="free some space, or set R2CONVERT_CACHE to a folder on another disk",
        )
