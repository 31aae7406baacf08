"""Published numbers as intervals, each judged by its publisher's own convention; deviations checked, not believed."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2convert.catalog import Catalog, Deviation
from r2convert.catalog.printed import Interval, cut_interval, printed_interval
from r2convert.catalog.variant import Claim
from r2convert.checks.claims import PublishedNumbers, judge_count
from r2convert.mapping.tables import Tables
from r2convert.results.verdicts import Check, overall
from tests.conftest import DATA


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
        ("96.061", "%", "real_top5", 44_992, 44_992),
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


NAMES = sorted(json.loads((DATA / "measured.json").read_text()))
DEVIATIONS = {
    ("res2net50_w26_s4", "official README", "flops"),
    ("res2next_dla60_w4_s4_c8", "official README", "flops"),
    ("res2net200_vd_w26_s4_ssld", "official README", "parameters"),
}


def checks_of(tables: Tables, name: str) -> list[Check]:
    return PublishedNumbers(tables.of(tables.catalog.find(name))).checks()


@pytest.mark.parametrize("name", NAMES)
def test_every_published_size_gets_its_verdict(tables: Tables, name: str) -> None:
    for check in checks_of(tables, name):
        expected = "known-deviation" if (name, check.source, check.metric) in DEVIATIONS else "pass"
        assert check.verdict == expected, check


@pytest.mark.parametrize("name", NAMES)
def test_every_published_size_is_judged(tables: Tables, catalog: Catalog, name: str) -> None:
    claims = [c for c in catalog.find(name).claims if c.metric in ("parameters", "flops", "activations")]
    assert len(checks_of(tables, name)) == len(claims)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_recorded(tables: Tables, data: Path, name: str) -> None:
    expected = json.loads((data / "measured.json").read_text())[name]
    numbers = PublishedNumbers(tables.of(tables.catalog.find(name)))
    layout = "paddle" if "vd" in name else "official"
    assert numbers.parameters(layout) == (expected["parameters"], 0)
    if "parameters_with_bn_statistics" in expected:
        assert numbers.parameters(layout, statistics=True)[0] == expected["parameters_with_bn_statistics"]


def test_the_seed_table_is_reproduced(tables: Tables) -> None:
    found = {}
    for name in ("res2net50_w14_s8", "res2net50_w26_s8", "res2net101_w26_s4"):
        for check in checks_of(tables, name):
            if check.source == "OpenMMLab metafile":
                assert check.verdict == "pass"
                found[name, check.metric] = check.published
    assert found == {
        ("res2net50_w14_s8", "parameters"): "25.06",
        ("res2net50_w14_s8", "flops"): "4.22",
        ("res2net50_w26_s8", "parameters"): "48.40",
        ("res2net50_w26_s8", "flops"): "8.39",
        ("res2net101_w26_s4", "parameters"): "45.21",
        ("res2net101_w26_s4", "flops"): "8.12",
    }


def test_a_wrong_number_fails_and_says_what_it_stands_for(catalog: Catalog) -> None:
    claim = catalog.find("res2net50").claims_on("parameters")[0]
    check = judge_count(claim, 26_000_000)
    assert check.verdict == "fail"
    assert "25.70 M stands for 25,695,000..25,704,999" in check.note


def test_a_recorded_reason_that_does_not_explain_the_number_does_not_help(catalog: Catalog) -> None:
    claim = catalog.find("res2net50").claims_on("flops")[0]
    assert claim.deviation is not None
    assert judge_count(claim, 4_255_166_464).verdict == "known-deviation"
    assert judge_count(claim, 4_310_000_000).verdict == "fail"
    other = replace(claim, deviation=Deviation(note="another convention", convention="mmcv"))
    assert judge_count(other, 4_255_166_464, explained=4_292_754_776).verdict == "fail"


def test_another_number_of_classes_cannot_be_compared(tables: Tables) -> None:
    checks = PublishedNumbers(tables.of(tables.catalog.find("res2net50"), classes=10)).checks()
    assert {check.verdict for check in checks} == {"not-comparable"}


def test_the_worst_verdict_wins() -> None:
    assert overall(["pass", "fail", "known-deviation"]) == "fail"
    assert overall(["pass", "inconclusive", "known-deviation"]) == "inconclusive"
    assert overall(["pass", "known-deviation", "not-comparable"]) == "known-deviation"
    assert overall(["not-comparable", "pass"]) == "pass"
    assert overall([]) == overall(["not-comparable"]) == "not-comparable"
