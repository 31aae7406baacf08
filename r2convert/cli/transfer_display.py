"""Transfers as people see them: one line a file and a total on a terminal, plain messages elsewhere."""

from __future__ import annotations

import threading
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

_BAR_WIDTH = 10


class TransferDisplay:
    """Draws what the fetch room reports; a context manager. Calls may come from several threads.

    Args:
        console: a console on stderr.
        files: how many files the run will fetch; with more than one a total is shown.
    """

    def __init__(self, console: Console, files: int) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            # The name gives way on a narrow terminal: the numbers are what changes.
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=_BAR_WIDTH),
            DownloadColumn(table_column=Column(no_wrap=True, justify="right")),
            TransferSpeedColumn(table_column=Column(no_wrap=True, justify="right")),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            disable=not console.is_terminal or console.quiet,
            expand=True,
        )
        self._total = self._bars.add_task(f"all {files} files", total=0, visible=False) if files > 1 else None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, name: str, total: int | None, done: int) -> None:
        """Show the file's line, or set it back."""
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
        """Let the total follow from the files' lines: lengths become known one by one, and files start over."""
        if self._total is None:
            return
        files = [task for task in self._bars.tasks if task.id != self._total]
        length = sum(task.total or task.completed for task in files)
        self._bars.update(self._total, total=length, completed=sum(task.completed for task in files), visible=True)
