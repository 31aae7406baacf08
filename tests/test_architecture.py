"""The house rules that a reader relies on: imports point down only, and the project stands alone."""

from __future__ import annotations

import ast
from pathlib import Path

import r2convert

PACKAGE = Path(str(r2convert.__file__)).parent
ROOT = PACKAGE.parent

MAY_IMPORT = {
    "cli": {"report", "doctor", "verify", "imagenet", "models", "mapping", "checkpoint", "catalog", "fetch"},
    "api": {"verify", "imagenet", "models", "mapping", "checkpoint", "catalog", "fetch"},
    "report": {"doctor", "verify", "imagenet", "models", "mapping", "checkpoint", "catalog"},
    "doctor": {"verify", "imagenet", "models", "mapping", "checkpoint", "catalog"},
    "verify": {"imagenet", "models", "mapping", "checkpoint", "catalog"},
    "imagenet": {"checkpoint", "catalog"},
    "models": {"checkpoint", "catalog"},
    "mapping": {"checkpoint", "catalog"},
    "fetch": {"checkpoint", "catalog"},
    "checkpoint": set(),
    "catalog": set(),
}
TORCH_ROOMS = {"models", "verify", "imagenet", "doctor", "report", "cli"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_imports_point_down_only() -> None:
    problems = []
    for room, allowed in MAY_IMPORT.items():
        for path in (PACKAGE / room).rglob("*.py"):
            for name in imports(path):
                parts = name.split(".")
                other = parts[1] if parts[0] == "r2convert" and len(parts) > 1 else room
                if other in MAY_IMPORT.keys() - allowed - {room}:
                    problems.append(f"{path.relative_to(ROOT)} imports {name}")
    assert problems == []


def test_torch_is_imported_where_networks_are_only() -> None:
    problems = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        if room not in TORCH_ROOMS and any(name.split(".")[0] == "torch" for name in imports(path)):
            problems.append(str(path))
    assert problems == []


def test_every_room_is_packaged() -> None:
    text = (ROOT / "setup.cfg").read_text()
    for room in MAY_IMPORT:
        assert f"    r2convert.{room}\n" in text


def test_no_file_reaches_outside_the_project() -> None:
    forbidden = "/".join(("..", "shared"))
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    assert [str(path) for path in sources if forbidden in path.read_text(encoding="utf-8")] == []
