"""Reads checkpoints that are split over several files, with an index that says which tensor lies in which.

The index is the JSON that Hugging Face's libraries write beside the shards (`model.safetensors.index.json`):
``{"metadata": {...}, "weight_map": {"tensor name": "shard file name"}}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath

from msgspec.structs import replace

from r2convert.checkpoint import limits
from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.metadata import summarise
from r2convert.checkpoint.storage import OpenFile, Storage
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import (
    CorruptCheckpointError,
    LimitExceededError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)


def index_in(folder: Path) -> Path | None:
    """Return the index of a folder that holds exactly one, beside its shards."""
    found = list(folder.glob("*.safetensors.index.json"))
    return found[0] if len(found) == 1 else None


def open_shards(index: OpenFile) -> list[OpenFile]:
    """Open the files an index names, which lie beside it, in the order of their names.

    All work on them is charged to the index's budget: together they are one checkpoint.

    Raises:
        CheckpointError: the index is damaged, names too many files, or files in other places.
        AccessError: one of them is missing or cannot be read.
    """
    names = sorted(set(_weight_map(index)[0].values()))
    if len(names) > limits.MAX_SHARDS:
        raise LimitExceededError(
            "the index names too many files",
            where=str(index.path),
            expected=f"at most {limits.MAX_SHARDS}",
            got=str(len(names)),
        )
    for name in names:
        if PurePath(name).name != name or name in ("", "..") or "\\" in name or not name.isprintable():
            raise UnsafeCheckpointError(
                "the index names a file in another place",
                where=str(index.path),
                expected="names of files beside it",
                got=ascii(name)[:200],
            )
    with ExitStack() as opened:
        shards = [opened.enter_context(OpenFile(index.path.parent / name, index.budget)) for name in names]
        opened.pop_all()  # the caller closes them
    return shards


def read_shards(files: Sequence[OpenFile], read: Callable[[OpenFile], Contents]) -> Contents:
    """Describe the tensors of all shards.

    Args:
        files: the index, and the shards as :func:`open_shards` gives them.
        read: describes one file.

    Raises:
        CheckpointError: a shard is damaged, or holds other tensors than the index says.
    """
    placed, metadata = _weight_map(files[0])
    expected_in: dict[str, set[str]] = {}
    for name, file in placed.items():
        expected_in.setdefault(file, set()).add(name)
    root: dict[object, object] = {}
    storages: list[Storage] = []
    warnings: list[str] = []
    containers = []
    opaque: dict[str, None] = {}
    for number, shard in enumerate(files[1:], start=1):
        contents = read(shard)
        named = contents.root if isinstance(contents.root, dict) else {}
        expected = expected_in[shard.path.name]
        if named.keys() != expected:
            raise CorruptCheckpointError(
                "a shard holds other tensors than the index says",
                where=str(shard.path),
                expected=f"{len(expected)} tensors",
                got=f"{len(expected - named.keys())} are missing, {len(named.keys() - expected)} are not in the index",
                next_step="get the index and its shards from the same place, all of one version",
            )
        for name, value in named.items():
            moved = isinstance(value, TensorInfo)
            root[name] = replace(value, storage=value.storage + len(storages)) if moved else value
        for storage in contents.storages:
            extents = tuple(replace(extent, file=number) for extent in storage.extents)
            storages.append(replace(storage, extents=extents))
        containers.append(contents.container)
        opaque |= dict.fromkeys(contents.opaque)
        warnings += [f"{shard.path.name}: {warning}" for warning in contents.warnings]
    return Contents(containers[0], root, tuple(storages), metadata, tuple(warnings), tuple(opaque))


def _weight_map(index: OpenFile) -> tuple[dict[str, str], dict[str, object]]:
    """Return which file each tensor lies in, and the index's metadata in a form that can be shown."""
    if index.size > limits.MAX_HEADER_BYTES:
        raise LimitExceededError(
            "the index is too large", where=str(index.path), expected=f"at most {limits.MAX_HEADER_BYTES} bytes"
        )
    index.budget.charge(index.size // limits.JSON_BYTES_PER_UNIT)
    try:
        document = json.loads(index.read(0, index.size, "the index").decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpointError("the index is not JSON", where=str(index.path), got=str(error)[:200]) from error
    placed = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(placed, dict) or not placed or not all(isinstance(name, str) for name in placed.values()):
        raise UnsupportedCheckpointError(
            "this JSON is not the index of a checkpoint",
            where=str(index.path),
            expected='a "weight_map" from names of tensors to names of files',
        )
    metadata = document.get("metadata")
    return placed, summarise(metadata) if isinstance(metadata, dict) else {}


def reject_index(file: OpenFile) -> Contents:
    """An index names files with tensors, not further indexes."""
    raise UnsupportedCheckpointError("an index of shards stands where a checkpoint should be", where=str(file.path))
