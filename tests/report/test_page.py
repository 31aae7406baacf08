"""The page as bytes: self-contained, described, the same every time, and never the author's of a results file."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from r2convert.catalog import Catalog
from r2convert.checks.standins import synthetic_image
from r2convert.report.page.label_placing import Box, Label, place_labels
from r2convert.report.page.rendering import render_page
from r2convert.report.page.thumbnails import Thumbnails
from r2convert.results.reading import read_run
from tests.report.conftest import Read

VOID = {"meta", "link", "img", "br", "path", "use"}


class Page(HTMLParser):
    """Every element with its attributes, and the text outside of style sheets."""

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
        if self.open[-1:] != ["style"]:
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
    targets = [link["href"].removeprefix("#") for link in [*page.all("a"), *page.all("use")]]
    assert set(targets) <= set(ids)
    described = [name for svg in page.all("svg") for name in svg["aria-labelledby"].split()]
    assert set(described) <= set(ids)


def test_nothing_is_loaded_and_nothing_runs(rendered: str) -> None:
    text, page = rendered, Page(rendered)
    assert page.all("script") == []
    assert not re.search(r"https?://|@import|\son\w+=|javascript:", text)
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_the_same_results_give_the_same_bytes(document: Any, render: Any, rendered: str) -> None:
    assert render(document) == rendered


def test_all_twelve_networks_are_in_the_chart_and_all_numbers_in_the_tables(
    document: Any, rendered: str, catalog: Catalog
) -> None:
    text = rendered
    for variant in catalog.variants.values():
        assert f">{variant.name}</text>" in text
    said = " ".join(Page(text).text.split())
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
    assert all(svg["role"] == "img" for svg in page.all("svg"))


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
    assert page.all("script") == page.all("img") == []
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in sound.elements} - {"pre"}
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


def test_results_without_images_or_networks_say_what_would_fill_the_page(document: Any, render: Any) -> None:
    static = copy.deepcopy(document)
    for result in static["results"]:
        result.update(accuracy=None, wiring=None, parity=None)
    text = " ".join(Page(render(static)).text.split())
    for option in ("--imagenet PATH", "--wiring=FOLDER", "--peer timm"):
        assert f"{option} --json results.json" in text
    assert "No network was verified" in Page(render({**static, "results": []})).text


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
    assert "no number" in Page(render(odd)).text


def test_no_label_covers_another_one_or_a_point() -> None:
    room = Box(0, 0, 700, 400)
    labels = [Label(((100.0 + 4 * step, 200.0 + 3 * step),), 90, 14) for step in range(10)]
    dots = [Box(x - 5, y - 5, 10, 10) for x, y in (label.spot for label in labels)]
    boxes = [place.box for place in place_labels(labels, dots, room) if place is not None]
    assert len(boxes) == len(labels)
    for index, box in enumerate(boxes):
        assert box.is_inside(room)
        assert not any(box.overlaps(other) for other in (*dots, *boxes[:index]))


def test_a_label_without_room_is_left_out() -> None:
    assert place_labels([Label(((5, 5),), 90, 14)], [], Box(0, 0, 50, 50)) == [None]
