"""The examples of README and docs/: found in the pages, run in order, and held against what the pages print.

A ```` ```console ```` block has commands after ``$ `` and below them what they print, ``...`` standing for anything.
A ```` ```bash ```` block has a command a line, to be copied as it is, and a ```` ```python ```` block is run as it
is. The blocks of a page run one after the other in one folder, as a reader would run them. A comment on the line
before a block, which no reader sees, says what is special about it: ``<!-- not run: needs a GPU -->`` or ``<!-- exits
with 1 -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NEVER_RUN = ("toml", "json", "yaml", "text")
"""Languages that show something and promise no behaviour."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)(?P<title>.*)$")
_NOTE = re.compile(r"^ *<!-- (not run: (?P<reason>.+)|exits with (?P<code>\d+)) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: its page, relative to the project.
        line: where it begins, counted from 1.
        language: what the fence says it is.
        lines: what is in it.
        reason: why it is not run, if so it is marked.
        code: what its last command exits with.
    """

    page: str
    line: int
    language: str
    lines: tuple[str, ...]
    reason: str | None = None
    code: int = 0

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command as it is typed, and what it prints."""

    text: str
    output: str


def pages() -> list[Path]:
    """Everything that people read: the README and the pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    name = str(page.relative_to(ROOT))
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for index, line in enumerate(lines):
        if start is None:
            start = index if _FENCE.match(line) else None
        elif line.strip() == "```":
            yield _block(name, lines, start, index)
            start = None
    assert start is None, f"{name}:{start}: a block without an end"


def _block(page: str, lines: list[str], start: int, end: int) -> Block:
    fence = _FENCE.match(lines[start])
    assert fence is not None
    note = _NOTE.match(lines[start - 1]) if start else None
    body = tuple(line.removeprefix(fence["indent"]) for line in lines[start + 1 : end])
    code = int(note["code"]) if note and note["code"] else 0
    return Block(page, start + 1, fence["language"], body, note["reason"] if note else None, code)


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block; in a console, a here-document and a line that ends in a backslash belong to theirs."""
    if block.language == "bash":
        yield from (Command(line, "") for line in block.lines)
        return
    typed: list[str] = []
    printed: list[str] = []
    ending: str | None = None
    for line in block.lines:
        if ending is not None:
            typed.append(line)
            ending = None if line == ending else ending
        elif typed and typed[-1].endswith("\\") and not printed:
            typed.append(line)
        elif line.startswith("$ "):
            if typed:
                yield Command("\n".join(typed), "\n".join(printed))
            typed, printed = [line.removeprefix("$ ")], []
            here = re.search(r"<<'(\w+)'", line)
            ending = here[1] if here else None
        else:
            assert typed, f"{block}: output before any command"
            printed.append(line)
    assert typed, f"{block}: no command"
    yield Command("\n".join(typed), "\n".join(printed))


def matches(expected: str, got: str) -> bool:
    """Whether output is as printed: ``...`` stands for anything, trailing blanks do not count.

    A command below which nothing is printed may print what it likes: then the page does not speak of it.
    """
    if not expected.strip():
        return True
    pieces = [re.escape(piece) for piece in _without_trailing_blanks(expected).split("...")]
    return re.fullmatch(".*".join(pieces), _without_trailing_blanks(got), re.DOTALL) is not None


def _without_trailing_blanks(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
