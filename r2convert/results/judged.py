"""What a verdict table needs to know of a result, whether it has just been measured or was read from a file."""

from __future__ import annotations

from typing import Protocol

from r2convert.checks.checks import Check, Verdict


class Counted(Protocol):
    """Images that were shown."""

    @property
    def images(self) -> int:
        """How many."""

    @property
    def real_images(self) -> int:
        """How many of them have ReaL labels."""


class Judged(Protocol):
    """One checkpoint's checks."""

    @property
    def variant(self) -> str:
        """Id of the network."""

    @property
    def checkpoint(self) -> str | None:
        """Path of the file, or ``None`` for the reference network."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """What was checked, in order."""

    @property
    def accuracy(self) -> Counted | None:
        """What was measured on images, if anything was."""

    @property
    def verdict(self) -> Verdict:
        """The verdict over all checks."""
