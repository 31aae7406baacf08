"""What the terminal's tables have in common: how verdicts look, and how a table is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from r2convert.results.verdicts import Verdict


def verdict_text(verdict: Verdict, word: str | None = None) -> Text:
    """A verdict as a word, in a colour that repeats what the word says.

    Args:
        verdict: the verdict.
        word: another word for it, where the column is narrow.
    """
    styles: dict[Verdict, str] = {
        "pass": "green",
        "fail": "bold red",
        "known-deviation": "yellow",
        "inconclusive": "yellow",
        "not-comparable": "dim",
    }
    return Text(word or verdict, style=styles[verdict])


def plain_table(*headings: str, right: Sequence[str]) -> Table:
    """A table with a rule under its headings and no other lines; what is in ``right`` is set flush right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    return table
