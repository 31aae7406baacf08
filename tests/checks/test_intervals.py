"""Printed numbers as intervals of whole numbers."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2convert.catalog.variant import Claim
from r2convert.checks.intervals import Interval, cut_interval, printed_interval


def claim(printed: str, unit: Any, metric: Any = "flops") -> Claim:
    return Claim(source="somebody", publisher="official", metric=metric, printed=printed, unit=unit)


@pytest.mark.parametrize(
    ("printed", "unit", "metric", "first", "last"),
    [
        ("8.12", "G", "flops", 8_115_000_000, 8_124_999_999),
        ("4.2", "G", "flops", 4_150_000_000, 4_249_999_999),
        ("25.70", "M", "parameters", 25_695_000, 25_704_999),
        ("78.14", "%", "top1", 39_068, 39_072),
        ("21.86", "error %", "top1", 39_068, 39_072),
        ("78.142", "%", "top1", 39_071, 39_071),
        ("0.8513", "fraction", "top1", 42_563, 42_567),
        ("84.326", "%", "real_top1", 39_496, 39_496),
    ],
)
def test_known_intervals(printed: str, unit: str, metric: str, first: int, last: int) -> None:
    assert printed_interval(claim(printed, unit, metric)) == Interval(first, last)


def test_cut_digits_stand_for_what_follows_them() -> None:
    assert 76_215_536 not in printed_interval(claim("76.21", "M", "parameters"))
    assert 76_215_536 in cut_interval(claim("76.21", "M", "parameters"))


@given(st.integers(0, 50_000), st.integers(0, 4))
def test_every_count_lies_in_the_interval_of_its_own_rounding(correct: int, digits: int) -> None:
    step = Decimal(1).scaleb(-digits)
    accuracy = (Decimal(correct) / 500).quantize(step, ROUND_HALF_UP)
    error = (Decimal(50_000 - correct) / 500).quantize(step, ROUND_HALF_UP)
    assert correct in printed_interval(claim(str(accuracy), "%", "top1"))
    assert correct in printed_interval(claim(str(error), "error %", "top1"))


@given(st.integers(0, 20_000_000_000), st.integers(0, 4))
def test_intervals_of_neighbouring_prints_touch_and_do_not_overlap(operations: int, digits: int) -> None:
    step = Decimal(1).scaleb(-digits)
    printed = (Decimal(operations) / 10**9).quantize(step, ROUND_HALF_UP)
    here, above = printed_interval(claim(str(printed), "G")), printed_interval(claim(str(printed + step), "G"))
    assert operations in here
    assert here.last + 1 == above.first


def test_distance_counts_from_the_nearer_end() -> None:
    interval = Interval(10, 12)
    assert [interval.distance(value) for value in (7, 10, 12, 15)] == [-3, 0, 0, 3]
