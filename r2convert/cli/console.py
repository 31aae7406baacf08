"""Where output goes: results to stdout, messages and progress to stderr, JSON alone on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.cli.app import Settings
from r2convert.errors import R2ConvertError
from r2convert.files import atomic_output, printable

if TYPE_CHECKING:  # rich takes a sixth of the time of a conversion, which prints without it
    from rich.console import Console

_COLUMNS = 80


def settings() -> Settings:
    """Those of the command that runs."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Settings) if context is not None else None
    return found if found is not None else Settings()


def stdout_console() -> Console:
    """A console for results; plain text when piped, 80 columns wide where no terminal says otherwise."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False, width=_width())


def stderr_console() -> Console:
    """A console for messages and progress; with ``--quiet`` it prints nothing."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, width=_width(), quiet=settings().quiet)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), fold: Sequence[str] = ()
) -> None:
    """Print rows on stdout as a table, or as blocks of a line a cell where the terminal is too narrow for one.

    Args:
        headings: one a column.
        rows: cells, none of which is read as markup.
        right: headings of columns that are set flush right.
        fold: headings of columns that go on in the next line where they are too long.
    """
    from rich.text import Text

    from r2convert.report.tables import plain_table

    table = plain_table(*headings, right=right, fold=fold)
    for row in rows:
        table.add_row(*map(Text, row))
    stdout_console().print(table, soft_wrap=True)


def print_note(message: str) -> None:
    """Print on stderr what is good to know, unless ``--quiet`` was given."""
    if not settings().quiet:
        sys.stderr.write(f"{printable(message, keep_lines=True)}\n")


def print_detail(message: str) -> None:
    """Print on stderr what was used, if ``--verbose`` was given."""
    if settings().verbose:
        sys.stderr.write(f"{printable(message, keep_lines=True)}\n")


def print_warning(message: str) -> None:
    """Print a warning on stderr, also with ``--quiet``: a conversion that is well but for one thing must say so."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False, width=_width())
    console.print(f"[yellow]warning:[/] {escape(printable(message, keep_lines=True))}", soft_wrap=True)


def print_error(error: R2ConvertError, code: int, said: Settings) -> None:
    """Print an error on stderr; where JSON was asked for and none has been printed, as a document on stdout too."""
    sys.stderr.write(f"error: {printable(str(error), keep_lines=True)}\n")
    if said.json:
        _write_json({"error": {**error_document(error), "exit_code": code}})


def error_document(error: R2ConvertError) -> dict[str, Any]:
    """An error as plain values."""
    parts = ("what", "where", "expected", "got", "next_step")
    return {"kind": type(error).__name__, **{name: getattr(error, name) for name in parts}}


def print_json(document: Mapping[str, object]) -> None:
    """Print one JSON document and nothing else on stdout."""
    settings().json = False
    _write_json(document)


@contextmanager
def open_output(target: str, what: str) -> Iterator[Callable[[str], None]]:
    """Take a place for text now, and put the text there when the block ends well.

    Args:
        target: the file; one that is there is replaced.
        what: what is written, for messages.

    Yields:
        A function that takes the whole text.

    Raises:
        AccessError: the place cannot take a file.
    """
    with atomic_output(Path(target), overwrite=True) as (_, descriptor):

        def write(text: str) -> None:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                # A path in it need not be UTF-8; what is not becomes an escape, as JSON has them.
                file.write(text.encode(errors="backslashreplace"))

        yield write
    print_note(f"{what} written to {target}")


def counted(number: int, thing: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _write_json(document: Mapping[str, object]) -> None:
    escaped = sys.stdout.encoding.lower() != "utf-8"
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=escaped) + "\n")


def _width() -> int | None:
    """Columns where COLUMNS says nothing of use: a terminal of unknown size is handed on as 0 columns."""
    return _COLUMNS if os.environ.get("COLUMNS") == "0" else None
