"""What callers hand in as a checkpoint: a path, or the name of a variant whose file is in the cache."""

from __future__ import annotations

import os
from pathlib import Path

from r2convert.catalog.loading import Catalog
from r2convert.catalog.variant import Variant
from r2convert.download.cache import Cache
from r2convert.download.locating import locate as find
from r2convert.download.locating import refuse_damaged
from r2convert.errors import AccessError

FileOrVariant = str | os.PathLike[str]


def locate(catalog: Catalog, checkpoint: FileOrVariant, *, fetch: bool = False) -> tuple[Path, Variant | None]:
    """Tell a path from a variant's name, and find the variant's file in the cache.

    Args:
        catalog: whose variants to look the name up in.
        checkpoint: a path object, which is always a path; or a string, which is a name if it has neither a slash nor
            a suffix and no such file exists.
        fetch: download the variant's file if it is not in the cache.

    Returns:
        The path, and the variant if it was given by name.

    Raises:
        AccessError: the variant's file is not in the cache, or could not be downloaded.
        UnknownVariantError: it looks like a name, and no variant has it.
        UsageError: it is empty.
    """
    path, variant = find(catalog, checkpoint)
    if path is not None:
        return path, variant
    assert variant is not None  # noqa: S101 - only a variant has no path
    cache = Cache.default()
    if fetch:
        from r2convert.download.download import fetch_variant  # here: it brings in the HTTP library

        return fetch_variant(variant, cache).path, variant
    refuse_damaged(variant)
    advice = f'`r2convert.fetch("{variant.id}")` or `r2convert fetch {variant.id}` downloads it'
    raise AccessError(
        f"{variant.id} is not in the cache",
        where=str(cache.folder),
        next_step=advice if variant.sources else "nobody publishes it: give the path of your own file",
    )
