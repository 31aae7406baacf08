"""Where output goes: results to stdout, messages and progress to stderr, JSON alone on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from r2convert.files import printable

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = 80

QUIET = "r2convert.quiet"
"""Where the command line's context keeps whether ``--quiet`` was given."""


def stdout_console() -> Console:
    """A console for results; plain text when piped, 80 columns wide where no terminal says otherwise."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False, width=_width())


def stderr_console() -> Console:
    """A console for messages and progress; with ``--quiet`` it prints nothing."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, width=_width(), quiet=is_quiet())


def is_quiet() -> bool:
    """Whether ``--quiet`` was given: results, warnings and errors only."""
    import click

    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def print_note(message: str) -> None:
    """Print on stderr what is good to know, unless ``--quiet`` was given."""
    if not is_quiet():
        sys.stderr.write(f"{printable(message, keep_lines=True)}\n")


def _width() -> int | None:
    """Columns where COLUMNS says nothing of use: a terminal of unknown size is handed on as 0 columns."""
    return _COLUMNS if os.environ.get("COLUMNS") == "0" else None


def print_json(document: Mapping[str, object]) -> None:
    """Print one JSON document and nothing else on stdout."""
    escaped = sys.stdout.encoding.lower() != "utf-8"
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=escaped) + "\n")


def print_warning(message: str) -> None:
    """Print a warning on stderr, also with ``--quiet``: a conversion that is well but for one thing must say so."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False, width=_width())
    console.print(f"[yellow]warning:[/] {escape(printable(message, keep_lines=True))}", soft_wrap=True)
