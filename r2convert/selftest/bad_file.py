"""One entry of the catalogue of bad files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from r2convert.errors import R2ConvertError


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that must be refused, and how.

    Attributes:
        name: what is wrong with it.
        suffix: what such a file is usually called.
        expected: the error the reader must raise: exactly this class.
        make: makes its bytes.
    """

    name: str
    suffix: str
    expected: type[R2ConvertError]
    make: Callable[[], bytes]
