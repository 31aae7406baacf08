"""The body of an HTTP response as checked, decoded chunks: short, stalled and damaged bodies are faults."""

from __future__ import annotations

import http.client
import time
import zlib
from collections.abc import Iterator
from typing import Protocol

import urllib3

from r2convert.download.reasons import reason_of, shown
from r2convert.download.retry import MirrorFaultError, Patience
from r2convert.errors import FetchError, ServerRefusedError, UnreachableError

_CHUNK = 1 << 20
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


class RawBody(Protocol):
    """The part of a urllib3 response that is used here."""

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """Return what one read of the socket gives, at most ``amt`` bytes; empty at the end."""


class Body:
    """A response's body.

    Args:
        raw: the open response; ``read1`` never waits for more than one packet, so that a trickle is noticed.
        encoding: its ``Content-Encoding``, lower case.
        announced: bytes it will have, if known.
        url: for messages.
        patience: time limits.
    """

    def __init__(self, raw: RawBody, encoding: str, announced: int | None, url: str, patience: Patience) -> None:
        self._raw = raw
        self._encoding = encoding
        self._announced = announced
        self._url = url
        self._patience = patience

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes as they arrive, at most 1 MiB at a time.

        Raises:
            MirrorFaultError: the body ends early, stalls, crawls, or is not encoded as it says.
        """
        if self._encoding in ("", "identity"):
            yield from self._received()
        elif self._encoding in ("gzip", "x-gzip", "deflate"):
            yield from self._inflated()
        else:
            raise MirrorFaultError(
                ServerRefusedError(
                    "the server encodes the file in a way nobody asked for",
                    where=self._url,
                    expected="Content-Encoding: identity",
                    got=f"Content-Encoding: {shown(self._encoding)}",
                )
            )

    def _received(self) -> Iterator[bytes]:
        count, window, window_start = 0, 0, time.monotonic()
        while chunk := self._read():
            yield chunk
            count += len(chunk)
            window += len(chunk)
            now = time.monotonic()
            if now - window_start >= self._patience.stall:
                if window < self._patience.slowest * (now - window_start):
                    raise self._broken(f"only {window} bytes in {now - window_start:.0f} s")
                window, window_start = 0, now
        if self._announced is not None and count < self._announced:
            raise self._broken(f"the connection closed {self._announced - count:,} bytes early")

    def _read(self) -> bytes:
        try:
            return self._raw.read1(_CHUNK, decode_content=False) or b""
        except urllib3.exceptions.ReadTimeoutError as problem:
            raise self._broken(f"no byte for {self._patience.stall:g} s") from problem
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as problem:
            # ValueError: http.client meets a chunk length that is no number.
            raise self._broken(reason_of(problem)) from problem

    def _inflated(self) -> Iterator[bytes]:
        decoder = zlib.decompressobj(_ZLIB_OR_GZIP)
        try:
            for chunk in self._received():
                pending = chunk
                while pending and not decoder.eof:
                    yield decoder.decompress(pending, _CHUNK)
                    pending = decoder.unconsumed_tail
                if pending or decoder.unused_data:
                    raise self._damaged("bytes after the end of the compressed body")
        except zlib.error as problem:
            raise self._damaged(str(problem)) from problem
        if not decoder.eof:
            raise self._broken("the compressed body ends early")

    def _broken(self, how: str) -> MirrorFaultError:
        return MirrorFaultError(UnreachableError("the transfer broke off", where=self._url, got=how), retry=True)

    def _damaged(self, how: str) -> MirrorFaultError:
        error: FetchError = ServerRefusedError(
            "the body is not compressed as the server says",
            where=self._url,
            expected=f"Content-Encoding: {self._encoding}",
            got=how,
        )
        return MirrorFaultError(error)
