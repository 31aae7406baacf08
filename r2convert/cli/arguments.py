"""What people write on the command line, turned into values: a path, or a variant's name for its cached file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.errors import AccessError, UsageError

if TYPE_CHECKING:
    from r2convert.catalog.loading import Catalog
    from r2convert.catalog.variant import Variant

LAYOUTS = ("mm", "mmdet", "official", "timm", "paddle")
SOURCE_LAYOUTS = (*LAYOUTS, "paddle-static")


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which part of a file is meant: ``--key`` and ``--prefix``."""
    for option in (
        click.option("--prefix", default="", help="Only the tensors under this prefix, e.g. backbone. or resnet."),
        click.option("--key", help="Which of several state dicts in the file, e.g. state_dict or ema."),
    ):
        command = option(command)
    return command


def checkpoint_path(catalog: Catalog, value: str) -> tuple[Path, Variant | None]:
    """A checkpoint given as a path, or as the name of a variant whose file is in the cache.

    Returns:
        The path, and the variant if it was given by name.

    Raises:
        AccessError: there is no such file, or the variant's file is not in the cache.
        UsageError: it is empty.
        UnknownVariantError: it looks like a name, and no variant has it.
    """
    if not value:
        raise UsageError("a checkpoint's name is empty", expected="a file, or a variant in the cache")
    # The functions of os.path never raise: why a file cannot be had is told by whoever opens it.
    path = Path(os.path.expanduser(value))  # noqa: PTH111
    if os.path.lexists(path) or path.suffix or "/" in value:
        return path, None
    variant = catalog.find(value)
    cached = cached_path(variant)
    if cached is None:
        _refuse_damaged(variant)
        advice = f"`r2convert fetch {variant.id}` downloads it" if variant.sources else "give the path of your file"
        raise AccessError(f"{variant.id} is not in the cache", next_step=advice)
    return cached, variant


def _refuse_damaged(variant: Variant) -> None:
    """Say so if the variant's file is in the cache but is not what it should be."""
    from r2convert.fetch.cache import Cache, DamagedFile

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


def cached_path(variant: Variant) -> Path | None:
    """The variant's file in the cache, the first of its sources that is there."""
    from r2convert.fetch.cache import Cache

    cache = Cache.default()
    for source in variant.sources:
        cached = cache.lookup(source)
        if cached is not None:
            return cached.path
    return None
