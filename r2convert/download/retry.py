"""When to try again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from r2convert.errors import FetchError

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
