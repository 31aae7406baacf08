"""A real browser, and pages for it to open."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from r2convert.catalog import Catalog
from r2convert.checks.standins import synthetic_image
from r2convert.mapping.tables import Tables
from r2convert.report.page import render_page
from r2convert.report.thumbnails import Thumbnails
from r2convert.results.reading import read_run
from tests.report.made import made_document, made_predictions

SOUND, BROKEN = "res2net50_w14_s8", "res2net50_w26_s8"
LONG = "x" * 300


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    path = shutil.which("chromium")
    assert path is not None, "install Debian's package chromium"
    with sync_playwright() as playwright:
        # Root, which CI often is, may not use the sandbox.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pages(tables: Tables, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name: of all networks, of one that passes, of one without any measurement, and of overlong names."""
    folder = tmp_path_factory.mktemp("pages")
    images = folder / "val"
    images.mkdir()
    for number in range(1, 7):
        (images / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(synthetic_image(number))
    everything = made_document(tables, broken=BROKEN)
    sound, broken = ([each for each in everything["results"] if each["variant"] == name] for name in (SOUND, BROKEN))
    documents = {
        "all": everything,
        "one": {**everything, "results": sound},
        "static": {**everything, "results": [{**sound[0], "accuracy": None, "wiring": None, "parity": None}]},
        "long": _with_long_names({**everything, "results": broken}),
        "twenty": {**everything, "results": [*everything["results"], *everything["results"][:8]]},
    }
    runs, made = {}, {}
    for name, document in documents.items():
        results = folder / f"{name}.json"
        results.write_text(json.dumps(document), encoding="utf-8")
        runs[name] = [read_run(str(results))]
    runs["two"] = [*runs["one"], *runs["all"]]
    predictions = {"two": made_predictions(documents["one"], documents["all"], SOUND)}
    for name, several in runs.items():
        made[name] = folder / f"{name}.html"
        page = render_page(several, catalog, Thumbnails.from_images(images), predictions.get(name))
        made[name].write_text(page, encoding="utf-8")
    return made


def _with_long_names(document: Any) -> Any:
    """Names without a place to break them at, wherever a results file has a name."""
    changed = copy.deepcopy(document)
    (result,) = changed["results"]
    result.update(dict.fromkeys(("checkpoint", "sha256", "content_hash", "layout", "variant"), LONG))
    for check in result["checks"]:
        check.update(source=LONG, note=LONG, convention=LONG)
    for layer in (*result["wiring"]["layers"], *result["parity"]["by_layer"], *result["parity"]["stages"]):
        layer["name"] = LONG
    result["parity"].update(peer=LONG, version=LONG)
    result["accuracy"]["confusions"][0].update(label=LONG, predicted=LONG)
    result["accuracy"]["per_class"][LONG] = [50, 0]
    changed["environment"][LONG] = LONG
    changed["command"] = ["r2convert", "verify", LONG]
    return changed
