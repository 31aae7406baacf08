"""Published numbers as intervals, each judged by its publisher's own convention; deviations checked, not believed."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from r2convert.catalog import Catalog, Deviation, load_catalog
from r2convert.catalog.printed import Interval, deviant_interval, printed_interval
from r2convert.catalog.variant import Claim
from r2convert.checks.claims import PublishedNumbers, judge_count
from r2convert.checks.counting import count_as_fluid, count_operations
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
    cut = Deviation(note="cut", rounding="cut")
    assert 76_215_536 in deviant_interval(replace(claim("76.21", "M", "parameters"), deviation=cut))


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
SERIES = "PaddleClas Res2Net"
DEVIATIONS = {
    ("res2net50_w26_s4", "official README", "4.2"),
    ("res2next_dla60_w4_s4_c8", "official README", "3.6"),
    ("res2net200_vd_w26_s4", "official README", "76.21"),
    ("res2net50_paddle_w14_s8", "PaddleClas models", "4.20"),
    ("res2net50_vd_w26_s4", "PaddleClas models", "4.28"),
    ("res2net50_vd_w26_s4", "PaddleClas models", "25.76"),
    ("res2net50_v1b_w26_s4", "MindCV configs", "25.77"),
    *((name, SERIES, printed) for name, *sizes in [
        ("res2net50_paddle_w26_s4", "25.700", "8.520"),
        ("res2net50_paddle_w14_s8", "25.720", "9.010"),
        ("res2net50_vd_w26_s4", "25.060", "8.370"),
        ("res2net101_vd_w26_s4", "45.220", "16.670"),
        ("res2net200_vd_w26_s4", "76.210", "31.490"),
    ] for printed in sizes),
    ("res2net50_vd_w26_s4", "PaddleClas SSLD", "25.06"),
    ("res2net50_vd_w26_s4", "PaddleClas SSLD", "8.37"),
    ("res2net101_vd_w26_s4", "PaddleClas SSLD", "16.67"),
    ("res2net200_vd_w26_s4", "PaddleClas SSLD", "31.49"),
}  # fmt: skip
"""Every printed size that a sound network misses; all others are met to the last digit."""

SIZED = sorted(name for name, variant in load_catalog({}).variants.items() if variant.claims_on("parameters"))
SIZES = ("parameters", "flops", "activations")


def checks_of(tables: Tables, name: str) -> list[Check]:
    return PublishedNumbers(tables, tables.of(tables.catalog.find(name))).checks()


@pytest.mark.parametrize("name", SIZED)
def test_every_published_size_gets_its_verdict(tables: Tables, catalog: Catalog, name: str) -> None:
    variant = catalog.find(name)
    for weights in variant.weights:
        numbers = PublishedNumbers(tables, tables.of(variant, weights.classes), weights=weights)
        for claim in (each for each in weights.claims if each.metric in SIZES):
            check = numbers.check(claim)
            expected = "known-deviation" if (name, check.source, check.published) in DEVIATIONS else "pass"
            assert check.verdict == expected, check


@pytest.mark.parametrize("name", NAMES)
def test_every_published_size_of_a_network_is_judged(tables: Tables, catalog: Catalog, name: str) -> None:
    variant = catalog.find(name)
    own = [each for each in variant.weights[0].claims if each.metric in SIZES]
    others = [
        each
        for weights in variant.weights[1:]
        for each in weights.claims
        if each.metric in SIZES and each.deviation is None and weights.classes == 1000
    ]
    # A table that has several weights of one network prints its sizes with each.
    distinct = dict.fromkeys((each.source, each.metric, each.convention, each.printed) for each in (*own, *others))
    checks = checks_of(tables, name)
    assert [(check.source, check.metric, check.convention, check.published) for check in checks] == [*distinct]


def test_a_misprint_about_other_weights_is_no_matter_of_these(tables: Tables, catalog: Catalog) -> None:
    """MindCV's 25.77 is cut, which says nothing of the authors' file; what the authors cut is everybody's."""
    assert "MindCV configs" not in {check.source for check in checks_of(tables, "res2net50_v1b_w26_s4")}
    variant = catalog.find("res2net50_w26_s4")
    timm = PublishedNumbers(tables, tables.of(variant), weights=variant.weights_called("res2net50_w26_s4.timm"))
    assert "known-deviation" in {check.verdict for check in timm.checks() if check.source == "official README"}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_recorded(tables: Tables, data: Path, name: str) -> None:
    expected = json.loads((data / "measured.json").read_text())[name]
    numbers = PublishedNumbers(tables, tables.of(tables.catalog.find(name)))
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


def test_a_row_that_has_another_networks_numbers_is_explained_by_that_network_only(
    tables: Tables, catalog: Catalog
) -> None:
    variant = catalog.find("res2net50_vd_w26_s4.ssld")
    deviation = Deviation("another row", network="res2net50_paddle_w14_s8")
    wrong = replace(variant.claims[0], source="another table", deviation=deviation)
    weights = replace(variant.weights[0], claims=(variant.claims[0], wrong))
    numbers = PublishedNumbers(tables, tables.of(replace(variant, weights=(weights,))))
    assert [check.verdict for check in numbers.checks()] == ["known-deviation", "fail"]


def test_a_misprint_is_known_only_beside_exactly_what_is_counted_instead(tables: Tables, catalog: Catalog) -> None:
    misprinted = {"16.670": 16_635_889_056, "16.67": 16_635_889_056, "31.490": 31_448_752_128, "31.49": 31_448_752_128}
    found = {
        claim.printed: (claim, variant)
        for variant in catalog.variants.values()
        for claim in variant.claims
        if claim.deviation and claim.deviation.counted
    }
    assert found.keys() == misprinted.keys()
    for printed, (claim, variant) in found.items():
        check = PublishedNumbers(tables, tables.of(variant)).check(claim)
        assert (check.verdict, check.measured) == ("known-deviation", misprinted[printed])
        assert judge_count(claim, misprinted[printed] + 1).verdict == "fail"


def test_what_is_said_of_a_misprint_is_so(catalog: Catalog) -> None:
    """16.67 is said to be what comes out if ReLUs are added and not subtracted; of 31.49 no such thing is said."""
    for name, printed, gives in (("res2net101_vd_w26_s4", "16.67", True), ("res2net200_vd_w26_s4", "31.49", False)):
        layers = count_operations(catalog.find(name)).layers or ()
        relus = sum(layer.mmcv for layer in layers if layer.kind == "ReLU")
        added = count_as_fluid(catalog.find(name)) + 2 * relus
        assert (added in printed_interval(claim(printed, "G"))) is gives


def test_zeros_behind_the_digits_widen_what_they_stand_for() -> None:
    padded = replace(claim("25.700", "M", "parameters"), deviation=Deviation("a zero put behind", zeros=1))
    assert judge_count(padded, 25_699_120).verdict == "known-deviation"
    assert judge_count(padded, 25_694_999).verdict == "fail"
    assert judge_count(replace(padded, deviation=None), 25_699_120).verdict == "fail"


def test_another_number_of_classes_cannot_be_compared(tables: Tables) -> None:
    checks = PublishedNumbers(tables, tables.of(tables.catalog.find("res2net50"), classes=10)).checks()
    # Holocron's is the one file that is published with ten.
    assert {check.source for check in checks if check.verdict == "pass"} == {"Holocron"}
    assert {check.verdict for check in checks if check.source != "Holocron"} == {"not-comparable"}


def test_the_worst_verdict_wins() -> None:
    assert overall(["pass", "fail", "known-deviation"]) == "fail"
    assert overall(["pass", "inconclusive", "known-deviation"]) == "inconclusive"
    assert overall(["pass", "known-deviation", "not-comparable"]) == "known-deviation"
    assert overall(["not-comparable", "pass"]) == "pass"
    assert overall([]) == overall(["not-comparable"]) == "not-comparable"
