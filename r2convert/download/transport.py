"""One HTTP request for one file, under one deadline: redirects checked, faults classified, body as chunks.

``requests`` brings proxies, ``REQUESTS_CA_BUNDLE`` and ``.netrc`` from the environment. Redirects are followed
here and not by it, because each target has to pass :func:`r2convert.download.addresses.check_address`.
"""

from __future__ import annotations

import http.client
import io
import random
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

from r2convert.download.addresses import Address, check_address, shown, without_query
from r2convert.download.partial import Origin
from r2convert.errors import FetchError, RefusedAddressError, ServerRefusedError, UnreachableError
from r2convert.version import __version__

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 20
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be different a moment later (RFC 9110, 15.5 and 15.6; RFC 6585, 4)."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")
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
        stall: within which an answer has to begin, headers and all, and within which every next piece of its body
            of ``stall`` times ``slowest`` bytes has to arrive.
        slowest: bytes a second; what comes more slowly than this would take days.
    """

    attempts: int = 4
    first_wait: float = 0.5
    longest_backoff: float = 20.0
    longest_wait: float = 60.0
    connect: float = 10.0
    stall: float = 30.0
    slowest: float = 1024.0

    def backoff(self, failures: int) -> float:
        """Return the wait after that many failures in a row: exponential, with jitter so that peers spread out."""
        ceiling = min(self.first_wait * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), self.longest_backoff)
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  # jitter needs no cryptography

    def wait_after(self, error: FetchError, failures: int) -> float | None:
        """Return how long to wait after the last of that many failures in a row; ``None``: give up."""
        if not error.retry or failures >= self.attempts:
            return None
        wait = self.backoff(failures) if error.wait is None else error.wait
        return None if wait > self.longest_wait else wait


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


class Deadline:
    """The time until which a server has to send something that counts.

    It runs while the network is waited for, and not while the bytes are written to a disk.
    """

    def __init__(self, patience: Patience) -> None:
        self._seconds = patience.stall
        self._enough = patience.stall * patience.slowest
        self.start()

    def start(self) -> None:
        """Grant the whole time, from now on."""
        self._received = 0
        self._end = time.monotonic() + self._seconds
        self._left = self._seconds

    def pause(self) -> None:
        """Stop the clock."""
        self._left = self._end - time.monotonic()

    def go_on(self) -> None:
        """Let the clock run again."""
        self._end = time.monotonic() + self._left

    def received(self, count: int) -> None:
        """Count bytes of the body, headers and framing apart: enough of them, and the time begins anew."""
        self._received += count
        if self._received >= self._enough:
            self.start()

    def remaining(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: there are none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(str(self))
        return left

    def __str__(self) -> str:
        return f"only {self._received:,} bytes in {self._seconds:g} s"


class _TimedReader(io.RawIOBase):
    """What a socket sends until the deadline: a timeout of the socket itself would begin anew with every byte."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._connection.settimeout(self._deadline.remaining())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response of which every byte, from the status line to the last chunk's framing, comes before the deadline."""

    def __init__(self, deadline: Deadline, connection: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), connection, deadline))
        deadline.start()

    def begin(self) -> None:
        super().begin()
        while 100 < self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            # An interim answer (RFC 9110, 15.2), such as 102 or 103; http.client steps over 100 only.
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()


class _TimedAdapter(HTTPAdapter):
    """Makes connections, through a proxy or not, whose responses are held to a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self._time(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return self._time(super().proxy_manager_for(proxy, **options))

    def _time(self, manager: urllib3.PoolManager) -> urllib3.PoolManager:
        def respond(connection: socket.socket, *arguments: Any, **options: Any) -> _Response:
            return _Response(self._deadline, connection, *arguments, **options)

        manager.pool_classes_by_scheme = {
            scheme: _with(pool, ConnectionCls=_with(pool.ConnectionCls, response_class=staticmethod(respond)))
            for scheme, pool in (("http", urllib3.HTTPConnectionPool), ("https", urllib3.HTTPSConnectionPool))
        }
        return manager


def _with(base: type, **attributes: object) -> Any:
    return type(base.__name__, (base,), attributes)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Never look where a redirect leads: ``requests`` would read its body, however long, to the end."""


class Answer:
    """A server's answer to a request for a file; a context manager that closes the connection.

    Attributes:
        status: 200, 206 or, to a range, 416.
        start: the first byte of the file that it holds; ``None``: it does not say.
        total: bytes of the whole file; ``None``: it does not say.
        delimited: whether a lost connection can be told from the end of the file.
        origin: what it says about the file, under the address first asked.
    """

    def __init__(self, response: requests.Response, url: str, deadline: Deadline) -> None:
        self._response = response
        self._deadline = deadline
        self.status = response.status_code
        length = response.raw.length_remaining
        self.delimited = length is not None or response.raw.chunked
        self.start, self.total = _content_range(response.headers.get("Content-Range", ""))
        if self.status == http.HTTPStatus.OK:
            self.start, self.total = 0, length
        etag = response.headers.get("ETag")
        if etag is not None and etag.startswith("W/"):
            etag = None  # a weak one does not speak for every byte
        self.origin = Origin(url, etag, response.headers.get("Last-Modified"), self.total)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    def chunks(self) -> Iterator[bytes]:
        """Yield the body's bytes as they arrive, at most 1 MiB at a time.

        Raises:
            FetchError: it ends before the announced length, stalls or crawls.
        """
        while chunk := self._read():
            yield chunk

    def _read(self) -> bytes:
        self._deadline.go_on()
        try:
            # read1 never waits for more than one packet, so that a trickle is noticed.
            chunk: bytes = self._response.raw.read1(_CHUNK, decode_content=False) or b""
        except urllib3.exceptions.ReadTimeoutError as problem:
            raise self._broken(str(self._deadline)) from problem
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as problem:
            # ValueError: http.client meets a chunk length that is no number.
            raise self._broken(reason_of(problem)) from problem
        finally:
            self._deadline.pause()
        self._deadline.received(len(chunk))
        return chunk

    def _broken(self, how: str) -> FetchError:
        return UnreachableError("the transfer broke off", where=self.origin.url, got=how, retry=True)


class Transport:
    """Asks for files; a context manager. One object a thread."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._deadline = Deadline(patience)
        self._session = _Session()
        self._session.headers.update({"User-Agent": f"r2convert/{__version__}", "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _TimedAdapter(self._deadline))

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def ask(self, address: Address, *, offset: int = 0, if_range: str | None = None) -> Answer:
        """Ask for a file, or for the rest of it from ``offset`` on.

        Args:
            address: where.
            offset: first byte wanted.
            if_range: entity tag or date under which the rest makes sense; the server sends all of it otherwise.

        Raises:
            FetchError: no usable answer (200, 206, or 416 to a range) came.
        """
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if if_range is not None:
                headers["If-Range"] = if_range
        response, final = self._follow(address, headers)
        error: FetchError | None = None
        if response.status_code not in ((200, 206, 416) if offset else (200,)):
            error = _status_error(response, final)
        encoding = response.headers.get("Content-Encoding", "").strip()
        if error is None and encoding.lower() not in ("", "identity"):
            # Bytes that a server compresses on the way are not those that were hashed, and cannot be continued.
            error = ServerRefusedError(
                "the server encodes the file in a way nobody asked for",
                where=final,
                expected="Content-Encoding: identity",
                got=f"Content-Encoding: {shown(encoding)}",
            )
        if error is not None:
            response.close()
            raise error
        return Answer(response, address.text, self._deadline)

    def _follow(self, address: Address, headers: dict[str, str]) -> tuple[requests.Response, str]:
        """Return the answer at the end of all redirects, and its address as it may be shown."""
        current, shown_as, came_from = address, address.text, None
        for _ in range(_MOST_REDIRECTS + 1):
            check_address(current.text, came_from=came_from)
            response = self._get(current, shown_as, headers)
            target = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or target is None:
                return response, shown_as
            response.close()
            came_from, current = current.text, _redirected(current, target)
            shown_as = without_query(current.text)
        raise RefusedAddressError("too many redirects", where=address.text, expected=f"{_MOST_REDIRECTS} at most")

    def _get(self, address: Address, shown_as: str, headers: dict[str, str]) -> requests.Response:
        limits = (self._patience.connect, self._patience.stall)
        login = None if address.login is None else HTTPBasicAuth(*(part.encode() for part in address.login))
        try:
            response = self._session.get(
                address.text, headers=headers, auth=login, stream=True, allow_redirects=False, timeout=limits
            )
        except requests.exceptions.ReadTimeout as problem:
            what, got = "the server does not answer", f"no complete answer within {self._patience.stall:g} s"
            raise UnreachableError(what, where=shown_as, got=got, retry=True, host_down=True) from problem
        except (ValueError, OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as problem:
            raise _connection_error(problem, shown_as) from problem
        self._deadline.pause()
        return response


def _redirected(current: Address, target: str) -> Address:
    """Return where a ``Location`` header leads; a login goes along on the same server only."""
    try:
        # http.client reads bytes as Latin-1; as they are, they are not fit for the next request line.
        address = Address.of(urljoin(current.text, quote(target.encode("latin-1"), safe="!#$%&'()*+,/:;=?@[]~")))
        same_server = urlsplit(address.text)[:2] == urlsplit(current.text)[:2]
    except ValueError as problem:
        raise _connection_error(problem, f"{current.text} -> {without_query(target)}") from problem
    return replace(address, login=current.login) if same_server and address.login is None else address


def _connection_error(problem: Exception, where: str) -> FetchError:
    got = reason_of(problem)
    if isinstance(problem, ValueError):  # the base of InvalidURL, InvalidSchema, InvalidHeader and UnicodeError too
        return UnreachableError("an address, a redirect or a proxy setting is malformed", where=shown(where), got=got)
    if isinstance(problem, requests.exceptions.SSLError):
        return UnreachableError(
            "the server's TLS certificate is not trusted, or TLS failed",
            where=where,
            got=got,
            next_step="behind a company proxy, set REQUESTS_CA_BUNDLE to its certificate file",
            host_down=True,
        )
    return UnreachableError("the server cannot be reached", where=where, got=got, retry=True, host_down=True)


def _status_error(response: requests.Response, url: str) -> FetchError:
    status = response.status_code
    wait = parse_retry_after(response.headers.get("Retry-After"))
    reason = http.client.responses.get(status, "unknown status")
    return ServerRefusedError(
        "the server did not send the file",
        where=url,
        expected="200 OK",
        got=f"{status} {reason}",
        retry=status in _PASSING or (status == 403 and wait is not None),  # 403 with a wait is a rate limit
        wait=wait,
    )


def _content_range(value: str) -> tuple[int | None, int | None]:
    """Return first byte and total of a ``Content-Range`` header; ``None`` for what it does not say."""
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None, None
    first, last, total = (int(number) if number and number != "*" else None for number in match.groups())
    if first is not None and last is not None and (last < first or (total is not None and last >= total)):
        return None, None
    return first, total
