"""`r2convert cache`: show, check or clean the cache folder."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import print_json, print_note, print_table
from r2convert.cli.progress import over_files
from r2convert.errors import UsageError
from r2convert.files import counted

EXIT_DAMAGED = 1


@options.command("cache", "Show, check or clean the cache folder.")
@options.option("--verify", is_flag=True, help="Hash every file again; damaged ones are set aside (exit code 1).")
@options.option("--clean", is_flag=True, help="Remove partial downloads and bad files.")
@options.option("--forget", metavar="FILE", help="Forget the recorded hash of a file, to accept a new one.")
@options.json_option
@click.pass_context
def command(context: click.Context, verify: bool, clean: bool, forget: str | None, as_json: bool) -> None:
    r"""Show the cache folder and its files, check them, or remove what is no longer needed.

    \b
    Example:
      r2convert cache --verify
    """
    if verify + clean + (forget is not None) > 1:
        raise UsageError("--verify, --clean and --forget cannot be combined: pass one at a time")
    if verify:
        context.exit(_verify(as_json))
    elif clean:
        _clean(as_json)
    elif forget is not None:
        known = api.forget_hash(forget)
        if as_json:
            print_json({"forgotten": forget, "sha256": known.sha256})
        else:
            click.echo(f"{forget}: {known.sha256} forgotten")
    else:
        _show(as_json)


def _show(as_json: bool) -> None:
    folder, rows = api.cache_folder(), api.cache_entries()
    if as_json:
        files = [{"name": row.path.name, **row._asdict(), "path": str(row.path)} for row in rows]
        print_json({"folder": str(folder), "files": files})
        return
    click.echo(folder)
    if not rows:
        click.echo("(empty)")
        return
    cells = [(row.path.name, f"{row.size:,}", row.state, row.trust or "-", _host(row.origin)) for row in rows]
    print_table(("file", "bytes", "state", "hash", "from"), cells, right=("bytes",), fold=("file", "from"))
    click.echo("hash: pinned (SHA-256 is the catalogue's), seen (SHA-256 prefix matches), unknown (none is published)")


def _host(origin: str | None) -> str:
    """The host of a URL, or the path of a folder mirror or of an imported file."""
    if origin is None:
        return "-"
    return urlsplit(origin).hostname or origin if "://" in origin else origin


def _verify(as_json: bool) -> int:
    checked = api.verify_cache(lambda files: over_files(files, "hashing files"))
    bad = sum(each.objection is not None for each in checked)
    if as_json:
        files = [
            {
                "path": str(each.path),
                "sha256": each.sha256,
                "known": each.known,
                "sound": each.objection is None,
                "reason": each.objection.reason if each.objection else None,
            }
            for each in checked
        ]
        print_json({"folder": str(api.cache_folder()), "files": files})
        return EXIT_DAMAGED if bad else 0
    for each in checked:
        if each.objection is not None:
            click.echo(f"DAMAGED  {each.path}: {each.objection.reason}")
            click.echo(f"         expected {each.objection.expected}")
            click.echo(f"         got      {each.objection.got}")
        else:
            click.echo(f"{'sound' if each.known else 'unknown':<8} {each.path}")
    click.echo(f"{counted(len(checked), 'file')}, {bad} damaged")
    return EXIT_DAMAGED if bad else 0


def _clean(as_json: bool) -> None:
    removed, busy = api.clean_cache()
    if as_json:
        print_json({"removed": [str(each.path) for each in removed], "in_use": [str(each.path) for each in busy]})
        return
    for each in removed:
        click.echo(each.path)
    for each in busy:
        print_note(f"in use, left alone: {each.path}")
    freed = sum(each.size for each in removed)
    print_note(f"{counted(len(removed), 'file')} removed, {counted(freed, 'byte')} freed")
