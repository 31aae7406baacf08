"""One HTTP request for one file: redirects checked, faults classified, body as decoded chunks.

``requests`` brings proxies, ``REQUESTS_CA_BUNDLE`` and ``.netrc`` from the environment. Redirects are followed
here and not by it, because each target has to pass :func:`r2convert.download.addresses.check_address`.
"""

from __future__ import annotations

import http.client
import random
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urljoin

import requests
import urllib3

from r2convert.download.addresses import check_address, shown
from r2convert.download.partial import Origin
from r2convert.errors import FetchError, RefusedAddressError, ServerRefusedError, UnreachableError
from r2convert.version import __version__

_MOST_DOUBLINGS = 30
"""Beyond any cap in seconds, and far from what a float can hold."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How much a transfer puts up with. Times in seconds.

    Args:
        attempts: tries in a row without progress before an address is given up.
        first_wait: wait after the first failure; doubled after each further one.
        longest_backoff: cap of that doubling.
        longest_wait: a ``Retry-After`` beyond this counts as a refusal.
        connect: until a connection stands.
        stall: without a byte, or with less than ``slowest`` bytes a second over that time.
        slowest: bytes a second below which a transfer counts as stalled.
    """

    attempts: int = 4
    first_wait: float = 0.5
    longest_backoff: float = 20.0
    longest_wait: float = 60.0
    connect: float = 10.0
    stall: float = 30.0
    slowest: float = 64.0

    def backoff(self, failures: int) -> float:
        """Return the wait after that many failures in a row: exponential, with jitter so that peers spread out."""
        ceiling = min(self.first_wait * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), self.longest_backoff)
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  # jitter needs no cryptography


class MirrorFaultError(Exception):
    """One try at one address failed; carries the error for people and what to do about it.

    Args:
        error: what to tell if no other address helps.
        retry: whether the same address may succeed a moment later.
        wait: seconds the server asked to wait, if it did.
        host_down: whether other files on this host will fail in the same way.
    """

    def __init__(
        self, error: FetchError, *, retry: bool = False, wait: float | None = None, host_down: bool = False
    ) -> None:
        super().__init__(error.what)
        self.error = error
        self.retry = retry
        self.wait = wait
        self.host_down = host_down


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Read a ``Retry-After`` header: seconds or an HTTP date (RFC 9110, 10.2.3); ``None`` if absent or nonsense."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def reason_of(problem: BaseException) -> str:
    """Return what the error at the bottom of a chain says: the wrappers' texts name objects, not causes."""
    innermost = _innermost(problem)
    if isinstance(innermost, http.client.IncompleteRead):
        return "the connection closed early"
    if isinstance(innermost, http.client.BadStatusLine) and not isinstance(innermost, ConnectionError):
        return f"the answer is not HTTP: {shown(str(innermost))}"
    if isinstance(innermost, OSError) and innermost.strerror:
        return shown(innermost.strerror)
    text = str(innermost) or type(innermost).__name__
    if text.startswith("HTTP") and "): " in text:
        text = text.split("): ", 1)[1]  # urllib3 puts the connection's name before the cause
    return shown(text)


def in_brief(error: FetchError) -> str:
    """Return an error as a clause of a message."""
    return f"{error.what} ({error.got})" if error.got else error.what


def _innermost(problem: BaseException) -> BaseException:
    while True:
        parts = (getattr(problem, "reason", None), *problem.args)
        nested = [part for part in parts if isinstance(part, BaseException)]
        if not nested:
            return problem
        problem = nested[0]


_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be different a moment later (RFC 9110, 15.5 and 15.6; RFC 6585, 4)."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")


class Answer:
    """A server's answer to a request for a file; a context manager that closes the connection.

    Args:
        response: the open response.
        url: the address first asked, before redirects.
        patience: time limits for the body.
    """

    def __init__(self, response: requests.Response, url: str, patience: Patience) -> None:
        self._response = response
        self.status = response.status_code
        headers = response.headers
        encoding = headers.get("Content-Encoding", "").strip().lower()
        self.encoded = encoding not in ("", "identity")
        self.start, end, total = _content_range(headers.get("Content-Range"))
        announced = _whole_number(headers.get("Content-Length"))
        if "chunked" in headers.get("Transfer-Encoding", "").lower():
            announced = None  # RFC 9112, 6.3: chunked framing outranks a length
        if self.status == 200:
            self.start, total = 0, None if self.encoded else announced
        elif self.status == 206 and self.start is not None and end is not None:
            announced = end - self.start + 1
        self.total = total
        self.delimited = announced is not None or "chunked" in headers.get("Transfer-Encoding", "").lower()
        self.content_type = headers.get("Content-Type", "")
        self.body = Body(response.raw, encoding, None if self.encoded else announced, url, patience)
        etag = headers.get("ETag")
        self.origin = Origin(
            url=url,
            etag=None if etag is None or etag.startswith("W/") else etag,
            last_modified=headers.get("Last-Modified"),
            total=total,
            resumable=not self.encoded,
        )

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()


class Transport:
    """Asks for files. One object a thread.

    Args:
        patience: time limits.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": f"r2convert/{__version__}", "Accept-Encoding": "identity"})

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def ask(self, url: str, *, offset: int = 0, if_range: str | None = None) -> Answer:
        """Ask for a file, or for the rest of it from ``offset`` on.

        Args:
            url: where.
            offset: first byte wanted.
            if_range: entity tag or date under which the rest makes sense; the server sends all of it otherwise.

        Raises:
            MirrorFaultError: no usable answer (200, 206, or 416 to a range) came.
        """
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if if_range is not None:
                headers["If-Range"] = if_range
        response, final = self._follow(url, headers)
        if response.status_code in ((200, 206, 416) if offset else (200,)):
            return Answer(response, url, self._patience)
        with response:
            raise _status_fault(response, final)

    def _follow(self, url: str, headers: dict[str, str]) -> tuple[requests.Response, str]:
        current, came_from = url, None
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                check_address(current, came_from=came_from)
            except RefusedAddressError as refused:
                raise MirrorFaultError(refused) from None
            response = self._get(current, headers)
            target = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or target is None:
                return response, current
            response.close()
            current, came_from = urljoin(current, target), current
        raise MirrorFaultError(
            RefusedAddressError("too many redirects", where=url, expected=f"{_MOST_REDIRECTS} at most")
        )

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        limits = (self._patience.connect, self._patience.stall)
        try:
            return self._session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=limits)
        except ValueError as problem:  # the base of InvalidURL, InvalidSchema, InvalidHeader and UnicodeError too
            error = UnreachableError(
                "an address, a redirect or a proxy setting is malformed", where=url, got=reason_of(problem)
            )
            raise MirrorFaultError(error) from problem
        except requests.exceptions.SSLError as problem:
            raise MirrorFaultError(_tls_error(url, problem), host_down=True) from problem
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
        ) as problem:
            error = UnreachableError("the server cannot be reached", where=url, got=reason_of(problem))
            raise MirrorFaultError(error, retry=True, host_down=True) from problem


def _tls_error(url: str, problem: Exception) -> UnreachableError:
    return UnreachableError(
        "the server's TLS certificate is not trusted, or TLS failed",
        where=url,
        got=reason_of(problem),
        next_step="behind a company proxy, set REQUESTS_CA_BUNDLE to its certificate file",
    )


def _status_fault(response: requests.Response, url: str) -> MirrorFaultError:
    status = response.status_code
    wait = parse_retry_after(response.headers.get("Retry-After"))
    reason = http.client.responses.get(status, "unknown status")
    error = ServerRefusedError(
        "the server did not send the file", where=url, expected="200 OK", got=f"{status} {reason}"
    )
    retry = status in _PASSING or (status == 403 and wait is not None)  # 403 with a wait is a rate limit
    return MirrorFaultError(error, retry=retry, wait=wait)


def _content_range(value: str | None) -> tuple[int | None, int | None, int | None]:
    """Return first byte, last byte and total of a ``Content-Range`` header; ``None`` for what it does not say."""
    match = _CONTENT_RANGE.fullmatch(value.strip()) if value else None
    if match is None:
        return None, None, None
    start, end, total = match.groups()
    first, last = (int(start), int(end)) if start is not None else (None, None)
    whole = None if total == "*" else int(total)
    if first is not None and last is not None and (last < first or (whole is not None and last >= whole)):
        return None, None, None
    return first, last, whole


def _whole_number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) <= 18 else None


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
