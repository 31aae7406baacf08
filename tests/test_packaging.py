"""The built package: everything is in it, and it works from anywhere without the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from a copy of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    names = ("r2convert", "mappings", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
    copy.mkdir()
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(copy)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_data_and_typing_marker_are_packaged(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "r2convert/py.typed" in names
    assert sum(name.startswith("r2convert/mappings/res2ne") for name in names) == 12
    assert sum(name.startswith("r2convert/mappings/tables/") for name in names) == 5
    tracked = {f"r2convert/{path.relative_to(ROOT / 'r2convert')}" for path in (ROOT / "r2convert").rglob("*.py")}
    assert tracked <= names


def test_the_installed_package_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "R2CONVERT_CACHE": str(tmp_path / "cache")}
    code = (
        f"import r2convert; assert r2convert.__file__.startswith({str(site)!r}); from r2convert.cli import main; main()"
    )
    for arguments, expected in (
        (["list"], "res2net200_vd_w26_s4_ssld"),
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
