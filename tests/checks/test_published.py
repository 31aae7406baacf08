"""Claims on sizes: each publisher's number judged by its own convention, and deviations checked, not believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from r2convert.catalog import Catalog, Deviation
from r2convert.checks.checks import Check, judge_count, overall
from r2convert.checks.published import PublishedNumbers
from r2convert.mapping.tables import Tables
from tests.conftest import DATA

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
