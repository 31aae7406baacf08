"""`r2convert fetch`: published weights -> verified files in the cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import error_document, print_json, print_note
from r2convert.cli.progress import TransferDisplay
from r2convert.errors import MirrorsFailedError, R2ConvertError, UsageError

_INDENT = "\n            "
"""Continues a part of an error message on its next line."""


@options.command("fetch", "Download weights, verify them and keep them in the cache.")
@click.argument("names", nargs=-1, metavar="VARIANT...", shell_complete=options.complete_variant)
@options.option(
    "--all",
    "everything",
    is_flag=True,
    help="Every architecture's first weights, without detectors; with --from, all weights of the publisher.",
)
@options.option(
    "--from",
    "publisher",
    metavar="PUBLISHER",
    shell_complete=options.complete_publisher,
    help="Whose file (official, timm, ...); default: the variant's first.",
)
@options.option("--offline", is_flag=True, help="Use what is in the cache; no network.")
@options.option(
    "--import",
    "brought",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Add a file downloaded by hand, under any name; recognised by its hash or content.",
)
@options.option("--dest", type=click.Path(path_type=Path), metavar="DIR", help="Put a verified copy into DIR.")
@options.option("--at-once", type=click.IntRange(1, 16), default=4, show_default=True, help="Parallel downloads.")
@options.json_option
def command(
    names: tuple[str, ...],
    everything: bool,
    publisher: api.Publisher | None,
    offline: bool,
    brought: Path | None,
    dest: Path | None,
    at_once: int,
    as_json: bool,
) -> None:
    r"""Download weights, verify them and keep them in the cache; print their paths.

    An interrupted download is resumed by the next run. R2CONVERT_MIRROR names a base URL or a folder to try
    first, R2CONVERT_CACHE the cache folder.

    \b
    Examples:
      r2convert fetch res2net50_w14_s8 Res2Net-101-26w-4s
      r2convert fetch hf://timm/res2net50_14w_8s.in1k
    """
    if brought is not None and everything:
        raise UsageError("--import takes one file, --all every variant: they cannot be combined")
    if brought is None and everything == bool(names):
        raise UsageError(
            "name the variants to fetch, or pass --all",
            next_step="`r2convert cache` shows what is in the cache"
            if offline
            else "`r2convert list` shows the variants; `r2convert fetch --help` an example",
        )
    first_time = api.cache_is_new()
    with TransferDisplay() as display:
        if brought is not None:
            found = api.import_file(brought, names, publisher=publisher, progress=display)
            display.message(f"{brought}: {found.variant.name}, {found.source.file_name}: {found.note}")
            fetched = api.FetchedFiles(((found.variant, found.file),), ())
        else:
            fetched = api.fetch_all(
                names, publisher=publisher, offline=offline, at_once=at_once, display=display.expect
            )
    if first_time and fetched.files:
        print_note(f"Licence of the official weights: {api.WEIGHTS_LICENCE}. This is shown once.")
    _report(fetched, dest, as_json)
    if fetched.errors:
        raise _joined(fetched.errors)


def _report(fetched: api.FetchedFiles, dest: Path | None, as_json: bool) -> None:
    """Print the final paths, or one document about them."""
    rows = [(variant, file, file.path if dest is None else api.copy_to(file, dest)) for variant, file in fetched.files]
    if not as_json:
        for _, _, path in rows:
            click.echo(os.fsencode(path))  # as bytes: a script opens it, whatever the locale can show
        return
    documents = [
        {
            "variant": variant and variant.id,
            "path": str(path),
            "sha256": file.sha256,
            "size": file.size,
            "trust": file.trust,
            "origin": file.origin,
        }
        for variant, file, path in rows
    ]
    print_json({"files": documents, "errors": [error_document(error) for error in fetched.errors]})


def _joined(errors: Sequence[R2ConvertError]) -> R2ConvertError:
    """The only error, or one that lists them all, with the advice of the first."""
    if len(errors) == 1:
        return errors[0]
    return MirrorsFailedError(
        f"{len(errors)} files could not be downloaded",
        got=_INDENT.join(_in_brief(error) for error in errors),
        next_step=errors[0].next_step,
    )


def _in_brief(error: R2ConvertError) -> str:
    """What happened, and where if that takes more than a line: then it is the list of addresses tried."""
    if error.where is not None and "\n" in error.where:
        return f"{error.what}{_INDENT}{error.where}"
    return f"{error.what} ({error.got})" if error.got else error.what
