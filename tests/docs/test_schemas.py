"""The JSON that commands print is what the published schemas say, and every field of it is described in them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from r2convert.mapping.tables import Tables
from r2convert.results.reading import plain
from r2convert.results.verification import (
    ActivationComparison,
    CheckpointResult,
    LayerWiring,
    OutputDifference,
    ParityResult,
    WiringResult,
    verification,
)
from tests.docs.examples import Command
from tests.docs.stage import Stage
from tests.published import VARIANTS, Published
from tests.schemas import SCHEMAS, problems


@pytest.fixture(scope="module")
def stage(published: Published, tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A folder in which both variants' files lie in the cache."""
    made = Stage(tmp_path_factory.mktemp("schemas") / "folder", published)
    made.folder.mkdir()
    assert made.run(Command(f"r2convert fetch {' '.join(VARIANTS)}", ""))[0] == 0
    return made


@pytest.mark.parametrize("path", sorted(SCHEMAS.iterdir()), ids=lambda path: path.stem)
def test_a_schema_is_a_schema(path: Path) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("inspect", f"{VARIANTS[0]} --tensors"),
        ("inspect", f"{VARIANTS[0]} --no-digest"),
        ("map", f"--src {VARIANTS[1]} --dst mmdet.pth --to mmdet"),
        ("map", f"--src {VARIANTS[1]} --dry-run"),
        ("compare", f"{VARIANTS[0]} {VARIANTS[0]} --activations"),
        ("compare", f"{VARIANTS[0]} {VARIANTS[1]}"),
    ],
)
def test_what_a_command_prints_is_as_described(name: str, arguments: str, stage: Stage) -> None:
    code, printed = stage.run(Command(f"r2convert {name} {arguments} --json 2>/dev/null", ""))
    assert code in (0, 1)
    assert problems(name, json.loads(printed)) == []


@pytest.mark.slow
def test_what_verify_measures_is_as_described(stage: Stage, published: Published) -> None:
    options = f"--imagenet {published.images} --limit 2 --by-layer --json - 2>/dev/null"
    code, printed = stage.run(Command(f"r2convert verify {VARIANTS[0]} {options}", ""))
    assert code in (0, 1)
    assert problems("verify", json.loads(printed)) == []


def test_what_a_peer_and_the_wiring_say_is_as_described() -> None:
    same, other = OutputDifference("a", 0.0, 0.0), OutputDifference("b", float("inf"), 1.0)
    parted = ParityResult.of("timm", "1", ActivationComparison.of((same, other), (other,)))
    refused = ParityResult("timm", "1", refused="Missing key")
    wiring = WiringResult(16, None, (LayerWiring("bn1", 0.1, 0.5, float("nan"), 1.0, suspect=True),))
    results = [
        CheckpointResult("net", None, None, None, None, (), wiring=wiring, parity=parity)
        for parity in (parted, refused)
    ]
    assert problems("verify", plain(verification(results))) == []


def test_what_is_not_described_is_noticed(stage: Stage) -> None:
    document = json.loads(stage.run(Command(f"r2convert inspect {VARIANTS[0]} --json", ""))[1])
    for name, value in (("container", "onnx"), ("tensors", "many"), ("undescribed", 1)):
        changed = {**copy.deepcopy(document), name: value}
        assert len(problems("inspect", changed)) == 1, name
