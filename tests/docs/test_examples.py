"""What README and docs/ show does what they show."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from r2convert.mapping.tables import Tables
from tests.docs.examples import NEVER_RUN, ROOT, Block, blocks, commands, matches, pages
from tests.docs.preparation import PREPARATIONS, Preparation
from tests.docs.stage import Stage
from tests.published import Published

REASONS = (
    "installs packages",
    "needs a GPU",
    "needs several GPUs",
    "needs the extra [report]",
    "needs the network",
    "takes two measurements",
)
RUN = ("console", "bash", "python")
WITH_EXAMPLES = [
    str(page.relative_to(ROOT))
    for page in pages()
    if any(block.language in RUN and block.reason is None for block in blocks(page))
]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        if block.reason is not None:
            assert block.reason in REASONS, str(block)
        else:
            assert block.language in (*RUN, *NEVER_RUN), f"{block}: ```{block.language}"


def test_every_preparation_is_of_a_page_with_examples() -> None:
    assert set(PREPARATIONS) <= set(WITH_EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_page_do_what_they_show(
    name: str, published: Published, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    stage = Stage(folder, published)
    if name in PREPARATIONS:
        PREPARATIONS[name](Preparation(stage, tables))
    namespace: dict[str, Any] = {"__name__": "example"}
    for block in blocks(ROOT / name):
        if block.reason is None and block.language in ("console", "bash"):
            _run_commands(block, stage)
        elif block.reason is None and block.language == "python":
            _run_python(block, stage, namespace, monkeypatch)


def _run_commands(block: Block, stage: Stage) -> None:
    every = list(commands(block))
    for command in every:
        code, printed = stage.run(command)
        expected = block.code if command is every[-1] else 0
        shown = f"{block}\n$ {command.text}\n--- shown\n{command.output}\n--- printed\n{printed}"
        assert code == expected, f"exit code {code}: {shown}"
        assert matches(command.output, printed), shown


def _run_python(block: Block, stage: Stage, namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        for variable in set(os.environ) - set(stage.variables):
            patch.delenv(variable)
        for variable, value in stage.variables.items():
            patch.setenv(variable, value)
        patch.chdir(stage.where)
        exec(compile("\n".join(block.lines), str(block), "exec"), namespace)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a  \nb", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("size ... MB", "size 1 MB", True),
        ("a", "b", False),
        ("a\nb", "a\nc\nb", False),
        ("...a", "b", False),
        ("", "whatever", True),
    ],
)
def test_what_is_printed_has_to_be_what_is_shown(shown: str, printed: str, same: bool) -> None:
    assert matches(shown, printed) is same


def test_commands_are_taken_apart_as_a_shell_would() -> None:
    lines = ("$ cat <<'EOF'", "$ no command", "EOF", "text", "$ echo a \\", "  b", "a b")
    first, second = commands(Block("page.md", 1, "console", lines))
    assert (first.text, first.output) == ("cat <<'EOF'\n$ no command\nEOF", "text")
    assert (second.text, second.output) == ("echo a \\\n  b", "a b")


def test_links_to_files_of_the_project_lead_somewhere() -> None:
    """MkDocs checks the links between pages; README is none of its pages."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target.partition("#")[0]).exists()] == []
