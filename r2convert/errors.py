"""The one exception tree of r2convert.

Every error a user can meet is an :class:`R2ConvertError`. Its class says what kind of failure it is and
carries the exit code of the command line; its parts say what happened, where, what was expected, what was
found and what to do next. Nothing else may reach the user as a traceback (unless ``--debug`` asks for it).
"""

from __future__ import annotations

from typing import ClassVar


class R2ConvertError(Exception):
    """An error with a message for people.

    Args:
        what: what went wrong, in one sentence.
        where: the file, offset, record, key or URL it happened at.
        expected: what should have been there.
        got: what was there.
        next_step: what the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.what]
        for label, text in (
            ("where", self.where),
            ("expected", self.expected),
            ("got", self.got),
            ("next", self.next_step),
        ):
            if text is not None:
                parts.append(f"  {label + ':':<10}{text}")
        return "\n".join(parts)

    def as_sentence(self) -> str:
        """The message in one line, for a warning about a file that is named beside it."""
        details = [*(self.got or "").splitlines(), self.next_step or ""]
        return "; ".join([self.what, *(detail.strip() for detail in details if detail.strip())])


class UsageError(R2ConvertError):
    """An option or name that does not exist, or options that cannot be combined."""

    exit_code = 2


class UnknownVariantError(UsageError):
    """No variant in the catalogue has this name or alias."""


class InputError(R2ConvertError):
    """A given file or folder cannot be used as it is."""

    exit_code = 3


class CatalogError(InputError):
    """A mapping file (variant or table) is damaged or contradicts itself."""


class CheckpointError(InputError):
    """A checkpoint file cannot be read: base of the more specific classes below."""


class TruncatedCheckpointError(CheckpointError):
    """The file ends before its own description says it should."""


class CorruptCheckpointError(CheckpointError):
    """The bytes contradict themselves: bad CRC, overlapping records, impossible sizes."""


class UnsupportedCheckpointError(CheckpointError):
    """A container, dtype or feature that r2convert does not read, or no checkpoint at all."""


class UnsafeCheckpointError(CheckpointError):
    """The file asks for something no checkpoint needs, such as calling a function."""


class LimitExceededError(CheckpointError):
    """The file describes more than the reader's caps allow."""


class MappingError(InputError):
    """A conversion plan has problems: names, shapes or dtypes do not fit the table."""


class LargerNetworkError(MappingError):
    """A file holds a Res2Net among other tensors, or several.

    Attributes:
        options: those with which ``map`` takes one out.
        which: "it", or "the first one".
    """

    options: str = ""
    which: str = "it"


class DatasetError(InputError):
    """An image folder, archive or list cannot be used as an ImageNet validation set."""


class UnreadableImageError(DatasetError):
    """One image of a set cannot be decoded; a measurement counts it as wrong and continues."""


class AccessError(R2ConvertError):
    """Something could not be fetched, read or written: network, disk, permissions."""

    exit_code = 4


class OutputExistsError(AccessError):
    """The target exists and overwriting was not requested."""


class FetchError(AccessError):
    """A download failed, or one attempt at one URL did: base of the more specific classes below.

    Args:
        what: what went wrong, in one sentence.
        retry: whether the same URL may work a moment later.
        wait: seconds that the server asked to wait, if it did.
        host_down: whether other files of this host will fail in the same way.
        parts: the other arguments of :class:`R2ConvertError`.
    """

    def __init__(
        self,
        what: str,
        *,
        retry: bool = False,
        wait: float | None = None,
        host_down: bool = False,
        **parts: str | None,
    ) -> None:
        super().__init__(what, **parts)
        self.retry = retry
        self.wait = wait
        self.host_down = host_down


class OfflineError(FetchError):
    """A file is not in the cache and the network may not be used."""


class RefusedAddressError(FetchError):
    """A URL, or a redirect, that r2convert does not follow (not https, a file, another scheme)."""


class UnreachableError(FetchError):
    """No DNS name, no connection, no trusted certificate, or a transfer that broke off or stalled."""


class ServerRefusedError(FetchError):
    """The server answered, but not with the file."""


class WrongFileError(FetchError):
    """The downloaded bytes are not the requested file: hash or size differ."""


class MirrorsFailedError(FetchError):
    """Every URL of a file was tried, and none worked."""


class CacheError(AccessError):
    """The cache folder cannot be used: permissions, disk, or a damaged record."""


class NoSpaceError(AccessError):
    """The disk has no room for the file."""


class UnknownFileError(InputError):
    """An imported file is none of the published ones."""
