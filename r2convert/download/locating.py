"""What people hand in as a checkpoint: a path, a folder, a file on the hub, or the name of a variant."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from r2convert.catalog.variant import Variant
from r2convert.download.cache import Cache, CachedFile, DamagedFile
from r2convert.download.listing import choose_source
from r2convert.errors import AccessError, UnknownVariantError, UsageError
from r2convert.files import printable

if TYPE_CHECKING:
    from r2convert.download.transfer import ProgressSink

HUB = "hf://"
USUAL = ("model.safetensors", "pytorch_model.bin")
"""What the hub's own libraries load of a folder or a repository where no file is named, first choice first."""
_SUFFIXES = (".pth", ".pt", ".safetensors", ".pdparams", ".bin", ".ckpt", ".tar")
"""What the names of checkpoints end in, among the files of a folder."""
_LISTED = 20
_FLOAT32_BYTES = 4


class Located(NamedTuple):
    """A checkpoint to read.

    Args:
        path: where it is.
        variant: the variant it was requested as, if any.
    """

    path: Path
    variant: Variant | None = None


def locate(
    find: Callable[[str], Variant],
    checkpoint: str | os.PathLike[str] | Located,
    *,
    fetch: bool = False,
    progress: ProgressSink | None = None,
) -> Located:
    """Tell a path from a variant's name, and find the variant's file in the cache.

    Args:
        find: returns the variant of a name, as :meth:`~r2convert.catalog.catalog.Catalog.find` does.
        checkpoint: a path object, which is always a path; or a string, which is a name if it has no slash, no such file
            exists, and it is a variant's or weights' name or has no suffix. A folder stands for the checkpoint in it;
            ``hf://ORG/REPO[@REVISION][/FILE]`` is a file on the Hugging Face hub.
        fetch: download the file of a variant or of the hub if it is not in the cache.
        progress: receives the progress of the download.

    Raises:
        AccessError: the file is not in the cache, is damaged there, or could not be downloaded.
        UnknownVariantError: it looks like a name, and no variant has it.
        UsageError: it is empty, an address on the web, or a folder of several checkpoints.
    """
    if isinstance(checkpoint, Located):
        return checkpoint
    text = os.fspath(checkpoint)
    if not text:
        raise UsageError("a checkpoint's name is empty", expected="a file, or a variant in the cache")
    if isinstance(checkpoint, str) and text.startswith(HUB):
        return Located(_from_hub(text, fetch=fetch, progress=progress).path)
    if isinstance(checkpoint, str) and re.match(r"(https?|ftp)://", text):
        raise UsageError(
            "this is an address, not a file",
            where=text,
            expected="a file, a variant, or hf://ORG/REPO for a file on the hub",
            next_step="download it, and give the path",
        )
    # The functions of os.path never raise: why a file cannot be read is reported when it is opened.
    path = Path(os.path.expanduser(text))  # noqa: PTH111
    if isinstance(checkpoint, os.PathLike) or os.path.lexists(path) or "/" in text:
        return Located(_checkpoint_in(path) if os.path.isdir(path) else path)  # noqa: PTH112
    try:
        variant = find(text)
    except UnknownVariantError as error:
        if path.suffix:
            return Located(path)
        what = f"there is no file {text!r}, and no variant is called that"
        raise UnknownVariantError(what, expected=error.expected, next_step=error.next_step) from None
    return Located(_from_cache(variant, text, fetch=fetch, progress=progress), variant)


def cached_path(variant: Variant) -> Path | None:
    """The variant's file in the cache, the first of its sources that is there and sound."""
    cache = Cache.default()
    files = (cache.lookup(source) for source in variant.sources)
    return next((file.path for file in files if file is not None), None)


def _checkpoint_in(folder: Path) -> Path:
    """The checkpoint in a folder, or the folder where it is one itself: indexed shards, or Paddle 1.x variables.

    Of several it is the one that the hub's libraries would load: training state of `accelerate` lies beside it.
    """
    from r2convert.checkpoint.formats.shards import index_in  # here: a file is found without the reader

    try:
        if index_in(folder) is not None:
            return folder
        found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(_SUFFIXES) and path.is_file())
    except OSError:
        return folder  # opening it will report why it cannot be read
    usual = next((path for name in USUAL for path in found if path.name == name), None)
    if usual is not None:
        return usual
    if len(found) > 1:
        shown = [f"{printable(path.name)} ({path.stat().st_size / 1e6:.1f} MB)" for path in found[:_LISTED]]
        more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
        raise UsageError(
            f"this folder holds {len(found)} checkpoints",
            where=str(folder),
            expected="one, or the path of a file",
            got="\n            ".join([*shown, *more]),
            next_step=f"give the path of one, such as {found[0]}",
        )
    return found[0] if found else folder


def _from_cache(variant: Variant, asked: str, *, fetch: bool, progress: ProgressSink | None) -> Path:
    path = cached_path(variant)
    if path is not None:
        return path
    cache = Cache.default()
    if fetch:
        # Here, as below: it brings in the HTTP library.
        from r2convert.download.download import fetch_source

        return fetch_source(choose_source(variant), cache, progress=progress).path
    _refuse_damaged(variant, cache)
    name = next((each.id for each in variant.weights if each.id == asked), variant.id)
    raise AccessError(
        f"{name} is not in the cache",
        where=str(cache.folder),
        next_step=_how_to_get(variant, name)
        if variant.sources
        else "nobody publishes it: give the path of your own file",
    )


def _from_hub(reference: str, *, fetch: bool, progress: ProgressSink | None) -> CachedFile:
    from r2convert.download.hub import cached_hub_file, fetch_hub_file

    cache = Cache.default()
    if fetch:
        return fetch_hub_file(reference, cache, progress=progress)
    found = cached_hub_file(reference, cache)
    if found is None:
        raise AccessError(f"{reference} is not in the cache", where=str(cache.folder), next_step="--fetch downloads it")
    return found


def _how_to_get(variant: Variant, name: str) -> str:
    size = variant.sources[0].size
    parameters = next(iter(variant.claims_on("parameters")), None)
    download = "downloads it"
    if size is not None:
        download += f" ({size / 1e6:.0f} MB)"
    elif parameters is not None:
        download += f" (about {_FLOAT32_BYTES * Decimal(parameters.printed):.0f} MB)"
    return f"`r2convert fetch {name}`, or --fetch, {download}; in Python `r2convert.fetch({name!r})`"


def _refuse_damaged(variant: Variant, cache: Cache) -> None:
    """Say so if the variant's file is in the cache but is not what it should be: it is not simply missing."""
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
