"""What is generated for the documentation is current and whole."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Literal

import click
import pytest

from r2convert.cli.app import COMMANDS, application
from r2convert.cli.options import Option
from scripts.block_drawing import draw as draw_block
from tests.docs.examples import ROOT

ASSETS = ROOT / "docs" / "assets"


def filled_in(markdown: str) -> str:
    """A page as MkDocs gets it."""
    return hook("on_page_markdown(sys.stdin.read(), {'docs_dir': 'docs'})", markdown)


def hook(call: str, text: str, stream: Literal["stdout", "stderr"] = "stdout") -> str:
    """What the hook makes of a text, in a process that finds it where MkDocs does."""
    code = (
        "import logging, sys, types; sys.path.insert(0, 'scripts'); import docs_hook; logging.basicConfig();"
        f"sys.stdout.write(docs_hook.{call})"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=True)
    return done.stdout if stream == "stdout" else done.stderr


def test_every_option_of_every_command_is_in_the_reference() -> None:
    text = filled_in("<!-- commands -->")
    sections = dict(zip(COMMANDS, text.split("\n## r2convert ")[0:], strict=True))
    context = click.Context(application, info_name="r2convert")
    for name, section in sections.items():
        command = application.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, Option):
                assert f"`{parameter.opts[0]}" in section
                assert f"| {parameter.group.lower()} | |" in section
        assert f"```bash\nr2convert {name}" in section
    assert "\b" not in text


def test_the_catalogue_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "catalogue.md").read_text(encoding="utf-8")
    text = filled_in(page)
    assert re.search(
        r"\| `res2net50_w14_s8` \| 25.06 M \| 4.2 G \| `official` \| 78.14 \| 93.86 \| \[official\]\(", text
    )
    paddle = text.partition("### paddle\n")[2].partition("### ")[0]
    assert "Read by PaddleClas." in paddle
    assert re.search(r"\*\*Builds\*\* .*`res2net200_vd_w26_s4`", paddle)
    assert re.search(r"\*\*Computes differently\*\* .*`res2net50_w26_s4`.*: it leaves out", paddle)
    assert re.search(r"\*\*Cannot build\*\* .*`res2net_dla60_w28_s4`.*: PaddleClas builds", paddle)
    assert "<!--" not in text


@pytest.mark.parametrize("name", ["inspect", "map", "compare", "verify"])
def test_every_field_of_a_schema_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    assert f"<!-- schema: {name} -->" in page
    text = filled_in(f"<!-- schema: {name} -->")
    schema = json.loads((ROOT / "docs" / "reference" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert all(f"| `{field}` |" in text for field in schema["properties"])


def test_names_in_docstrings_lose_what_other_tools_mark_them_with() -> None:
    html_as_read = "see <code>r2convert.evaluation.backends</code> and <code>InputError</code>"
    html = "see :mod:<code>r2convert.evaluation.backends</code> and :class:<code>~r2convert.errors.InputError</code>"
    assert hook("on_page_content(sys.stdin.read())", html) == html_as_read


@pytest.mark.parametrize(
    ("html", "warned"),
    [
        ('<script src="https://cdn.example/a.js"></script>', True),
        ('<link rel="stylesheet" href="//cdn.example/a.css">', True),
        ('<a href="https://arxiv.org/abs/1904.01169">paper</a><script src="assets/a.js"></script>', False),
    ],
)
def test_a_page_that_asks_another_machine_for_something_is_warned_of(html: str, warned: bool) -> None:
    page = "types.SimpleNamespace(file=types.SimpleNamespace(src_uri='index.md'))"
    printed = hook(f"on_post_page(sys.stdin.read(), {page})", html, stream="stderr")
    assert ("index.md loads" in printed) is warned


def test_the_drawing_of_a_block_has_the_names_of_the_tables() -> None:
    drawn = draw_block()
    assert (ASSETS / "block.svg").read_text(encoding="utf-8") == drawn, "out of date: make pictures"
    for layout, name in (("mm", "backbone.layer1.1.convs.0.weight"), ("paddle", "bb_0_1.conv2._batch_norm._mean")):
        assert f">{layout}<" in drawn
        assert f">{name}<" in drawn


@pytest.mark.parametrize("name", ["block", "terminal-convert", "terminal-list"])
def test_a_picture_asks_no_other_machine_for_anything(name: str) -> None:
    text = (ASSETS / f"{name}.svg").read_text(encoding="utf-8")
    ET.fromstring(text)
    assert "@font-face" not in text
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') == 1


def test_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) < 600_000


def test_everything_that_the_reference_describes_is_there() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    names = [line.removeprefix("::: ") for line in page.splitlines() if line.startswith("::: ")]
    assert len(names) > 10
    for name in names:
        assert pkgutil.resolve_name(name) is not None
