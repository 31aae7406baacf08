"""One HTTP request for one file: redirects checked, faults classified, body as decoded chunks.

``requests`` brings proxies, ``REQUESTS_CA_BUNDLE`` and ``.netrc`` from the environment. Redirects are followed
here and not by it, because each target has to pass :func:`r2convert.download.addresses.check_address`.
"""

from __future__ import annotations

import http.client
import re
from urllib.parse import urljoin

import requests
import urllib3

from r2convert.download.addresses import check_address
from r2convert.download.body import Body
from r2convert.download.partial import Origin
from r2convert.download.reasons import reason_of
from r2convert.download.retry import MirrorFaultError, Patience, parse_retry_after
from r2convert.errors import RefusedAddressError, ServerRefusedError, UnreachableError
from r2convert.version import __version__

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
