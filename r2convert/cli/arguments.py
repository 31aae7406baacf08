"""What people write on the command line, turned into values: a path, or a variant's name for its cached file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.errors import AccessError

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
        AccessError: the variant's file is not in the cache, or is damaged there.
        UsageError: it is empty.
        UnknownVariantError: it looks like a name, and no variant has it.
    """
    from r2convert.download.locating import locate, refuse_damaged

    path, variant = locate(catalog, value)
    if path is None:
        assert variant is not None  # noqa: S101 - only a variant has no path
        refuse_damaged(variant)
        advice = f"`r2convert fetch {variant.id}` downloads it" if variant.sources else "give the path of your file"
        raise AccessError(f"{variant.id} is not in the cache", next_step=advice)
    return path, variant
