"""The Markdown table and the metafile: the measured numbers, and nothing that a hostile name could add."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from r2convert.catalog import Catalog
from r2convert.report.markdown import markdown_table
from r2convert.report.metafile import model_index
from tests.report.conftest import Read


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_markdown_sets_published_beside_measured(document: Any, read: Read, catalog: Catalog) -> None:
    head, rule, sound, broken, *_ = markdown_table([read(document)], catalog).splitlines()
    assert cells(head)[:5] == ["Model", "Params (M)", "Flops (G)", "Top-1 (%)", "Top-5 (%)"]
    assert len(cells(rule)) == len(cells(head))
    row = dict(zip(cells(head), cells(sound), strict=True))
    assert (row["Model"], row["Params (M)"], row["Flops (G)"]) == ("Res2Net-50-14w-8s", "25.06", "4.22")
    assert (row["Top-1 (%)"], row["Published top-1 (%)"], row["Difference, top-1"]) == ("78.14", "78.14", "0 images")
    row = dict(zip(cells(head), cells(broken), strict=True))
    assert (row["Top-1 (%)"], row["Difference, top-1"], row["Verdict"]) == ("71.20", "-4,000 images", "fail")


def test_what_was_not_measured_is_a_dash(document: Any, read: Read, catalog: Catalog) -> None:
    static = copy.deepcopy(document)
    static["results"] = [{**static["results"][0], "accuracy": None, "checks": [], "operations": None}]
    text = markdown_table([read(static)], catalog)
    assert cells(text.splitlines()[2])[1:7] == ["-"] * 6
    assert "No accuracy was measured." in text


def test_a_hostile_name_stays_one_cell_of_text(document: Any, read: Read, catalog: Catalog) -> None:
    hostile = copy.deepcopy(document)
    hostile["results"][0]["checkpoint"] = "/x/a|b`<img src=x onerror=alert(1)>[c](javascript:d)*.pth"
    line = markdown_table([read(hostile)], catalog).splitlines()[2]
    assert len(cells(line)) == 10
    assert "<img" not in line
    assert r"\[c\]" in line


def test_the_metafile_is_a_model_index_of_measured_numbers(document: Any, read: Read) -> None:
    index = yaml.safe_load(model_index([read(document)]))
    (collection,) = index["Collections"]
    assert collection["Name"] == "Res2Net"
    sound, broken = index["Models"]
    assert sound["Name"] == "res2net50-w14-s8_3rdparty_8xb32_in1k"
    assert sound["In Collection"] == "Res2Net"
    assert sound["Metadata"] == {"FLOPs": 4_218_326_520, "Parameters": 25_059_816}
    (result,) = broken["Results"]
    assert (result["Task"], result["Dataset"]) == ("Image Classification", "ImageNet-1k")
    assert result["Metrics"] == {"Top 1 Accuracy": 71.2, "Top 5 Accuracy": 86.37}
    assert sound["SHA256"] == document["results"][0]["sha256"]


def test_published_accuracies_stand_beside_proven_weights_only(document: Any, read: Read, catalog: Catalog) -> None:
    unproven = copy.deepcopy(document)
    unproven["results"][0]["weights"] = None
    head, _, *rows = markdown_table([read(unproven)], catalog).splitlines()
    first, second = (dict(zip(cells(head), cells(row), strict=True)) for row in rows[:2])
    assert (first["Top-1 (%)"], first["Published top-1 (%)"], first["Difference, top-1"]) == ("78.14", "-", "-")
    assert (second["Top-1 (%)"], second["Published top-1 (%)"]) == ("71.20", "79.20")
    assert "nothing proves whose weights" in rows[-1]


def test_a_zoo_s_name_is_for_the_weights_it_means(document: Any, read: Read) -> None:
    others = copy.deepcopy(document)
    others["results"][0]["weights"], others["results"][1]["weights"] = None, "res2net50_w26_s8.timm"
    names = [model["Name"] for model in yaml.safe_load(model_index([read(others)]))["Models"]]
    assert names == [f"res2net50-w14-s8-{document['results'][0]['sha256'][:8]}", "res2net50-w26-s8_timm"]


def test_a_sample_is_no_accuracy_of_a_model(document: Any, read: Read) -> None:
    sample = copy.deepcopy(document)
    sample["results"][0]["accuracy"].update(images=2000, top1_correct=1500, top5_correct=1900)
    text = model_index([read(sample)])
    assert "Measured on 2000 images" in text
    assert "Results" not in yaml.safe_load(text)["Models"][0]


@pytest.mark.parametrize("name", ['a"\n- Name: b', "\u2028\x85\x7f", "\U0001f600", "\ud800", "a: b #c", "\\u0041"])
def test_any_name_is_one_scalar(document: Any, read: Read, name: str) -> None:
    hostile = copy.deepcopy(document)
    hostile["results"][0]["checkpoint"] = name
    read_back = yaml.safe_load(model_index([read(hostile)]))["Models"]
    assert len(read_back) == 2
    assert read_back[0]["Weights"] == read(hostile).results[0].checkpoint


def test_two_files_of_one_network_have_two_names(document: Any, read: Read) -> None:
    run = read(document)
    names = [model["Name"] for model in yaml.safe_load(model_index([run, run]))["Models"]]
    assert names[0] == f"res2net50-w14-s8_3rdparty_8xb32_in1k-{document['results'][0]['sha256'][:8]}"


def test_no_results_are_an_empty_list() -> None:
    assert yaml.safe_load(model_index([]))["Models"] == []
