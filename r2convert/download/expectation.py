"""What is known about a file's bytes before they arrive, and whether given bytes fit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from r2convert.catalog.variant import Source

Trust = Literal["pinned", "seen", "unknown"]

_DECIDING_PREFIX = 8
"""Hex digits of a hash that rule out an accident (1 in 4e9); a shorter prefix does not."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a file must be.

    Args:
        file_name: the file's name in the cache.
        pinned_sha256: full SHA-256 from the catalogue.
        seen_sha256: full SHA-256 recorded when the file was first fetched on this machine.
        sha256_prefix: first hex digits of the SHA-256, as published.
        size: size in bytes, from the catalogue or from the record.
    """

    file_name: str
    pinned_sha256: str | None = None
    seen_sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, source: Source, seen_sha256: str | None = None, seen_size: int | None = None) -> Expectation:
        """Join what the catalogue says of ``source`` with what was recorded at first sight."""
        if source.sha256 is not None:  # the catalogue outranks what happened to be seen first
            seen_sha256 = seen_size = None
        return cls(source.file_name, source.sha256, seen_sha256, source.sha256_prefix, source.size or seen_size)

    @property
    def sha256(self) -> str | None:
        """The full SHA-256 the file must have, if any is known."""
        return self.pinned_sha256 or self.seen_sha256

    @property
    def hash_decides(self) -> bool:
        """Whether a finished file can be judged by its hash alone."""
        return self.sha256 is not None or len(self.sha256_prefix or "") >= _DECIDING_PREFIX

    @property
    def hash_is_known(self) -> bool:
        """Whether anything at all is known about the file's hash."""
        return self.sha256 is not None or self.sha256_prefix is not None

    @property
    def trust(self) -> Trust:
        """What a file that fits may be called: see :class:`r2convert.download.cache.CachedFile`."""
        if self.pinned_sha256 is not None:
            return "pinned"
        return "seen" if self.sha256_prefix else "unknown"

    def objection(self, sha256: str, size: int) -> Objection | None:
        """Say why a file with this hash and size is not the one expected; ``None`` if it is."""
        if self.pinned_sha256 is not None and sha256 != self.pinned_sha256:
            return Objection("its hash is not the one in the catalogue", self.pinned_sha256, sha256)
        if self.sha256_prefix is not None and not sha256.startswith(self.sha256_prefix.lower()):
            return Objection("its hash does not begin as published", f"{self.sha256_prefix}...", sha256)
        if self.seen_sha256 is not None and sha256 != self.seen_sha256:
            return Objection("it is not the file that was first seen under this name", self.seen_sha256, sha256)
        if self.size is not None and size != self.size:
            return Objection("its size is not the one expected", f"{self.size:,} bytes", f"{size:,} bytes")
        return None


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a file is not the expected one, with the expected and the found value."""

    reason: str
    expected: str
    got: str
