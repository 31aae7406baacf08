"""What is generated for the documentation is current and whole."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import click
import pytest

from r2convert.cli.application import COMMANDS, application
from tests.docs.examples import ROOT

PICTURE = ROOT / "docs" / "assets" / "verdicts.svg"


def filled_in(markdown: str) -> str:
    """A page as MkDocs gets it."""
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import docs_hook;"
        "sys.stdout.write(docs_hook.on_page_markdown(sys.stdin.read(), {'docs_dir': 'docs'}))"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, input=markdown, capture_output=True, text=True, check=True).stdout


def test_every_option_of_every_command_is_in_the_reference() -> None:
    text = filled_in("<!-- commands -->")
    sections = dict(zip(COMMANDS, text.split("\n## r2convert ")[0:], strict=True))
    context = click.Context(application, info_name="r2convert")
    for name, section in sections.items():
        command = application.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden and parameter.help:
                assert parameter.opts[0] in section
        assert f"$ r2convert {name}" in section
    assert "\b" not in text


@pytest.mark.parametrize("name", ["inspect", "map", "compare", "verify"])
def test_every_field_of_a_schema_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    assert f"<!-- schema: {name} -->" in page
    text = filled_in(f"<!-- schema: {name} -->")
    schema = json.loads((ROOT / "docs" / "reference" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert all(f"| `{field}` |" in text for field in schema["properties"])


def test_the_picture_of_the_verdicts_is_what_verify_prints() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/verdict_picture.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_picture_asks_no_other_machine_for_anything() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    ET.fromstring(text)
    assert "@font-face" not in text
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') == 1
    assert "known-deviation" in text
