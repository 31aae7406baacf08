"""Where output goes: results to stdout, messages and progress to stderr, JSON alone on stdout."""

from __future__ import annotations

import itertools
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.cli.app import Settings
from r2convert.errors import R2ConvertError
from r2convert.files import printable, text_output

if TYPE_CHECKING:  # rich takes a sixth of the time of a conversion, which prints without it
    from rich.console import Console

_COLUMNS = 80
_GAP = "  "
_FOLDED = 12
"""Minimum width of a column whose cells may wrap."""


def settings() -> Settings:
    """The settings of the running command."""
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
    """Print rows on stdout as a table or, if the terminal is too narrow for one, as blocks with one cell per line.

    rich has tables too; without it, ``r2convert list`` starts in two thirds of the time.

    Args:
        headings: one per column.
        rows: cells; a first cell that starts with spaces belongs to a row above.
        right: headings of columns to align right.
        fold: headings of columns that may wrap.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - columns()
    for index, heading in sorted(enumerate(headings), key=lambda each: -widths[each[0]]):
        if heading in fold and over > 0:
            narrowed = max(widths[index] - over, min(widths[index], _FOLDED))
            over, widths[index] = over - widths[index] + narrowed, narrowed
    if over > 0:
        lines = itertools.chain.from_iterable(_block(headings, row) for row in cells)
    else:
        rule = ["─" * width for width in widths]
        aligned = ["rjust" if heading in right else "ljust" for heading in headings]
        lines = itertools.chain.from_iterable(_lines(row, widths, aligned) for row in (headings, rule, *cells))
    click.echo("\n".join(lines))


def _lines(row: Sequence[str], widths: Sequence[int], aligned: Sequence[str]) -> Iterator[str]:
    """A row of the table, over several lines where a cell is longer than its column."""
    pieces = [
        [cell] if len(cell) <= width else textwrap.wrap(cell, width, break_on_hyphens=False)
        for cell, width in zip(row, widths, strict=True)
    ]
    for line in itertools.zip_longest(*pieces, fillvalue=""):
        placed = (getattr(cell, how)(width) for cell, width, how in zip(line, widths, aligned, strict=True))
        yield _GAP.join(placed).rstrip()


def _block(headings: Sequence[str], row: Sequence[str]) -> Iterator[str]:
    """The first cell as a heading, the others below it with theirs."""
    label = max(map(len, headings[1:]), default=0)
    indent = " " * (len(row[0]) - len(row[0].lstrip()) + 2)
    yield row[0]
    for heading, cell in zip(headings[1:], row[1:], strict=True):
        if cell:
            start = f"{indent}{heading:<{label}}  "
            room = max(columns() - len(start), _FOLDED)
            yield start + f"\n{' ' * len(start)}".join(
                textwrap.wrap(cell, room, break_on_hyphens=False, break_long_words=False)
            )


def print_note(message: str) -> None:
    """Print a note on stderr, unless ``--quiet`` was given."""
    if not settings().quiet:
        sys.stderr.write(f"{printable(message, keep_lines=True)}\n")


def print_detail(message: str) -> None:
    """Print a detail on stderr, if ``--verbose`` was given."""
    if settings().verbose:
        sys.stderr.write(f"{printable(message, keep_lines=True)}\n")


def print_warning(message: str) -> None:
    """Print a warning on stderr, even with ``--quiet``: a conversion that succeeds with a caveat must say so."""
    click.echo(f"{coloured('warning:', 'yellow')} {printable(message, keep_lines=True)}", err=True)


def coloured(text: str, colour: str, *, bold: bool = False) -> str:
    """A text for :func:`click.echo`, which strips the colour where the output is no terminal."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, fg=colour, bold=bold or None)


def print_error(error: R2ConvertError, code: int, said: Settings) -> None:
    """Print an error on stderr; where JSON was asked for and none has been printed, as a document on stdout too."""
    try:
        sys.stderr.write(f"error: {printable(str(error), keep_lines=True)}\n")
    except OSError:  # a full disk under stderr must not change the exit code, now or when Python flushes it at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
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
    """Open an output now, put its text in place when the block succeeds, and say so.

    Args:
        target: the file; an existing one is replaced.
        what: what is written, for messages.

    Yields:
        A function that takes the whole text.

    Raises:
        AccessError: it cannot be written.
    """
    with text_output(Path(target)) as write:
        yield write
    print_note(f"{what} written to {target}")


def _write_json(document: Mapping[str, object]) -> None:
    escaped = sys.stdout.encoding.lower() != "utf-8"
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=escaped) + "\n")


def columns() -> int:
    """The width of the terminal; 80 where there is none."""
    import shutil  # imported here: it brings in every kind of archive

    return shutil.get_terminal_size((_COLUMNS, 0)).columns


def _width() -> int | None:
    """The default width if COLUMNS is 0, which is how a terminal of unknown size is passed on."""
    return _COLUMNS if os.environ.get("COLUMNS") == "0" else None
