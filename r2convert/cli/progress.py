"""Progress on stderr: bars on a terminal, plain messages elsewhere, nothing with ``--quiet``."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from r2convert import api
from r2convert.cli.console import stderr_console

_FILE_BAR = 20
_TRANSFER_BAR = 10
_WIDE = 66


class HasPath(Protocol):
    """Something that stands for a file."""

    @property
    def path(self) -> Path:
        """Where it is."""


Item = TypeVar("Item", bound=HasPath)


def _bars(console: Console, *columns: ProgressColumn, transient: bool = True, expand: bool = False) -> Progress:
    """Progress bars; a narrow terminal keeps only what is being done, how far it is, and the time left."""
    disabled = not console.is_terminal or console.quiet
    kept = columns if console.width >= _WIDE else [each for each in columns if not isinstance(each, _IN_WIDE)]
    return Progress(*kept, console=console, transient=transient, expand=expand, disable=disabled)


class _RateColumn(TextColumn):
    """How fast it goes."""


_IN_WIDE = (BarColumn, TransferSpeedColumn, _RateColumn)
"""Columns that only a wide terminal shows."""


def over_files(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield items while a bar shows how many bytes of their files are done, at what rate, and the time left.

    Args:
        items: what to yield.
        what: what is done to them, one word or two.
    """
    with _bars(
        stderr_console(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=_FILE_BAR),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    ) as bars:
        sizes = [_size(item.path) for item in items]
        task = bars.add_task(what, total=sum(sizes))
        for item, size in zip(items, sizes, strict=True):
            yield item
            bars.update(task, advance=size)


def _size(path: Path) -> int:
    """Bytes of a file or of a folder's files; 0 if it cannot be read, which is reported when it is opened."""
    try:
        files = [path] if path.is_file() else list(path.iterdir())
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0


class ImageProgress:
    """Shows how many images were run, with rate and time left, once the first are done.

    A context manager. ``last`` is the progress shown last.
    """

    def __init__(self) -> None:
        self.last: api.AccuracyProgress | None = None
        self._bar = _bars(
            stderr_console(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _RateColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[top1]}"),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bar.stop()

    def measured(self, progress: api.AccuracyProgress) -> None:
        """Show the progress of a measurement."""
        self.last = progress
        # Networks are measured one after the other; the number in front of a name keeps equal ones apart.
        several = len(progress.top1_correct) > 1
        what = f"images, {progress.network.partition(' ')[2] or progress.network}" if several else "images"
        top1 = f"top-1 {100 * progress.top1_correct[progress.network] / max(progress.done, 1):.1f} %"
        self._show(what, progress.done, progress.total, f"{progress.images_per_second:.1f}/s", top1)

    def tried(self, progress: api.Progress) -> None:
        """Show which cause is being tried."""
        speed = self._bar.tasks[0].speed if self._bar.tasks else None
        rate = "" if speed is None else f"{speed:.1f}/s"
        self._show(progress.trying, progress.done, progress.total, rate, "")

    def _show(self, what: str, done: int, total: int | None, rate: str, top1: str) -> None:
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(what, total=total, rate=rate, top1=top1)
        # Each of several processes has a share of the images, and a second pass only part of them.
        self._bar.update(self._task, description=what, completed=done, total=total, rate=rate, top1=top1)


class TransferDisplay:
    """Downloads and copies as the library reports them; a context manager. Calls may come from several threads."""

    def __init__(self, files: int = 1) -> None:
        self._console = stderr_console()
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._bars = _bars(
            self._console,
            # A narrow terminal shortens the name and keeps the numbers, which change.
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=_TRANSFER_BAR),
            DownloadColumn(table_column=Column(no_wrap=True, justify="right")),
            TransferSpeedColumn(table_column=Column(no_wrap=True, justify="right")),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            transient=False,
            expand=True,
        )
        self._total: TaskID | None = None
        self.expect(files)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def expect(self, files: int) -> Self:
        """Show a total if there is more than one file."""
        if files > 1:
            self._total = self._bars.add_task(f"all {files} files", total=0, visible=False)
        return self

    def started(self, name: str, total: int | None, done: int) -> None:
        """Show the file's line, or reset it."""
        with self._lock:
            if name in self._tasks:
                self._bars.update(self._tasks[name], total=total, completed=done)
            else:
                self._tasks[name] = self._bars.add_task(escape(name), total=total, completed=done)
            self._add_up()

    def advanced(self, name: str, amount: int) -> None:
        """Move the file's bar and the total."""
        with self._lock:
            self._bars.update(self._tasks[name], advance=amount)
            if self._total is not None:
                self._bars.update(self._total, advance=amount)

    def finished(self, name: str) -> None:
        """Leave the file's line as it is."""
        with self._lock:
            if name in self._tasks:
                self._bars.stop_task(self._tasks[name])

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(escape(text), soft_wrap=True)

    def _add_up(self) -> None:
        """Recompute the total: sizes become known one by one, and downloads may start over."""
        if self._total is None:
            return
        files = [task for task in self._bars.tasks if task.id != self._total]
        length = sum(task.total or task.completed for task in files)
        self._bars.update(self._total, total=length, completed=sum(task.completed for task in files), visible=True)
