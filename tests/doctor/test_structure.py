"""What a network of the ResNet shape can get wrong: its pools, its first block, its shortcuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from r2convert.catalog.variant import StagedArchitecture, Variant
from r2convert.doctor.causes import Cause, Setting, network_causes, rebuilt
from r2convert.imagenet.preprocessing import STANDARD
from r2convert.mapping.tables import Tables
from r2convert.models.build import build_network
from r2convert.results.diagnosis import KnownScore
from tests.doctor.conftest import Tried, ranking, try_all
from tests.doctor.lab import add_rivals, draw_pairs, trained

pytestmark = pytest.mark.slow

ALIKE = ("first-block", "as-paddle", "as-mmdet")


def causes_of(lab: Tables) -> list[Cause]:
    """The causes about the shape of the laboratory's v1b network."""
    others = {"paddle": twin(lab, "lab_vd"), "mmdet": twin(lab, "lab_mmdet")}
    return [each for each in network_causes(lab.catalog.find("lab_v1b"), others) if each.id in ALIKE]


def twin(lab: Tables, name: str) -> Variant:
    """A network with the names and shapes of the laboratory's v1b network that computes something else."""
    variant = lab.catalog.find("lab_v1b")
    assert isinstance(variant.architecture, StagedArchitecture)
    changed: dict[str, dict[str, Any]] = {
        "first-block": {"first_block": "normal"},
        "lab_vd": {"pool_counts_padding": False, "first_block": "normal"},
        "lab_mmdet": {"first_block": "unpooled"},
    }
    return replace(variant, id=name, architecture=replace(variant.architecture, **changed[name]))


@pytest.fixture(scope="session")
def staged(lab: Tables, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """A quick v1b network with the causes that are about its shape tried on sixteen pictures."""
    variant, lab_set = lab.catalog.find("lab_v1b"), draw_pairs(8, seed=2)
    network = trained(variant, lab_set)
    trials = try_all(network, causes_of(lab), lab_set.write(tmp_path_factory.mktemp("val")))
    return Tried(variant, network, lab_set, trials)


def test_every_cause_of_the_shape_is_tried(lab: Tables) -> None:
    assert {each.id for each in causes_of(lab)} == set(ALIKE)
    of_dla = network_causes(lab.catalog.find("lab_dla"), {})
    assert {each.id for each in of_dla} == {"training-mode", "stem-not-loaded"}


def test_what_another_program_computes_is_tried_once(lab: Tables) -> None:
    """A mistake that makes the network into another program's is named by the program."""
    causes = network_causes(lab.catalog.find("lab_v1b"), {"another": twin(lab, "first-block")})
    names = {each.id for each in causes}
    assert "as-another" in names
    assert "first-block" not in names


@pytest.mark.parametrize("cause", ["first-block", "as-mmdet", "as-paddle"])
def test_the_number_of_another_network_is_recognised(staged: Tried, cause: str) -> None:
    trial = next(each for each in staged.trials.others if each.cause.id == cause)
    measured = KnownScore(float(trial.right[:, 0].mean()), float(trial.right[:, 1].mean()))
    found = ranking(staged.trials).explain(measured)
    assert cause in found.explanations
    best = found.findings[0].score
    assert best is not None
    assert (best.top1_correct, best.top5_correct) == (trial.right[:, 0].sum(), trial.right[:, 1].sum())


def test_a_change_computes_what_the_other_architecture_does(lab: Tables) -> None:
    """Weights that fit both, by name and shape; in float64, so that equal means equal."""
    network = build_network(lab.catalog.find("lab_v1b")).eval().double()
    other = build_network(twin(lab, "first-block")).eval().double()
    other.load_state_dict(network.state_dict())
    (change,) = (each.change for each in causes_of(lab) if each.id == "first-block")
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.allclose(network(image), other(image), rtol=1e-9, atol=0)
        assert torch.allclose(change(Setting(STANDARD, network)).network(image), other(image), rtol=1e-9, atol=1e-12)


def test_a_change_leaves_the_network_as_it_was(staged: Tried, lab: Tables) -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = staged.network(image)
        assert not torch.allclose(before, rebuilt(staged.network, twin(lab, "lab_mmdet"))(image))
        assert torch.equal(before, staged.network(image))


def test_a_file_of_the_other_architecture_is_recognised(lab: Tables, tmp_path: Path) -> None:
    lab_set = draw_pairs(12, seed=2)
    other = trained(twin(lab, "lab_vd"), lab_set)
    with torch.no_grad():
        add_rivals(other, lab_set, range(len(lab_set.classes)))
    network = rebuilt(other, lab.catalog.find("lab_v1b"))
    trials = try_all(network, causes_of(lab), lab_set.write(tmp_path))
    found = ranking(trials, KnownScore(1.0)).explain(None)
    assert [*found.explanations] == ["as-paddle"] == [found.findings[0].id]
