"""The page as bytes: self-contained, described, the same every time, and never the author's of a results file."""

from __future__ import annotations

import base64
import copy
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from r2convert.catalog import Catalog
from r2convert.checks.standins import synthetic_image
from r2convert.errors import UsageError
from r2convert.report.page import render_page
from r2convert.report.thumbnails import Thumbnails
from r2convert.results.reading import read_run
from tests.report.conftest import Read
from tests.report.made import made_predictions

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Every element with its attributes, and the text outside of style sheets and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"] and self.open[-1:] != ["script"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def render(read: Read, catalog: Catalog) -> Any:
    return lambda document, images=None: render_page([read(document)], catalog, Thumbnails.from_images(images))


@pytest.fixture(scope="module")
def rendered(document: Any, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the sound and the broken network."""
    path = tmp_path_factory.mktemp("results") / "results.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return render_page([read_run(str(path))], catalog, Thumbnails.from_images(None))


def one_network(document: Any, number: int = 0) -> Any:
    """A copy, to be changed, with one result only: less to draw."""
    return copy.deepcopy({**document, "results": [document["results"][number]]})


def test_every_element_is_closed_and_every_id_is_unique(rendered: str) -> None:
    page = Page(rendered)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)


def test_nothing_is_loaded_and_only_the_page_s_own_script_runs(rendered: str) -> None:
    text, page = rendered, Page(rendered)
    assert page.all("script") == [{}]
    assert not re.search(r"https?://|@import|\son\w+=|javascript:|\sstyle=", text)
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_same_results_give_the_same_bytes(document: Any, render: Any, rendered: str) -> None:
    assert render(document) == rendered


def test_every_network_of_a_published_accuracy_is_in_the_chart_and_all_numbers_in_the_tables(
    document: Any, rendered: str, catalog: Catalog
) -> None:
    said = " ".join(Page(rendered).text.split())
    assert all(variant.name in said for variant in catalog.variants.values() if variant.claims_on("top1"))
    for words in (
        "2 networks: 1 fails, 1 passes",
        "\N{MINUS SIGN}4,000 images",
        "39,070 of 50,000",
        "laptop, laptop computer → notebook, notebook computer",
        "r2convert verify --imagenet '/data/ImageNet 2012/val' --json results.json",
        document["results"][0]["sha256"],
        "layer3.0.bns.6",
    ):
        assert words in said


def test_headings_and_tables_are_marked_up_for_readers(rendered: str) -> None:
    page = Page(rendered)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(heading.get("scope") in ("row", "col") for heading in page.all("th"))
    charts = [attributes for tag, attributes in page.elements if attributes.get("role") == "img"]
    assert len(charts) == 9
    assert all(len(chart["aria-label"]) > 20 for chart in charts)


def test_a_hostile_file_injects_nothing(document: Any, render: Any, rendered: str) -> None:
    hostile = one_network(document, 1)
    bad = "</title></svg><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}$\\alpha$"
    hostile["environment"][bad] = bad
    result = hostile["results"][0]
    for name in ("checkpoint", "variant", "layout", "sha256", "content_hash"):
        result[name] = bad
    for check in result["checks"]:
        check["note"] = check["source"] = check["convention"] = bad
    for layer in (*result["wiring"]["layers"], *result["parity"]["by_layer"], *result["parity"]["stages"]):
        layer["name"] = bad
    result["wiring"]["layers"][3]["suspect"] = True
    result["parity"]["peer"] = result["parity"]["version"] = result["accuracy"]["pipeline"] = bad
    result["accuracy"]["confusions"][0].update(label=bad, predicted=bad, images=[bad])
    result["accuracy"]["per_class"][bad] = [50, 0]
    hostile["command"] = ["rm", "-rf", "/"]
    sound, page = Page(rendered), Page(render(hostile))
    assert page.open == []
    assert page.all("script") == [{}]
    assert page.all("img") == []
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in sound.elements}
    assert "{{ 7*7 }}" in page.text
    assert "rm -rf" not in page.text


@pytest.mark.parametrize("name", ["font-family: x", 'style="font-family: ', "#000001", 'id="a', "a & b < c", "$x^2$"])
def test_names_that_look_like_parts_of_a_chart_stay_names(document: Any, render: Any, name: str) -> None:
    odd = one_network(document)
    odd["results"][0].update(parity=None, accuracy=None)
    layer = odd["results"][0]["wiring"]["layers"][2]
    layer.update(name=name, suspect=True)
    page = Page(render(odd))
    assert page.open == []
    assert page.text.count(name) >= 2


def test_sections_without_content_disappear(document: Any, render: Any, rendered: str) -> None:
    static = copy.deepcopy(document)
    for result in static["results"]:
        result.update(accuracy=None, wiring=None, parity=None)
        result["checks"] = [check for check in result["checks"] if check["metric"] in ("names", "parameters")]
    assert sections(rendered) == [
        "verdicts", "accuracy", "claims", "classes", "wiring", "parity", "checks", "reproduce"
    ]  # fmt: skip
    assert sections(render(static)) == ["verdicts", "checks", "reproduce"]
    none = render({**static, "results": []})
    assert sections(none) == ["reproduce"]
    assert "No network was verified" in Page(none).text


def sections(text: str) -> list[str]:
    """Ids of the sections; the links to them are the same."""
    page = Page(text)
    found = [section["id"] for section in page.all("section")]
    assert not page.all("nav") or [link["href"] for link in page.all("a")][: len(found)] == [
        f"#{each}" for each in found
    ]
    return found


def test_speed_is_told_of_networks_that_ran(document: Any, render: Any) -> None:
    timed = copy.deepcopy(document)
    timed["results"][0]["accuracy"]["speed"] = {
        "images": 50_000, "seconds": 1234.5, "images_per_second": 40.502, "batch_size": 64,
        "batch_milliseconds": 1540.25, "busy": 0.975, "peak_bytes": 1_300_000_000,
    }  # fmt: skip
    text = render(timed)
    assert "speed" in sections(text)
    section = re.search(r'<section id="speed".*?</section>', text, re.DOTALL)
    assert section is not None
    cells = re.findall(r'data-label="([^"]*)">([^<]*)<', section.group())
    assert cells == [
        ("images/s", "40.5"), ("ms a batch", "1,540"), ("batch", "64"), ("busy", "98 %"), ("peak, GiB", "1.21"),
    ]  # fmt: skip
    timed["results"][0]["accuracy"]["speed"]["peak_bytes"] = 0
    assert 'data-label="peak, GiB">unknown<' in render(timed)


def test_every_row_that_is_not_a_pass_says_what_to_run_next(rendered: str, document: Any, render: Any) -> None:
    odd = one_network(document)
    for check, verdict in zip(
        odd["results"][0]["checks"], itertools.cycle(("fail", "known-deviation", "not-comparable", "inconclusive"))
    ):
        check["verdict"] = verdict
    rows = re.findall(r"<tr role=\"row\">(.*?)</tr>", render(odd).partition('id="checks"')[2], re.DOTALL)
    assert len(rows) == 1 + len(odd["results"][0]["checks"])
    assert all("next: " in row for row in rows[1:])
    said = " ".join(Page(rendered).text.split())
    broken = "/data/checkpoints/res2net50_26w_8s-2c7c9f12.pth"
    assert f"next: r2convert doctor {broken} --imagenet '/data/ImageNet 2012/val'" in said
    assert f"next: r2convert verify {broken} --wiring=FOLDER" in said
    assert f"next: r2convert compare res2net50_w26_s8 {broken}" in said
    assert "next: r2convert verify res2net50_w14_s8.timm --fetch --imagenet '/data/ImageNet 2012/val'" in said


@pytest.fixture(scope="module")
def mended(document: Any) -> Any:
    """The same results with the broken network as it should be, of a run that kept its predictions."""
    after = copy.deepcopy(document)
    sound, broken = copy.deepcopy(document["results"][0]), after["results"][1]
    for name in ("checks", "accuracy", "wiring", "parity"):
        broken[name] = sound[name]
    broken["verdict"] = "pass"
    return {**after, "command": [*document["command"], "--predictions", "new run.jsonl"]}


def test_two_runs_are_shown_side_by_side(document: Any, mended: Any, read: Read, catalog: Catalog) -> None:
    before = {**document, "command": [*document["command"], "--predictions=old.jsonl"]}
    page = Page(render_page([read(before), read(mended)], catalog, Thumbnails.from_images(None)))
    said = " ".join(page.text.split())
    section = said[said.index("Checks with another result") : said.index("Claims in images", 3000)]
    assert "2 networks before and after: 1 verdict changed" in said
    assert "wiring 147 sound BatchNorms ✗ fail 149 sound BatchNorms ✓ pass" in section
    assert "Right at top-1: 35,600 before, 39,070 after (+3,470; the same pixels)" in said
    assert "Right at top-1: 39,070 before, 39,070 after (no change; the same pixels)" in said
    assert "Every check has the same result." in said
    assert "r2convert compare old.jsonl 'new run.jsonl' --all" in said


def test_changed_predictions_are_listed_image_by_image(
    document: Any, mended: Any, read: Read, catalog: Catalog
) -> None:
    found = made_predictions(document, mended, "res2net50_w26_s8")
    page = render_page([read(document), read(mended)], catalog, Thumbnails.from_images(None), found)
    said = " ".join(Page(page).text.split())
    assert "predictions" in sections(page)
    assert "Of 50,000 images, the first class of 3,542 and the first five of 3,547 changed." in said
    assert "Right at top-1 only before: 30, only after: 3,500; exact McNemar test, p = 0.5." in said
    assert "Of 3 images the two runs had different pixels." in said
    assert "Right before, wrong after: the first 20 of 30" in said
    laptop, notebook = "laptop, laptop computer", "notebook, notebook computer"
    assert f"ILSVRC2012_val_00000001.JPEG {laptop} {laptop} {notebook}" in said
    assert "Wrong both times: 12" in said
    assert f"{laptop} unreadable image not a number" in said
    assert "r2convert compare before.jsonl after.jsonl --all" in said
    assert "ILSVRC2012_val_00000021.JPEG" not in said


def test_classes_that_nothing_names_keep_their_numbers(
    document: Any, mended: Any, read: Read, catalog: Catalog
) -> None:
    """A set with classes of its own: class 620 is no laptop there."""
    found = made_predictions(document, mended, "res2net50_w26_s8")
    own = copy.deepcopy(mended)
    own["results"][1]["accuracy"]["per_class"] = {"cats": [50_000, 39_070]}
    own["results"][1]["accuracy"]["confusions"] = []
    page = render_page([read(document), read(own)], catalog, Thumbnails.from_images(None), found)
    assert "class 620 class 620 class 681" in " ".join(Page(page).text.split())


def test_predictions_of_other_runs_are_refused(document: Any, mended: Any, read: Read, catalog: Catalog) -> None:
    found = made_predictions(document, mended, "res2net50_w26_s8")
    with pytest.raises(UsageError, match="not those of the results file") as caught:
        render_page([read(mended), read(document)], catalog, Thumbnails.from_images(None), found)
    assert caught.value.expected == "for res2net50_w26_s8, 39,070 of 50,000 images right"
    assert caught.value.got == "35,600 of 50,000 images right"


def test_confused_images_are_shown_if_they_are_at_hand(document: Any, render: Any, tmp_path: Path) -> None:
    images = tmp_path / "val"
    images.mkdir()
    (images / "ILSVRC2012_val_00000001.JPEG").write_bytes(synthetic_image(1))
    (images / "ILSVRC2012_val_00000002.JPEG").write_bytes(b"damaged")
    shown = Page(render(one_network(document), images)).all("img")
    assert len(shown) == 1
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in shown)
    assert "laptop" in shown[0]["alt"]
    assert "ILSVRC2012_val_00000001.JPEG" in shown[0]["alt"]
    assert len(shown[0]["src"]) < 10_000


def test_values_that_are_no_numbers_are_shown_as_such(document: Any, render: Any) -> None:
    odd = one_network(document)
    odd["results"][0]["wiring"]["layers"][0].update(mean_shift=None, log_variance=None, suspect=True)
    odd["results"][0]["parity"]["by_layer"][0].update(max_abs_diff=None, relative=None)
    odd["results"][0]["parity"]["stages"][0].update(max_abs_diff=None, relative=None)
    assert "not a number" in Page(render(odd)).text


def test_files_that_could_not_be_checked_are_told(document: Any, render: Any) -> None:
    odd = one_network(document)
    odd["unchecked"] = [
        {"checkpoint": "/data/cut.pth", "kind": "TruncatedCheckpointError", "what": "this file is cut short"}
    ]
    said = " ".join(Page(render(odd)).text.split())
    assert "passes; 1 file could not be checked" in said
    assert "cut.pth this file is cut short" in said
    only = render({**odd, "results": []})
    assert sections(only) == ["verdicts", "reproduce"]
    assert "No network was verified; 1 file could not be checked" in Page(only).text


def test_what_else_a_file_holds_is_told(document: Any, render: Any) -> None:
    odd = one_network(document)
    odd["results"][0]["warnings"] = ["it also holds 12 tensors of an optimizer"]
    assert "it also holds 12 tensors of an optimizer" in Page(render(odd)).text
