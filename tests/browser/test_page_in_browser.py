"""The report in Chromium: silent, alone, inside its width, legible in both colour schemes, and printable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

WIDTHS = (360, 768, 1400)
A4 = 688
"""CSS pixels between the margins of a sheet."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NAMES = ("all", "one", "static", "long", "twenty", "two")
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


COVERED = """() => [...document.querySelectorAll("[role=img] svg")]
  .filter((svg) => svg.checkVisibility() && !svg.parentNode.closest("svg"))
  .flatMap((svg) => {
    const texts = [...svg.querySelectorAll("text")].map((text) => [text.getBoundingClientRect(), text.textContent]);
    return texts.flatMap(([a, one], at) => texts.slice(at + 1)
      .filter(([b]) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom)
      .map(([, other]) => `${one} covers ${other}`));
  })"""


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
        assert page.evaluate(COVERED) == []


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


def test_a_page_of_twenty_networks_can_be_mailed(pages: dict[str, Path]) -> None:
    assert pages["twenty"].stat().st_size < 1_500_000


def test_the_verdict_table_is_sorted_and_filtered(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["all"], 1400) as page:
        rows = page.locator("#verdicts tbody tr:visible")
        assert rows.count() == 12
        page.get_by_label("Sort by").select_option(label="verdict, worst first")
        assert "2c7c9f12" in (rows.first.text_content() or "")
        page.get_by_label("Sort by").select_option(label="params, largest first")
        assert "Res2Net-v1d-200" in (rows.first.text_content() or "")
        page.locator("select[name=verdict]").select_option("fail")
        assert rows.count() == 1
        page.locator("select[name=verdict]").select_option("")
        page.get_by_label("Filter").fill("dla")
        assert rows.count() == 2
        assert page.locator(".tools output").text_content() == "2 of 12"


def test_a_command_is_copied(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["all"], 1400) as page:
        page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
        page.locator("#verdicts tr[data-verdict=fail] .next button").first.click()
        page.get_by_text("copied").wait_for()
        assert page.evaluate("copied").startswith("r2convert compare res2net50_w26_s8 ")


def test_exact_numbers_appear_at_every_mark(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["all"], 1400) as page:
        titles = page.evaluate("[...document.querySelectorAll('#accuracy title')].map((each) => each.textContent)")
        assert "Res2Net-50-26w-8s: 71.200 % measured" in titles
        assert "Res2Net-50-26w-8s: 79.20 % published" in titles


def test_every_image_and_chart_says_what_it_shows(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["all"], 1400) as page:
        images = page.locator("img").all()
        assert len(images) >= 12
        assert all(len(image.get_attribute("alt") or "") > 20 for image in images)
        assert all(image.evaluate("image => image.naturalWidth") == 96 for image in images)
        charts = page.locator("[role=img]").all()
        assert len(charts) == 1 + 12 + 12 + 1 + 1  # of many networks, wiring and parity only where they disagree
        assert all(len(chart.get_attribute("aria-label") or "") > 20 for chart in charts)
        headings = page.get_by_role("heading", level=2).all_text_contents()
        assert headings == [
            "Verdicts",
            "Accuracy and cost",
            "Claims in images",
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
        assert page.evaluate(COVERED) == []
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert [found for found in page.evaluate(CONTRASTS) if found[0] < LEGIBLE] == []
        folded = page.locator("#network-1 table")
        assert (folded.bounding_box() or {"height": 0})["height"] > 100
        assert page.pdf(format="A4").startswith(b"%PDF")
