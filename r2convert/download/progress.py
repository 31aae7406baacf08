"""How a long transfer tells its caller where it is: the room itself never prints."""

from __future__ import annotations

from typing import Protocol


class ProgressSink(Protocol):
    """What a caller implements to show transfers. Calls may come from several threads at once."""

    def started(self, name: str, total: int | None, done: int) -> None:
        """File ``name`` begins (again) at byte ``done`` of ``total`` (``None``: length not announced)."""

    def advanced(self, name: str, amount: int) -> None:
        """``amount`` more bytes of ``name`` have arrived."""

    def finished(self, name: str) -> None:
        """No more bytes of ``name`` will come in this run, whether it went well or not."""

    def message(self, text: str) -> None:
        """Something a person should know: a retry, a clean start, a wait, a bad file put aside."""


class SilentProgress:
    """Shows nothing."""

    def started(self, name: str, total: int | None, done: int) -> None:
        """Ignore the start of a file."""

    def advanced(self, name: str, amount: int) -> None:
        """Ignore arriving bytes."""

    def finished(self, name: str) -> None:
        """Ignore the end of a file."""

    def message(self, text: str) -> None:
        """Ignore a message."""
