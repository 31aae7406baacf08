"""`r2convert fetch`: published weights -> verified files in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from r2convert.cli.commands.completion import complete_variant
from r2convert.cli.console import print_json, print_note, stderr_console
from r2convert.errors import R2ConvertError, UsageError

if TYPE_CHECKING:
    from r2convert.catalog import Catalog, Source, Variant
    from r2convert.catalog.variant import Publisher
    from r2convert.download.cache import Cache, CachedFile

_INDENT = "\n            "
"""Continues a part of an error message on its next line."""

_PUBLISHERS = ("official", "openmmlab", "timm", "paddle")


@click.command(
    "fetch",
    short_help="Download weights, verify them and keep them in the cache.",
    epilog="\b\nExample:\n  r2convert fetch res2net50_w14_s8 Res2Net-101-26w-4s",
)
@click.argument("names", nargs=-1, metavar="VARIANT...", shell_complete=complete_variant)
@click.option("--all", "everything", is_flag=True, help="Every variant (that the publisher has).")
@click.option("--from", "publisher", type=click.Choice(_PUBLISHERS), help="Whose file; default: the variant's first.")
@click.option("--offline", is_flag=True, help="Use what is in the cache; no network.")
@click.option(
    "--import",
    "brought",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take a file brought by hand, under any name; recognised by its hash or content.",
)
@click.option("--dest", type=click.Path(path_type=Path), metavar="DIR", help="Put a verified copy there.")
@click.option("--at-once", type=click.IntRange(1, 16), default=4, show_default=True, help="Transfers at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def fetch(
    names: tuple[str, ...],
    everything: bool,
    publisher: str | None,
    offline: bool,
    brought: Path | None,
    dest: Path | None,
    at_once: int,
    as_json: bool,
) -> None:
    """Download weights, verify them and keep them in the cache; print where they are.

    An interrupted download is continued by the next run. R2CONVERT_MIRROR names a base URL or a folder to try
    first, R2CONVERT_CACHE the cache folder.
    """
    from r2convert.catalog import load_catalog
    from r2convert.download.cache import Cache

    catalog, cache = load_catalog(), Cache.default()
    whose = cast("Publisher | None", publisher)
    first_time = not cache.pins.all()
    errors: list[R2ConvertError] = []
    if brought is not None:
        if everything:
            raise UsageError("--import takes one file, --all every variant: they do not go together")
        variants = [catalog.find(name) for name in names] or list(catalog.variants.values())
        files = [_import(brought, variants, catalog, cache, whose)]
    else:
        files, errors = _fetch(_wanted(catalog, names, everything, whose), cache, offline, at_once)
    if first_time and files:
        _show_licence()
    _report(files, dest, as_json)
    if errors:
        raise _joined(errors)


def _wanted(
    catalog: Catalog, names: tuple[str, ...], everything: bool, publisher: Publisher | None
) -> list[tuple[Variant, Source]]:
    """Return the files to fetch, each once."""
    from r2convert.download.download import choose_source

    if everything == bool(names):
        raise UsageError(
            "name the variants to fetch, or say --all",
            next_step="`r2convert list` shows the variants; `r2convert fetch --help` an example",
        )
    if everything:
        variants = [
            variant
            for variant in catalog.variants.values()
            if any(publisher in (None, source.publisher) for source in variant.sources)
        ]
    else:
        variants = [catalog.find(name) for name in names]
    pairs = [(variant, choose_source(variant, publisher)) for variant in variants]
    return list({source.file_name: (variant, source) for variant, source in pairs}.values())


def _fetch(
    wanted: list[tuple[Variant, Source]], cache: Cache, offline: bool, at_once: int
) -> tuple[list[tuple[Variant, CachedFile]], list[R2ConvertError]]:
    from r2convert.cli.transfer_display import TransferDisplay
    from r2convert.download.download import fetch_sources

    console = stderr_console()
    with TransferDisplay(console, len(wanted)) as display:
        outcomes = fetch_sources(
            [source for _, source in wanted], cache, at_once=at_once, offline=offline, progress=display
        )
    pairs = zip(wanted, outcomes, strict=True)
    files = [(variant, outcome.file) for (variant, _), outcome in pairs if outcome.file is not None]
    return files, [outcome.error for outcome in outcomes if outcome.error is not None]


def _show_licence() -> None:
    from r2convert.catalog.licence import WEIGHTS_LICENCE

    print_note(f"Licence of the official weights: {WEIGHTS_LICENCE}. This is shown once.")


def _import(
    path: Path, variants: list[Variant], catalog: Catalog, cache: Cache, publisher: Publisher | None
) -> tuple[Variant, CachedFile]:
    from r2convert.cli.transfer_display import TransferDisplay
    from r2convert.download.importing import import_file

    console = stderr_console()
    with TransferDisplay(console, 1) as display:
        taken = import_file(path, variants, cache, fits=_recogniser(catalog), publisher=publisher, progress=display)
    display.message(f"{path}: {taken.variant.name}, {taken.source.file_name}: {taken.note}")
    return taken.variant, taken.file


def _recogniser(catalog: Catalog) -> Callable[[Path, Variant, Source], bool]:
    """Return what tells whether a file has the names and shapes of a published one; it reads a file once."""
    from functools import cache as once

    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.identity import match
    from r2convert.mapping.tables import Tables

    tables = Tables(catalog)

    @once
    def shapes(file: Path) -> dict[str, tuple[int, ...]]:
        with open_checkpoint(file) as checkpoint:
            return {name: tensor.shape for name, tensor in checkpoint.tensors.items()}

    def fits(file: Path, variant: Variant, source: Source) -> bool:
        return match(tables.of(variant), source.layout, shapes(file)) is not None

    return fits


def _report(files: list[tuple[Variant, CachedFile]], dest: Path | None, as_json: bool) -> None:
    """Print the final paths, or one document about them."""
    from r2convert.download.cache import copy_to

    rows = [(variant, file, copy_to(file, dest) if dest is not None else file.path) for variant, file in files]
    if as_json:
        print_json(
            {
                "files": [
                    {
                        "variant": variant.id,
                        "path": str(path),
                        "sha256": file.sha256,
                        "size": file.size,
                        "trust": file.trust,
                        "origin": file.origin,
                    }
                    for variant, file, path in rows
                ]
            }
        )
        return
    for _, _, path in rows:
        click.echo(path)


def _joined(errors: list[R2ConvertError]) -> R2ConvertError:
    """Return the one error, or one that tells of all, with the advice of the first."""
    from r2convert.errors import MirrorsFailedError

    if len(errors) == 1:
        return errors[0]
    return MirrorsFailedError(
        f"{len(errors)} files could not be fetched",
        got=_INDENT.join(_in_brief(error) for error in errors),
        next_step=errors[0].next_step,
    )


def _in_brief(error: R2ConvertError) -> str:
    """Return what happened, and where if that takes more than a line: then it is the list of addresses tried."""
    if error.where is not None and "\n" in error.where:
        return f"{error.what}{_INDENT}{error.where}"
    return f"{error.what} ({error.got})" if error.got else error.what
