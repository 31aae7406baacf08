"""Bars for work that goes file by file: drawn on a terminal only, gone when the work is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from r2convert.cli.console import stderr_console

Item = TypeVar("Item")

_BAR_WIDTH = 20


def over_files(items: Sequence[Item], paths: Iterable[Path], what: str) -> Iterator[Item]:
    """Yield items while a bar shows how many bytes of their files are done, at what rate, and the time left.

    Args:
        items: what to yield.
        paths: the file or folder behind each item.
        what: what is done to them, one word or two.
    """
    sizes = [_size(path) for path in paths]
    console = stderr_console()
    if not console.is_terminal or console.quiet:
        yield from items
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=_BAR_WIDTH),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(what, total=sum(sizes))
        for item, size in zip(items, sizes, strict=True):
            yield item
            bars.update(task, advance=size)


def _size(path: Path) -> int:
    """Bytes of a file or of a folder's files; what cannot be looked at counts nothing, whoever opens it tells why."""
    try:
        files = [path] if path.is_file() else list(path.iterdir())
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0
