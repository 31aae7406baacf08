"""`r2convert.toml`: the cache folder, the device and names of data sets, from the first file that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.conftest import Standin


def write(folder: Path, text: str) -> Path:
    """A configuration in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "r2convert.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("place", ["working folder", "user", "variable"])
def test_the_cache_folder_is_relative_to_the_file(run: Run, tmp_path: Path, place: str) -> None:
    folder = tmp_path / ("home/r2convert" if place == "user" else "here")
    path = write(folder, 'cache = "weights"\n')
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "home" if place == "user" else tmp_path / "none")}
    if place == "variable":
        environment["R2CONVERT_CONFIG"] = str(path)
    cwd = folder if place == "working folder" else tmp_path
    assert run("cache", "--json", cwd=cwd, R2CONVERT_CACHE="", **environment).json["folder"] == str(folder / "weights")


def test_the_environment_wins_over_the_file(run: Run, cache: Path, tmp_path: Path) -> None:
    write(tmp_path, 'cache = "weights"\n')
    assert run("cache", "--json").json["folder"] == str(cache)


def test_a_data_set_is_called_by_its_name(run: Run, tmp_path: Path) -> None:
    write(tmp_path, '[datasets]\nval = "images/val"\n')
    ran = run("verify", "a.pth", "--imagenet", "val")
    assert (ran.code, f"where:    {tmp_path / 'images/val'}\n" in ran.err) == (3, True)
    assert run("verify", "a.pth", "--imagenet", "other").err.count("where:    other\n") == 1


def test_the_device_is_the_files_unless_an_option_says_another(run: Run, standin: Standin, tmp_path: Path) -> None:
    write(tmp_path, 'device = "abacus"\n')
    file = standin("res2net_dla60_w28_s4")
    assert "'abacus' cannot be used" in run("verify", file, "--wiring").err
    assert run("verify", file).code == 0


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("cache = weights\n", 3, "is not valid TOML"),
        ('cash = "weights"\n', 3, "got:      cash"),
        ("device = 3\n", 3, "got:      device = 3"),
        ('datasets = "val"\n', 3, "[datasets] with lines NAME = PATH"),
        ("[datasets]\nval = true\n", 3, "got:      val = True"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(run: Run, tmp_path: Path, text: str, code: int, message: str) -> None:
    path = write(tmp_path, text)
    ran = run("list", R2CONVERT_CONFIG=str(path))
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert str(path) in ran.err


def test_a_file_that_is_named_has_to_be_there(run: Run, tmp_path: Path) -> None:
    ran = run("list", R2CONVERT_CONFIG=str(tmp_path / "gone.toml"))
    assert (ran.code, "gone.toml" in ran.err) == (4, True)
    assert run("--help", R2CONVERT_CONFIG=str(tmp_path / "gone.toml")).code == 0


@pytest.mark.parametrize("place", ["first", "last"])
def test_verbose_says_what_is_used(run: Run, standin: Standin, tmp_path: Path, place: str) -> None:
    write(tmp_path, "")
    file = standin("res2net_dla60_w28_s4")
    command = ("inspect", file, "--no-digest")
    ran = run("-v", *command) if place == "first" else run(*command, "--verbose")
    assert ran.err.startswith("configuration: r2convert.toml\n")
    assert ran.err.endswith(" s\n")
    assert ran.out == run(*command).out
