"""`doctor`: the ranked table, JSON, exit codes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from tests.cli.conftest import Ran, Run
from tests.doctor.lab import LabSet, draw_pairs, lab_tables, save, trained
from tests.doctor.mistakes import bgr
from tests.schemas import problems

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mappings")


@pytest.fixture(scope="session")
def lab(mappings: Path) -> Tables:
    return lab_tables(mappings)


@pytest.fixture(scope="session")
def pictures() -> LabSet:
    return draw_pairs(8, seed=5)


@pytest.fixture(scope="session")
def sound(lab: Tables, pictures: LabSet) -> Classifier:
    return trained(lab.catalog.find("lab_dla"), pictures)


@pytest.fixture
def doctor(run: Run, mappings: Path, pictures: LabSet, tmp_path: Path) -> Run:
    """Run the doctor on the laboratory's pictures."""
    folder = pictures.write(tmp_path / "val")

    def call(*arguments: object) -> Ran:
        options = ("--imagenet", folder, "--batch-size", 8)
        return run("doctor", *arguments, *options, R2CONVERT_MAPPINGS=str(mappings), OMP_NUM_THREADS="1")

    return call


def test_a_cause_is_ranked_first_and_says_what_to_do(
    doctor: Run, lab: Tables, pictures: LabSet, tmp_path: Path
) -> None:
    path = save(trained(lab.catalog.find("lab_dla"), pictures, bgr), tmp_path / "bgr.pth")
    ran = doctor(path, "--expected", "100")
    assert ran.code == 1
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    first = next(line.split() for line in lines[1 + next(i for i, line in enumerate(lines) if "───" in line) :])
    assert first[:3] == ["bgr", "16", "100.0"]
    assert "wins back" in ran.out
    assert "explains" in ran.out
    assert "cause found" in lines
    assert "to do" in ran.out
    assert "reverse the input channels" in " ".join(ran.out.split())


def test_a_number_from_elsewhere_is_explained_in_json(doctor: Run, sound: Classifier, tmp_path: Path) -> None:
    document = doctor(save(sound, tmp_path / "mm.pth"), "--measured", "0.0", "--thorough", "--json").json
    assert problems("doctor", document) == []
    assert document["ranked_by"] == "measured"
    assert document["measured"] == {"top1": 0.0, "top5": None, "digit": 0.001}
    assert document["images"]["sample"] == document["as_given"]["images"] == 16
    assert document["verdict"] == "hard to tell apart"
    assert {"devkit-labels", "labels-one-up", "flat-folder"} <= set(document["explanations"])
    # 100 points are missing: what costs most comes first, after what explains them.
    costs = [(finding["explains"], finding["score"]["wins_back"]) for finding in document["findings"]]
    assert costs == sorted(costs, reverse=True)
    assert {finding["score"]["images"] for finding in document["findings"]} == {16}


def test_nothing_off_is_exit_code_0(doctor: Run, sound: Classifier, tmp_path: Path) -> None:
    ran = doctor(save(sound, tmp_path / "mm.pth"), "--measured", "100", "--details")
    assert ran.code == 0
    assert "nothing is off" in ran.out.splitlines()
    assert all(len(line) <= 80 for line in ran.out.splitlines())


def test_too_few_images_are_no_reason_to_be_content(doctor: Run, sound: Classifier, tmp_path: Path) -> None:
    ran = doctor(save(sound, tmp_path / "mm.pth"), "--limit", "8")
    assert ran.code == 1
    assert "too few images" in ran.out.splitlines()
    assert "About 36 would do (--limit 36)" in " ".join(ran.out.split())


def test_a_backbone_has_no_accuracy(doctor: Run, sound: Classifier, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in sound.state_dict().items() if not name.startswith("head")}
    torch.save(state, tmp_path / "backbone.pth")
    ran = doctor(tmp_path / "backbone.pth")
    assert ran.code == 3
    assert "a backbone without classifier" in ran.err


@pytest.mark.parametrize("percent", ["-1", "101", "much", "nan"])
def test_a_share_that_is_none_is_wrong_usage(run: Run, percent: str) -> None:
    ran = run("doctor", "mm.pth", "--imagenet", "val", "--measured", percent)
    assert ran.code == 2
    assert "write for example 76.3" in ran.err


def test_top5_needs_top1(run: Run) -> None:
    ran = run("doctor", "mm.pth", "--imagenet", "val", "--measured-top5", "93")
    assert ran.code == 2
    assert "--measured 76.3 --measured-top5 93.1" in ran.err


def test_top5_is_no_lower_than_top1(run: Run) -> None:
    ran = run("doctor", "mm.pth", "--imagenet", "val", "--measured", "78", "--measured-top5", "70")
    assert ran.code == 2
    assert "top-5 cannot be lower than top-1" in ran.err
