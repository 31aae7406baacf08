"""Reads Paddle 1.x checkpoints: a folder, or a tar archive of one, with one LoDTensor file a variable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from r2convert.checkpoint import limits
from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.formats.lod_tensor import LodTensorReader
from r2convert.checkpoint.formats.tar_directory import TarMember
from r2convert.checkpoint.source_file import ReopenedFile, SourceFile
from r2convert.checkpoint.storage import Storage, TensorReference
from r2convert.errors import AccessError, CorruptCheckpointError, LimitExceededError, UnsupportedCheckpointError


def read_paddle_tar(source: SourceFile, members: dict[str, TarMember]) -> Contents:
    """Describe a tar archive of LoDTensor files; the elements are not read.

    Raises:
        CheckpointError: a member is no LoDTensor, or two have the same name.
    """
    root: dict[str, TensorReference] = {}
    storages: list[Storage] = []
    for member in members.values():
        name = PurePosixPath(member.name).name
        if name.startswith("."):
            continue
        if name in root:
            raise CorruptCheckpointError(
                f"The archive has two variables named {name!a}", where=f"{source.path}, byte {member.offset}"
            )
        reader = LodTensorReader(source, member.offset, member.size, f"variable {name!a}")
        root[name], storage = reader.read(0, len(storages))
        storages.append(storage)
    return Contents("paddle-static", root, tuple(storages), {}, _hidden(len(members) - len(storages)))


def read_lod_tensor_file(source: SourceFile) -> Contents:
    """Describe a single LoDTensor file: a checkpoint of one variable."""
    name = source.path.name
    reference, storage = LodTensorReader(source, 0, source.size, f"variable {name!a}").read(0, 0)
    return Contents("paddle-static", {name: reference}, (storage,), {})


def open_folder(folder: Path) -> list[SourceFile]:
    """Return the files of a folder of variables, sorted by name; names that start with a dot are passed over.

    Raises:
        UnsupportedCheckpointError: the folder is empty, or has folders in it.
        LimitExceededError: it has too many files.
        AccessError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))[: limits.MAX_MEMBERS + 1]
    except OSError as error:
        raise AccessError(f"The folder cannot be read: {error.strerror}", where=str(folder)) from error
    if len(names) > limits.MAX_MEMBERS:
        raise LimitExceededError(
            "The folder has too many files", where=str(folder), expected=f"at most {limits.MAX_MEMBERS}"
        )
    if not names or any((folder / name).is_dir() for name in names):
        raise UnsupportedCheckpointError(
            "This folder is no checkpoint",
            where=str(folder),
            expected="a folder of Paddle 1.x variables, one file each",
            got="folders within it" if names else "an empty folder",
            next_step="Give the path of a checkpoint file.",
        )
    return [ReopenedFile(folder / name) for name in names]


def read_paddle_folder(sources: Sequence[SourceFile]) -> Contents:
    """Describe the LoDTensor files of a folder; the elements are not read.

    Raises:
        CheckpointError: a file is no LoDTensor.
    """
    root: dict[str, TensorReference] = {}
    storages: list[Storage] = []
    for index, source in enumerate(sources):
        name = source.path.name
        if source.size < 16 or any(source.read(0, 4, "a LoDTensor")):
            raise UnsupportedCheckpointError(
                "This folder is no checkpoint",
                where=str(source.path),
                expected="a folder of Paddle 1.x variables, one file each",
                got=f"{name!a}, which is no such variable",
                next_step="Give the path of a checkpoint file.",
            )
        root[name], storage = LodTensorReader(source, 0, source.size, f"variable {name!a}").read(index, index)
        storages.append(storage)
    return Contents("paddle-static", root, tuple(storages), {})


def _hidden(count: int) -> tuple[str, ...]:
    return (f"{count} members whose names start with a dot were left out",) if count else ()
