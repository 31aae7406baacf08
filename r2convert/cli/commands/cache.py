"""`r2convert cache`: the cache folder, what lies in it, and looking after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from r2convert.cli.console import print_json, print_note, stdout_console
from r2convert.cli.progress import over_files
from r2convert.errors import UsageError

if TYPE_CHECKING:
    from r2convert.catalog import Source
    from r2convert.download.cache import Cache, CacheEntry


@click.command("cache", short_help="The cache folder and its files.", epilog="\b\nExample:\n  r2convert cache --verify")
@click.option("--verify", is_flag=True, help="Hash every file again; damaged ones are put aside (exit 1).")
@click.option("--clean", is_flag=True, help="Remove partial downloads and bad files.")
@click.option("--forget", metavar="FILE", help="Forget the recorded hash of a file, to accept a new one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def cache(context: click.Context, verify: bool, clean: bool, forget: str | None, as_json: bool) -> None:
    """Show the cache folder and its files, check them, or clear away what is of no more use."""
    from r2convert.download.cache import Cache

    if verify + clean + (forget is not None) > 1:
        raise UsageError("--verify, --clean and --forget are three different jobs: give one at a time")
    folder = Cache.default()
    if verify:
        context.exit(_verify(folder, as_json))
    elif clean:
        _clean(folder, as_json)
    elif forget is not None:
        _forget(folder, forget, as_json)
    else:
        _show(folder, as_json)


def _sources() -> dict[str, Source]:
    from r2convert.catalog import load_catalog

    return {source.file_name: source for variant in load_catalog().variants.values() for source in variant.sources}


def _show(cache: Cache, as_json: bool) -> None:
    sources = _sources()
    rows = [_describe(cache, entry, sources) for entry in cache.entries()]
    if as_json:
        print_json({"folder": str(cache.folder), "files": rows})
        return
    console = stdout_console()
    console.print(str(cache.folder), soft_wrap=True, markup=False)
    if not rows:
        console.print("(empty)")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("hash", no_wrap=True)
    table.add_column("from", overflow="fold")
    for row in rows:
        size, trust, origin = f"{row['size']:,}", str(row["trust"] or "-"), _host(row["origin"])
        table.add_row(Text(str(row["name"])), size, str(row["state"]), trust, Text(origin))
    console.print(table)
    console.print("hash: pinned (in the catalogue), seen (begins as published), unknown (unpublished)")


def _describe(cache: Cache, entry: CacheEntry, sources: dict[str, Source]) -> dict[str, object]:
    """Say what one entry is; a file that changed since it was last hashed is hashed again."""
    from r2convert.download.cache import CachedFile

    state, trust, sha256, origin = entry.kind, None, None, None
    source = sources.get(entry.path.name) if entry.kind == "file" else None
    if source is not None:
        found = cache.examine(source)
        if isinstance(found, CachedFile):
            trust, sha256, origin = found.trust, found.sha256, found.origin
    elif entry.pin is not None:
        sha256, origin = entry.pin.sha256, entry.pin.origin
    word = "damaged" if source is not None and sha256 is None else state
    return {
        "name": entry.path.name,
        "path": str(entry.path),
        "size": entry.size,
        "state": word,
        "trust": trust,
        "sha256": sha256,
        "origin": origin,
    }


def _host(origin: object) -> str:
    """Return the host of a URL, or the path of a folder mirror or of a file brought by hand."""
    from urllib.parse import urlsplit

    text = str(origin or "-")
    return urlsplit(text).hostname or text if "://" in text else text


def _verify(cache: Cache, as_json: bool) -> int:
    """Return the exit code: 1 if a file is not what it should be."""
    from r2convert.download.housekeeping import verify_cache

    def with_bar(files: Sequence[CacheEntry]) -> Iterator[CacheEntry]:
        return over_files(files, [entry.path for entry in files], "hashing files")

    checked = verify_cache(cache, _sources().values(), with_bar)
    if as_json:
        print_json(
            {
                "folder": str(cache.folder),
                "files": [
                    {
                        "path": str(each.path),
                        "sha256": each.sha256,
                        "known": each.known,
                        "sound": each.objection is None,
                        "reason": each.objection.reason if each.objection else None,
                    }
                    for each in checked
                ],
            }
        )
    else:
        for each in checked:
            if each.objection is not None:
                click.echo(f"DAMAGED  {each.path}: {each.objection.reason}")
                click.echo(f"         expected {each.objection.expected}")
                click.echo(f"         got      {each.objection.got}")
            else:
                click.echo(f"{'sound' if each.known else 'unknown':<8} {each.path}")
        bad = sum(each.objection is not None for each in checked)
        click.echo(f"{len(checked)} files, {bad} damaged")
    return int(any(each.objection is not None for each in checked))


def _clean(cache: Cache, as_json: bool) -> None:
    from r2convert.download.housekeeping import clean_cache

    removed, busy = clean_cache(cache)
    if as_json:
        print_json({"removed": [str(each.path) for each in removed], "in_use": [str(each.path) for each in busy]})
        return
    for each in removed:
        click.echo(each.path)
    for each in busy:
        print_note(f"in use, left alone: {each.path}")
    freed = sum(each.size for each in removed)
    print_note(f"{len(removed)} files removed, {freed:,} bytes freed")


def _forget(cache: Cache, file_name: str, as_json: bool) -> None:
    known = cache.pins.get(file_name)
    if known is None:
        raise UsageError(
            f"no hash of {file_name!r} is recorded",
            where=str(cache.folder),
            expected=", ".join(sorted(cache.pins.all())) or "(nothing is recorded yet)",
        )
    cache.pins.forget(file_name)
    if as_json:
        print_json({"forgotten": file_name, "sha256": known.sha256})
    else:
        click.echo(f"{file_name}: {known.sha256} forgotten")
