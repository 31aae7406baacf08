"""Tables of the terminal: how verdicts look, and rows that become blocks where a table has no room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # `r2convert list` prints a table without verdicts, and starts sooner without msgspec
    from r2convert.results.verdicts import Verdict

_STYLES: dict[Verdict, str] = {
    "pass": "green",
    "fail": "bold red",
    "known-deviation": "yellow",
    "inconclusive": "yellow",
    "not-comparable": "dim",
}
_FOLDED = 12
"""Columns that a cell takes at the least which may go on in the next line."""


def verdict_text(verdict: Verdict, word: str | None = None) -> Text:
    """A verdict as a word, in a colour that repeats what the word says.

    Args:
        verdict: the verdict.
        word: another word for it, where the column is narrow.
    """
    return Text(word or verdict, style=_STYLES[verdict])


def plain_table(*headings: str, right: Sequence[str], fold: Sequence[str] = ()) -> PlainTable:
    """A table with a rule under its headings and no other lines.

    Args:
        headings: one a column.
        right: those of columns that are set flush right.
        fold: those of columns that go on in the next line where they are too long.
    """
    table = PlainTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for heading in headings:
        table.add_column(
            heading, justify="right" if heading in right else "left", no_wrap=heading not in fold, overflow="fold"
        )
    return table


class PlainTable(Table):
    """A table where there is room for it, and else a block a row: nothing is cut off."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or its blocks."""
        if self._needed(console, options) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        for row in zip(*(column.cells for column in self.columns), strict=True):
            yield from self._block([cell if isinstance(cell, Text) else Text(str(cell)) for cell in row])

    def _needed(self, console: Console, options: ConsoleOptions) -> int:
        wide = options.update_width(1_000)
        whole = Measurement.get(console, wide, self).maximum
        folding = [column for column in self.columns if not column.no_wrap]
        spare = 0
        for column in folding:
            widest = max((Measurement.get(console, wide, cell).maximum for cell in column.cells), default=0)
            spare += max(0, widest - max(_FOLDED, column.min_width or 0))
        return whole - spare

    def _block(self, cells: Sequence[Text]) -> Iterator[Text]:
        """The first cell as a heading, the others below it with theirs."""
        headings = [str(column.header) for column in self.columns]
        label = max(map(len, headings[1:]), default=0)
        yield Text.assemble(Text(" ").join(cells[0].split("\n")), style="bold")
        for heading, cell in zip(headings[1:], cells[1:], strict=True):
            if cell.plain.strip():
                yield Text.assemble(f"  {heading:<{label}}  ", Text(" ").join(cell.split("\n")))
