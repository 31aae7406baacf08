"""The built package: everything is in it, and it works from anywhere without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from scripts.make_distributions import build

ROOT = Path(__file__).parent.parent


DATE = 1_700_000_000
"""Some second of 2023."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel built out of it."""
    return build(tmp_path_factory.mktemp("built"), DATE)


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> Path:
    return built[1]


def test_built_again_the_bytes_are_the_same(built: tuple[Path, Path], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        again = build(tmp_path, DATE)
    finally:
        os.umask(before)
    assert [path.name for path in again] == [path.name for path in built]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_data_and_typing_marker_are_packaged(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "r2convert/py.typed" in names
    tables = {f"r2convert/{path.relative_to(ROOT)}" for path in (ROOT / "mappings").rglob("*.toml")}
    code = {f"r2convert/{path.relative_to(ROOT / 'r2convert')}" for path in (ROOT / "r2convert").rglob("*.py")}
    assert len(tables) > 12
    assert tables | code <= names


def test_the_source_distribution_holds_what_its_users_and_testers_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("tests", "docs", "scripts"):
        files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}
        assert files <= names
    assert {"CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md"} <= names
    assert not any("__pycache__" in name or name.startswith((".venv", ".git/")) for name in names)


def test_the_citation_names_the_program_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # all that the format requires
    assert citation["references"][0]["doi"] == "10.1109/TPAMI.2019.2938758"


def test_the_installed_package_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "R2CONVERT_CACHE": str(tmp_path / "cache")}
    code = (
        f"import r2convert; assert r2convert.__file__.startswith({str(site)!r}); from r2convert.cli import main; main()"
    )
    for arguments, expected in (
        (["list"], "res2net200_vd_w26_s4"),
        (["list", "--tensors", "res2net50"], "head.fc"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in done.stdout
