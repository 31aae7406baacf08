"""Network errors in words: one line, without the wrappers, and with nothing in it that steers a terminal."""

from __future__ import annotations

import http.client

from r2convert.errors import FetchError
from r2convert.files import printable

_LONGEST = 200


def shown(text: str) -> str:
    """Return a text of foreign origin fit for a message: one line, harmless, not too long."""
    clean = printable(text.strip())
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST] + "..."


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
