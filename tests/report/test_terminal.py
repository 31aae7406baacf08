"""The terminal's tables: 80 columns, a word for every verdict, a reason for every one that is not pass."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rich.console import Console, RenderableType

from r2convert.checks.run import verify_references
from r2convert.mapping.tables import Tables
from r2convert.report.terminal import results_view
from r2convert.results.verdicts import Check
from r2convert.results.verification import (
    Accuracy,
    ActivationComparison,
    CheckpointResult,
    OutputDifference,
    ParityResult,
    Speed,
)

CPU = Speed(50_000, 1234.5, 40.502, 64, 1540.25, 0.975, 1_300_000_000)
GPU = Speed(50_000, 4.0, 12_500.0, 1024, 81.92, 1.0, 0)


def shown(view: RenderableType, *, colour: bool = False, columns: int = 80) -> str:
    console = Console(
        width=columns, force_terminal=colour, color_system="standard" if colour else None, highlight=False
    )
    with console.capture() as capture:
        console.print(view)
    return capture.get()


@pytest.fixture(scope="module")
def references(tables: Tables) -> list[CheckpointResult]:
    """Those of the official table: others have names and digits that take more columns."""
    found = verify_references(tables)
    return [each for each in found if any(check.source == "official README" for check in each.checks)]


def measured_on_images(result: CheckpointResult) -> CheckpointResult:
    """A result with an accuracy, one claim of each kind."""
    claims = (
        Check("top1", "pass", "official README", None, "21.86", "error %", 39_070),
        Check("top1", "not-comparable", "timm results", None, "78.152", "%", 39_070, "speaks of another file"),
        Check("top5", "inconclusive", "OpenMMLab metafile", None, "93.85", "%", 46_700, "3 images off"),
    )
    counts = dict.fromkeys(("missing", "unreadable", "not_a_number"), 0)
    values = {"images": 50_000, "top1_correct": 39_070, "top5_correct": 46_700, "pipeline": "pil"}
    accuracy = Accuracy(**values, **counts, precision="strict", crops_sha256="")  # type: ignore[arg-type]
    return replace(result, checks=(*result.checks, *claims), accuracy=accuracy)


@pytest.mark.parametrize("details", [False, True])
def test_everything_fits_in_80_columns(references: list[CheckpointResult], details: bool) -> None:
    for results in (references, [measured_on_images(each) for each in references]):
        lines = shown(results_view(results, details=details, by_layer=details)).splitlines()
        assert max(map(len, lines)) <= 80
        assert not any("…" in line for line in lines)


def test_a_file_has_its_evidence_under_its_name(references: list[CheckpointResult]) -> None:
    evidence = "res2net50_v1b_w26_s4, by its names; res2net50_vd_w26_s4 (PaddleClas' network) has the same"
    file = replace(references[0], checkpoint="/data/file.pth", layout="mm", evidence=evidence)
    _, first, second, *_ = shown(results_view([file])).splitlines()
    assert first.startswith("  evidence res2net50_v1b_w26_s4, by its names; ")
    assert second.startswith("           ")
    assert f"{first[11:].rstrip()} {second.strip()}" == evidence
    assert "evidence" not in shown(results_view(references[:1]))


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_rows_are_blocks_where_a_table_has_no_room(references: list[CheckpointResult], columns: int) -> None:
    measured = [measured_on_images(each) for each in references]
    whole = "".join(shown(results_view(measured, details=True, by_layer=True)).split())
    out = shown(results_view(measured, details=True, by_layer=True), columns=columns)
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out
    narrow = "".join(out.split())
    for words in ("res2net50_w14_s8", "officialREADME", "39,070", "known-deviation", "4,178,898,944"):
        assert narrow.count(words) >= whole.count(words) > 0
    if columns == 40:
        lines = shown(results_view(measured), columns=columns).splitlines()
        at = next(number for number, line in enumerate(lines) if line.startswith("res2net50_w14_s8 "))
        assert lines[at : at + 3] == [
            "res2net50_w14_s8 inconclusive",
            "  params, M  25.06/25.06 pass",
            "  FLOPs, G   4.22/4.22 pass",
        ]


@pytest.mark.parametrize("columns", [40, 80])
def test_every_row_of_several_files_names_its_file(references: list[CheckpointResult], columns: int) -> None:
    names = [f"{each.variant}-after-the-second-training.pth" for each in references]
    results = [
        replace(measured_on_images(each), checkpoint=f"/weights/{name}")
        for each, name in zip(references, names, strict=True)
    ]
    out = shown(results_view(results), columns=columns)
    assert max(map(len, out.splitlines())) <= columns
    # Its first words are a table's first column, in which a long name goes on in the next line; a block's are all.
    words = [line.split()[:1] if columns == 80 else line.split() for line in out.splitlines()]
    text = "".join(word for line in words for word in line)
    for each, name in zip(references, names, strict=True):
        assert f"{each.variant}{name}" in text


def test_accuracies_are_shown_in_per_cent_that_are_right(references: list[CheckpointResult]) -> None:
    lines = shown(results_view([measured_on_images(each) for each in references])).splitlines()
    row = next(number for number, line in enumerate(lines) if line.strip().startswith("res2net50_w14_s8 "))
    assert lines[row].split()[-2:] == ["78.14/78.14", "93.85/93.40"]
    assert lines[row + 1].split() == ["inconclusive", "pass", "pass", "pass", "inconclusive"]


def test_one_network_s_speed_stands_under_its_accuracy(references: list[CheckpointResult]) -> None:
    measured = measured_on_images(references[0])
    assert measured.accuracy is not None
    for speed, line in (
        (CPU, "  speed     40.5 images/s, 1,540 ms a batch of 64, 98 % busy, peak 1.21 GiB"),
        (GPU, "  speed     12,500 images/s, 81.9 ms a batch of 1024, 100 % busy"),
    ):
        lines = shown(results_view([replace(measured, accuracy=replace(measured.accuracy, speed=speed))])).splitlines()
        assert lines[lines.index(line) - 1].startswith("  accuracy  top-1 39,070 of 50,000")
    assert "speed" not in shown(results_view([measured]))


def test_several_networks_speeds_are_a_table_of_those_that_ran(references: list[CheckpointResult]) -> None:
    measured = [measured_on_images(each) for each in references]
    assert "images/s" not in shown(results_view(measured))
    for at, speed in ((0, CPU), (2, GPU)):
        accuracy = measured[at].accuracy
        assert accuracy is not None
        measured[at] = replace(measured[at], accuracy=replace(accuracy, speed=speed))
    lines = [line.split() for line in shown(results_view(measured)).splitlines()]
    heading = lines.index(["speed", "images/s", "ms", "a", "batch", "batch", "busy", "peak,", "GiB"])
    assert lines[heading + 2] == [measured[0].variant, "40.5", "1,540", "64", "98", "%", "1.21"]
    assert lines[heading + 3] == [measured[2].variant, "12,500", "81.9", "1024", "100", "%"]
    assert not any(each.variant in line for each in measured for line in lines[heading + 4 : heading + 6])


def test_the_worst_claim_of_a_column_is_the_one_shown(references: list[CheckpointResult]) -> None:
    wrong = Check("parameters", "fail", "somebody", "weights", "25.1", "M", 25_059_816, "wrong")
    failing = [replace(each, checks=(*each.checks, wrong)) for each in references]
    out = shown(results_view(failing))
    assert out.count("25.1/25.06") >= 1
    assert "parameters (somebody): fail: wrong" in out


def test_a_failing_property_is_named_beside_the_verdict(references: list[CheckpointResult]) -> None:
    wrong = Check("wiring", "fail", measured=83, note="layer3.3.bns.0 is not what it was")
    out = shown(results_view([replace(each, checks=(wrong, *each.checks)) for each in references]))
    assert "fail: wiring" in out
    assert "layer3.3.bns.0 is not what it was" in " ".join(out.split())


def test_colour_only_repeats_what_words_say(references: list[CheckpointResult]) -> None:
    import re

    coloured = shown(results_view(references), colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == shown(results_view(references))


def test_every_verdict_that_is_not_pass_has_its_reason(references: list[CheckpointResult]) -> None:
    out = " ".join(shown(results_view(references)).split())
    for result in references:
        for check in result.checks:
            if check.verdict != "pass":
                assert check.note in out


def test_networks_that_part_are_shown_stage_by_stage(references: list[CheckpointResult]) -> None:
    same, other = OutputDifference("backbone.layer1", 0.0, 0.0), OutputDifference("backbone.layer2", 0.5, 0.02)
    first = OutputDifference("backbone.layer2.0.pool", 0.25, 0.01)
    parity = ParityResult.of("timm", "1.0", ActivationComparison.of((first,), (same, other)))
    lines = [line.split() for line in shown(results_view([replace(references[0], parity=parity)])).splitlines()]
    assert ["layer1", "0", "0", "%"] in lines
    assert ["layer2", "0.5", "2", "%"] in lines
    assert ["layer2.0.pool", "(first", "layer", "to", "differ)", "0.25", "1", "%"] in lines
