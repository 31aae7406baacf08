"""Bytes that a pickle stores as Latin-1 text in UTF-8 (Python 3 under protocol 2)."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from r2convert.errors import CorruptCheckpointError


def decode_latin1(pieces: Iterable[memoryview], where: str) -> Iterator[memoryview]:
    """Turn pieces of UTF-8 text back into the bytes whose Latin-1 reading the text is.

    Raises:
        CorruptCheckpointError: the text is not UTF-8, or has a letter that is no Latin-1 one.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in pieces:
            yield memoryview(decoder.decode(piece).encode("latin-1"))
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise CorruptCheckpointError(
            "Bytes pickled as text are no such text", where=where, expected="Latin-1 letters in UTF-8"
        ) from error
