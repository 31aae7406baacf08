"""`r2convert layout`: names that nobody has become a column that works at once, with what is not certain said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import Standin
from tests.schemas import problems

V1B = "res2net50_v1b_w26_s4"


def run(folder: Path, *arguments: str | Path, code: int = 0, mappings: str = "") -> subprocess.CompletedProcess[str]:
    """The real command line."""
    environment = {**os.environ, "R2CONVERT_MAPPINGS": mappings} if mappings else None
    done = subprocess.run(
        [sys.executable, "-m", "r2convert", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def unknown(standin: Standin, tmp_path: Path) -> Path:
    """A file of a code base that nobody has, which registers what follows the stem from the last layer to the first."""
    state = torch.load(standin(V1B), weights_only=True)
    stem = {f"body.begin.{name}": state[name] for name in state if name.startswith(("conv1.", "bn1."))}
    rest = {
        f"body.{name.replace('layer', 'g').replace('.convs.', '.mid.').replace('.downsample.', '.by.')}": state[name]
        for name in reversed(state)
        if f"body.begin.{name}" not in stem
    }
    torch.save(stem | rest, tmp_path / "unknown.pth")
    return tmp_path / "unknown.pth"


def test_the_draft_works_at_once_and_says_what_order_alone_decided(standin: Standin, unknown: Path) -> None:
    folder = unknown.parent
    run(folder, "inspect", "unknown.pth")
    done = run(folder, "layout", "unknown.pth", "--like", V1B, "--output", "lab", "--json")
    learned = json.loads(done.stdout)
    assert problems("layout", learned) == []
    assert learned["undecided"] == [["body.begin.conv1.1", "body.begin.conv1.4"]]
    assert "or else by their order in the file: body.begin.conv1.1, body.begin.conv1.4" in done.stderr
    assert learned["reordered"] > 100
    assert {row["evidence"] for row in learned["modules"]} == {"shape", "names", "order"}
    run(folder, "map", "unknown.pth", "official.pth", "--to", "official", mappings="lab")
    source, back = (torch.load(path, weights_only=True) for path in (standin(V1B), folder / "official.pth"))
    assert source.keys() == back.keys()
    assert all(torch.equal(source[name], back[name]) for name in source)


def test_the_table_names_every_row_with_its_evidence(unknown: Path) -> None:
    done = run(unknown.parent, "layout", "unknown.pth", "--like", V1B)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["backbone.stem.1.bn", "body.begin.conv1.4", "ORDER", "ALONE", "(1)"] in rows
    split = ["backbone.layer{stage}.{block}.convs.{scale}", "body.g{stage}.{block}.mid.{scale}"]
    assert [*split, "shapes", "and", "numbers", "(48)"] in rows
    assert "nothing written: --output FOLDER writes the draft" in done.stdout
    assert sorted(path.name for path in unknown.parent.iterdir()) == ["unknown.pth"]


def test_another_architecture_is_refused_with_the_one_that_fits(unknown: Path) -> None:
    done = run(unknown.parent, "layout", "unknown.pth", "--like", "res2net50_w26_s4", code=3)
    assert "missing: 1 conv of 64x3x7x7" in done.stderr
    assert f"--like {V1B}" in done.stderr


def test_a_draft_that_is_there_is_left_alone(unknown: Path) -> None:
    folder = unknown.parent
    run(folder, "layout", "unknown.pth", "--like", V1B, "--output", "lab")
    before = (folder / "lab" / "layouts.toml").read_text()
    run(folder, "layout", "unknown.pth", "--like", V1B, "--output", "lab", "--name", "other", code=4)
    assert (folder / "lab" / "layouts.toml").read_text() == before
    run(folder, "layout", "unknown.pth", "--like", V1B, "--output", "lab", "--name", "other", "--overwrite")
    assert "[layouts.other]" in (folder / "lab" / "layouts.toml").read_text()
    run(folder, "layout", "unknown.pth", "--like", V1B, "--name", "timm", code=2)
