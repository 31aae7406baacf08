"""The house rules that a reader relies on: imports point down only, and the project stands alone."""

from __future__ import annotations

import ast
from pathlib import Path

import r2convert

PACKAGE = Path(str(r2convert.__file__)).parent
ROOT = PACKAGE.parent

LEVELS = (
    {"cli"},
    {"api"},
    {"selftest", "report", "doctor"},
    {"checks", "evaluation"},
    {"imagenet", "models", "download", "mapping"},
    {"checkpoint", "catalog", "results"},
    {"files", "errors", "version"},
)
"""Rooms from the top down: a room imports rooms of lower levels only, apart from the pairs below."""

BESIDE = {
    ("report", "doctor"),
    ("checks", "evaluation"),
    ("models", "mapping"),
    ("results", "catalog"),
    ("files", "errors"),
}
"""Rooms of one level of which the first imports the second."""

TORCH_ROOMS = {"models", "checks", "evaluation", "imagenet", "doctor", "selftest"}
"""Where torch may be imported."""

ROOMS: set[str] = set().union(*LEVELS)


def level(room: str) -> int:
    """How far down a room lies."""
    return next(index for index, rooms in enumerate(LEVELS) if room in rooms)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room_of(path: Path) -> str:
    """The room that a file of the package lies in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    """Every file that lies in a room."""
    return [path for path in PACKAGE.rglob("*.py") if not room_of(path).startswith("__")]


def test_every_file_lies_in_a_known_room() -> None:
    assert {room_of(path) for path in sources()} == ROOMS


def test_imports_point_down_only() -> None:
    problems = set()
    for path in sources():
        room = room_of(path)
        for name in imports(path):
            parts = name.split(".")
            other = parts[1] if parts[0] == "r2convert" and len(parts) > 1 else room
            if other not in ROOMS or other == room or level(room) < level(other) or (room, other) in BESIDE:
                continue
            problems.add((room, other))
    assert problems == set()


def test_the_command_line_is_a_shell_over_the_api() -> None:
    """It reads options, calls the API and prints; the tables that it prints are made by the reports' room."""
    used = {name.split(".")[1] for path in sources() if room_of(path) == "cli" for name in imports(path) if "." in name}
    assert used & ROOMS == {"api", "cli", "report", "results", "errors", "files", "version"}


def test_torch_is_imported_where_networks_run_only() -> None:
    problems = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if room_of(path) not in TORCH_ROOMS and any(name.split(".")[0] == "torch" for name in imports(path))
    }
    assert problems == set()


def test_every_room_is_packaged() -> None:
    text = (ROOT / "setup.cfg").read_text()
    for folder in {path.parent for path in sources()}:
        assert f"    {'.'.join(folder.relative_to(ROOT).parts)}\n" in text


def test_no_file_reaches_outside_the_project() -> None:
    forbidden = "/".join(("..", "shared"))
    searched = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    assert [str(path) for path in searched if forbidden in path.read_text(encoding="utf-8")] == []
