"""How long to wait before trying again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2convert.download.transport import Patience, parse_retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text())
def test_no_header_is_a_crash(header: str) -> None:
    wait = parse_retry_after(header, NOW)
    assert wait is None or wait >= 0


@given(st.integers(0, 10**6))
def test_a_date_means_the_time_until_then(seconds: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(header, NOW) == seconds


@given(st.integers(1, 2000))
def test_waits_double_up_to_a_cap_and_are_spread(failures: int) -> None:
    patience = Patience()
    ceiling = min(patience.first_wait * 2 ** min(failures - 1, 100), patience.longest_backoff)
    assert ceiling / 2 <= patience.backoff(failures) <= ceiling
