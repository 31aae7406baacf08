"""What people hand in as a checkpoint: a path, or the name of a variant whose file is in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from r2convert.catalog.variant import Variant
from r2convert.errors import AccessError, UnknownVariantError, UsageError

_SUFFIXES = (".pth", ".pt", ".safetensors", ".pdparams", ".bin", ".ckpt", ".tar")
"""What the names of checkpoints end in, among the files of a folder."""
_LISTED = 20


def locate(find: Callable[[str], Variant], checkpoint: str | os.PathLike[str]) -> tuple[Path | None, Variant | None]:
    """Tell a path from a variant's name, and find the variant's file in the cache.

    Args:
        find: gives the variant of a name, as :meth:`~r2convert.catalog.loading.Catalog.find` does.
        checkpoint: a path object, which is always a path; or a string, which is a name if it has neither a slash nor
            a suffix and no such file exists. A folder stands for the one checkpoint in it.

    Returns:
        The path, and the variant if it was given by name; no path if the cache has no
        sound file of it.

    Raises:
        UnknownVariantError: it looks like a name, and no variant has it.
        UsageError: it is empty, or a folder of several checkpoints.
    """
    text = os.fspath(checkpoint)
    if not text:
        raise UsageError("a checkpoint's name is empty", expected="a file, or a variant in the cache")
    # The functions of os.path never raise: why a file cannot be had is told by whoever opens it.
    path = Path(os.path.expanduser(text))  # noqa: PTH111
    if isinstance(checkpoint, os.PathLike) or os.path.lexists(path) or path.suffix or "/" in text:
        return _checkpoint_in(path) if os.path.isdir(path) else path, None  # noqa: PTH112
    try:
        variant = find(text)
    except UnknownVariantError as error:
        what = f"there is no file {text!r}, and no variant is called that"
        raise UnknownVariantError(what, expected=error.expected, next_step=error.next_step) from None
    return cached_path(variant), variant


def _checkpoint_in(folder: Path) -> Path:
    """The one checkpoint in a folder, or the folder where it is one itself: indexed shards, or Paddle 1.x variables."""
    from r2convert.checkpoint.formats.shards import index_in  # here: a file is found without the reader

    try:
        if index_in(folder) is not None:
            return folder
        found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(_SUFFIXES) and path.is_file())
    except OSError:
        return folder  # whoever opens it tells why it cannot be read
    if len(found) > 1:
        shown = [f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in found[:_LISTED]]
        more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
        raise UsageError(
            f"this folder holds {len(found)} checkpoints",
            where=str(folder),
            expected="one, or the path of a file",
            got="\n            ".join([*shown, *more]),
        )
    return found[0] if found else folder


def cached_path(variant: Variant) -> Path | None:
    """The variant's file in the cache, the first of its sources that is there and sound."""
    from r2convert.download.cache import Cache  # here: whoever hands in a path should not wait for what the cache needs

    cache = Cache.default()
    for source in variant.sources:
        cached = cache.lookup(source)
        if cached is not None:
            return cached.path
    return None


def refuse_damaged(variant: Variant) -> None:
    """Say so if the variant's file is in the cache but is not what it should be: it is not simply missing.

    Raises:
        AccessError: it is damaged.
    """
    from r2convert.download.cache import Cache, DamagedFile

    cache = Cache.default()
    for source in variant.sources:
        found = cache.examine(source)
        if isinstance(found, DamagedFile):
            raise AccessError(
                f"the file of {variant.id} in the cache is damaged: {found.objection.reason}",
                where=str(found.path),
                expected=found.objection.expected,
                got=found.objection.got,
                next_step=f"`r2convert fetch {variant.id}` gets it again and keeps the damaged one for inspection",
            )
