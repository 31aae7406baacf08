"""What people hand in as a checkpoint: a path, or the name of a variant whose file is in the cache."""

from __future__ import annotations

import os
from pathlib import Path

from r2convert.catalog.loading import Catalog
from r2convert.catalog.variant import Variant
from r2convert.errors import AccessError, UsageError


def locate(catalog: Catalog, checkpoint: str | os.PathLike[str]) -> tuple[Path | None, Variant | None]:
    """Tell a path from a variant's name, and find the variant's file in the cache.

    Args:
        catalog: whose variants to look the name up in.
        checkpoint: a path object, which is always a path; or a string, which is a name if it has neither a slash nor
            a suffix and no such file exists.

    Returns:
        The path, and the variant if it was given by name; no path if the cache has no
        sound file of it.

    Raises:
        UnknownVariantError: it looks like a name, and no variant has it.
        UsageError: it is empty.
    """
    text = os.fspath(checkpoint)
    if not text:
        raise UsageError("a checkpoint's name is empty", expected="a file, or a variant in the cache")
    # The functions of os.path never raise: why a file cannot be had is told by whoever opens it.
    path = Path(os.path.expanduser(text))  # noqa: PTH111
    if isinstance(checkpoint, os.PathLike) or os.path.lexists(path) or path.suffix or "/" in text:
        return path, None
    variant = catalog.find(text)
    return cached_path(variant), variant


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
