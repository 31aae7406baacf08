"""Storages: runs of bytes in a checkpoint file that tensors look into."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from r2convert.checkpoint.elements import DType


class Encoding(Enum):
    """How the bytes of an extent stand in the file."""

    RAW = "raw"
    #: Python 3's pickle protocol 2 has no bytes: it stores them as Latin-1 text in UTF-8, so that each byte
    #: from 0x80 on takes two.
    LATIN1_IN_UTF8 = "latin1-in-utf8"


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes in one file.

    Attributes:
        file: which of the checkpoint's files (always 0 unless it is a folder).
        offset: where the run starts in the file, in bytes.
        length: how long it is in the file, in bytes.
        encoding: how it stands there.
    """

    file: int
    offset: int
    length: int
    encoding: Encoding = Encoding.RAW


@dataclass(frozen=True, slots=True)
class Storage:
    """The bytes one or more tensors look into.

    Attributes:
        label: what messages call it: an archive record, a storage key, a variable.
        extents: where the bytes lie, in order. Only very large Paddle arrays have more than one.
        nbytes: how many bytes there are once decoded.
        crc32: the checksum the file states for them, if it does.
    """

    label: str
    extents: tuple[Extent, ...]
    nbytes: int
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class TensorReference:
    """A tensor found in a file, before it has a name: a :class:`TensorInfo` without one."""

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    source: int
