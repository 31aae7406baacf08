"""`list`: what is known, on 80 columns and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_shows_every_variant_on_80_columns(run: Run) -> None:
    ran = run("list")
    assert ran.code == 0
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    for row in ("res2net50_w14_s8", "25.06 M", "78.14", "res2net200_vd_w26_s4", "97.42", "non-commercial"):
        assert row in ran.out
    assert "…" not in ran.out


def test_weights_stand_below_their_architecture(run: Run) -> None:
    rows = [line.split() for line in run("list").out.splitlines()]
    place = rows.index(["res2net50_w26_s8", "48.40", "M", "8.3", "G"])
    assert rows[place + 1] == ["official", "79.20", "94.37", "official"]
    assert rows[place + 3] == ["timm", "78.950", "94.280", "timm"]


@pytest.mark.parametrize(
    ("options", "there", "not_there"),
    [
        (("--publisher", "openmmlab"), ["res2net50_w26_s8", "openmmlab"], ["timm", "res2net50_w48_s2"]),
        (("--layout", "paddle"), ["res2net200_vd_w26_s4", "ssld"], ["res2net50_w26_s8"]),
        (("--publisher", "timm", "--layout", "paddle"), ["(none)"], ["res2net50_w26_s8"]),
        (("--cached",), ["(none)"], ["res2net50_w26_s8"]),
    ],
)
def test_weights_are_chosen_by_publisher_layout_and_cache(
    run: Run, options: tuple[str, ...], there: list[str], not_there: list[str]
) -> None:
    words = run("list", *options).out.split()
    assert set(there) <= set(words)
    assert not set(not_there) & set(words)


def test_what_is_in_the_cache_is_marked_and_can_be_listed_alone(run: Run, cache: Path) -> None:
    cache.mkdir()
    (cache / "res2net50_26w_8s.in1k.safetensors").write_bytes(b"no hash of it is published")
    ran = run("list", "--cached")
    assert ["timm", "78.950", "94.280", "timm*"] in [line.split() for line in ran.out.splitlines()]
    assert "* res2net50_26w_8s.in1k.safetensors\n    0.0 MB, hash unknown" in ran.out
    assert "res2net50_w14_s8" not in ran.out
    (variant,) = run("list", "--cached", "--json").json["variants"]
    assert [weights["id"] for weights in variant["weights"]] == ["res2net50_w26_s8.timm"]
    assert variant["sources"][0]["cached"]["trust"] == "unknown"


def test_layouts_say_who_reads_them_and_what_is_computed_differently(run: Run) -> None:
    for width in (40, 80, 200):
        ran = run("list", "--layouts", COLUMNS=str(width))
        assert all(len(line) <= width for line in ran.out.splitlines())
        text = " ".join(ran.out.split())
        assert "mmdet: mmdetection written as .pth .pt .safetensors without mmdetection reads backbones" in text
        assert "res2net152_v1b_w26_s4: it leaves out the stride-1 3x3 average pool" in text
        assert "not there" not in text.partition("mmdet: ")[2].partition("paddle: ")[0]
    layouts = {layout["name"]: layout for layout in run("list", "--layouts", "--json").json["layouts"]}
    assert layouts["paddle-static"]["written_as"] == []
    assert "res2net200_vd_w26_s4" in layouts["paddle"]["builds"]
    assert "res2net_dla60_w28_s4" in layouts["paddle"]["not_built"]
    assert any("res2net50_w26_s4" in each["architectures"] for each in layouts["paddle"]["otherwise"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--publisher", "nobody"), "nobody publishes under this name"),
        (("--layout", "nowhere"), "'nowhere' is not one of 'mm'"),
        (("--claims", "--layouts"), "--claims and --layouts are different lists"),
        (("--layouts", "--cached"), "--cached chooses among weights"),
        (("--to", "mm"), "--from and --to choose the layouts of --tensors"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run: Run, options: tuple[str, ...], message: str) -> None:
    ran = run("list", *options)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_claims_are_whole_on_80_columns(run: Run) -> None:
    ran = run("list", "--claims")
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert "…" not in ran.out
    assert "weights+statistics" in ran.out
    rows = [line.split() for line in ran.out.splitlines()]
    for printed, weights in (("79.80", "paddle"), ("83.10", "ssld")):
        assert ["top1", printed, "%", "PaddleClas", "SSLD", weights] in rows


def test_weights_that_only_a_page_offers_are_shown_with_it(run: Run) -> None:
    ran = run("list", "--publisher", "inspyrenet")
    assert [line.split() for line in ran.out.splitlines() if line.startswith("  ")] == [
        ["inspyrenet", "by", "hand"], ["inspyrenet_pretrained", "by", "hand"]
    ]  # fmt: skip
    assert "by hand: `r2convert fetch NAME` says what it is and where" in ran.out
    (variant,) = run("list", "--publisher", "inspyrenet", "--json").json["variants"]
    assert all(each["page"].startswith("https://drive.google.com/") for each in variant["weights"])
    assert [each["detector"] for each in variant["weights"]] == [True, False]


def test_json_has_sources_claims_and_the_licence(run: Run) -> None:
    document = run("list", "--json").json
    assert "CC BY-NC-SA 4.0" in document["weights_licence"]
    variants = {variant["id"]: variant for variant in document["variants"]}
    assert {"res2net50_w14_s8", "res2net50_vd_w26_s4", "res2net101_mmdet_w26_s4"} <= variants.keys()
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
    assert "paddle-static" in run("list", COLUMNS=str(columns)).out.split()
    assert ("res2net50_w14_s8\n  params " in run("list", COLUMNS=str(columns)).out) == (columns < 70)


WIDE = "res2next_dla60_w4_s4_c8 res2net_dla60_w28_s4 official"
