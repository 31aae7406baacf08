"""`list`: what is known, on 80 columns and as JSON."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run


def test_shows_every_variant_on_80_columns(run: Run) -> None:
    ran = run("list")
    assert ran.code == 0
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    for row in ("res2net50_w14_s8", "25.06 M", "78.14", "res2net200_vd_w26_s4", "97.42", "non-commercial"):
        assert row in ran.out
    assert "…" not in ran.out


def test_claims_are_whole_on_80_columns(run: Run) -> None:
    ran = run("list", "--claims")
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert "…" not in ran.out
    assert "weights+statistics" in ran.out


def test_json_has_sources_claims_and_the_licence(run: Run) -> None:
    document = run("list", "--json").json
    assert "CC BY-NC-SA 4.0" in document["weights_licence"]
    variants = {variant["id"]: variant for variant in document["variants"]}
    assert len(variants) == 12
    source = variants["res2net50_w14_s8"]["sources"][0]
    assert source["file_name"] == "res2net50_14w_8s-6527dddc.pth"
    assert source["cached"] is None
    assert len(source["urls"]) == 2


def test_a_terminal_width_is_respected(run: Run) -> None:
    assert all(len(line) <= 60 for line in run("list", COLUMNS="60").out.splitlines())


def test_the_table_is_printed_with_shapes(run: Run) -> None:
    ran = run("list", "--tensors", "res2net50d", "--from", "official", "--to", "mm")
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["official", "mm", "shape"]
    assert ["conv1.6.weight", "backbone.stem.2.conv.weight", "64x32x3x3"] in lines
    assert len(lines) == 525


def test_the_table_shows_gaps(run: Run) -> None:
    ran = run("list", "--tensors", "res2net_dla60_w28_s4")
    assert ["level3.project.0.weight", "-", "256x128x1x1"] in [line.split() for line in ran.out.splitlines()]


def test_the_table_as_json(run: Run) -> None:
    document = run("list", "--tensors", "res2net50_w14_s8", "--json").json
    assert (document["variant"], document["from"], document["to"]) == ("res2net50_w14_s8", "official", "mm")
    assert len(document["tensors"]) == 896
    assert document["tensors"][0] == {"from": "conv1.weight", "to": "backbone.conv1.weight", "shape": [64, 3, 7, 7]}


@pytest.mark.parametrize("columns", [20, 40, 79, 80, 200])
def test_nothing_is_cut_off_however_narrow_the_terminal(run: Run, columns: int) -> None:
    for option in ((), ("--claims",)):
        ran = run("list", *option, COLUMNS=str(columns))
        assert "…" not in ran.out
        assert set(WIDE.split()) <= set(ran.out.split())
    assert ("res2net50_w14_s8\n  params " in run("list", COLUMNS=str(columns)).out) == (columns < 70)


WIDE = "res2next_dla60_w4_s4_c8 res2net_dla60_w28_s4 official"
