"""The report in Chromium: silent, alone, inside its width, legible in both colour schemes, and printable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

WIDTHS = (360, 768, 1400)
A4 = 688
"""CSS pixels between the margins of a sheet."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NAMES = ("all", "one", "static", "long")
LEGIBLE = 4.5
"""Contrast of text that WCAG 2 asks for."""

CONTRASTS = """() => {
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || ["TITLE", "DESC"].includes(element.tagName.toUpperCase())) continue;
    const style = getComputedStyle(element);
    const colour = element.ownerSVGElement ? style.fill : style.color;
    const [one, other] = [luminance(parse(colour).slice(0, 3)), luminance(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([ratio, element.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""

OUTSIDE = """() => [...document.querySelectorAll("body *")]
  .filter((element) => element.checkVisibility() && !element.closest(".unseen"))
  .filter((element) => !["title", "desc", "defs", "clipPath"].includes(element.tagName) && !element.closest("defs"))
  .map((element) => [element.getBoundingClientRect(), element])
  .filter(([box]) => box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5))
  .map(([box, element]) => `${element.tagName} ${element.textContent.trim().slice(0, 40)}`)"""


CUT = """() => [...document.querySelectorAll("svg text")]
  .filter((text) => text.checkVisibility())
  .map((text) => [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect(), text.textContent])
  .filter(([text, svg]) => text.left < svg.left - 1 || text.right > svg.right + 1 || text.bottom > svg.bottom + 2)
  .map(([, , words]) => words)"""


@contextmanager
def opened(browser: Browser, path: Path, width: int, scheme: Literal["light", "dark"] = "light") -> Iterator[Page]:
    """Open a page; whatever it says or asks for that it should not fails the test."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_and_nothing_is_said(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    with opened(browser, pages[name], width) as page:
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(CUT) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_all_text_is_legible(browser: Browser, pages: dict[str, Path], width: int, scheme: Any) -> None:
    with opened(browser, pages["all"], width, scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 1000
        assert [found for found in contrasts if found[0] < LEGIBLE] == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("width", WIDTHS)
def test_each_chart_is_shown_once_with_letters_of_full_size(
    browser: Browser, pages: dict[str, Path], width: int
) -> None:
    with opened(browser, pages["all"], width) as page:
        for figure in page.locator("figure").all():
            (shown,) = (chart for chart in figure.locator("svg").all() if chart.is_visible())
            drawn, seen = float(shown.get_attribute("width") or 0), (shown.bounding_box() or {"width": 0})["width"]
            assert seen / drawn > 0.8


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["all", "one"])
def test_no_label_of_the_accuracy_chart_covers_another(
    browser: Browser, pages: dict[str, Path], width: int, name: str
) -> None:
    with opened(browser, pages[name], width) as page:
        texts = page.locator("#accuracy svg:visible text")
        boxes = {text.text_content(): text.bounding_box() for text in texts.all()}
        assert len(boxes) > 12
        for (one, a), (other, b) in combinations(boxes.items(), 2):
            assert a is not None
            assert b is not None
            apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            # Boxes of text have room above and below the letters.
            apart |= a["y"] + a["height"] <= b["y"] + 3 or b["y"] + b["height"] <= a["y"] + 3
            assert apart, f"{one} covers {other}"


def test_every_image_and_chart_says_what_it_shows(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["all"], 1400) as page:
        images = page.locator("img").all()
        assert len(images) >= 12
        assert all(len(image.get_attribute("alt") or "") > 20 for image in images)
        assert all(image.evaluate("image => image.naturalWidth") == 96 for image in images)
        names = [
            chart.evaluate("chart => chart.getAttribute('aria-labelledby')") for chart in page.locator("svg").all()
        ]
        for name in names:
            title, description = (page.locator(f"[id='{each}']").text_content() for each in name.split())
            assert title
            assert len(description or "") > 20
        headings = page.get_by_role("heading", level=2).all_text_contents()
        assert headings == [
            "Verdicts",
            "Accuracy and cost",
            "Classes",
            "Wiring",
            "Parity by layer",
            "All checks",
            "Reproduce",
        ]
        assert page.get_by_role("table").first.get_by_role("columnheader").count() == 6


def test_tables_stay_tables_for_screen_readers_on_a_phone(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["one"], 360) as page:
        table = page.get_by_role("table").first
        assert table.get_by_role("rowheader").count() == 1
        assert table.get_by_role("cell").count() == 5


def test_a_link_to_a_network_opens_what_was_folded(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["all"], 1400) as page:
        assert not page.locator("#network-1 table").is_visible()
        page.locator("#verdicts a[href='#network-1']").click()
        page.locator("#network-1 table").wait_for(state="visible")


def test_paper_shows_everything_in_dark_on_light(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["all"], A4, "dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= A4
        assert page.evaluate(CUT) == []
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert [found for found in page.evaluate(CONTRASTS) if found[0] < LEGIBLE] == []
        folded = page.locator("#network-1 table")
        assert (folded.bounding_box() or {"height": 0})["height"] > 100
        assert page.pdf(format="A4").startswith(b"%PDF")
