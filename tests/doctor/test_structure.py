"""What a network of the ResNet shape can get wrong: its pools, its first block, its shortcuts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from r2convert.catalog.variant import StagedArchitecture, Variant
from r2convert.doctor.causes import NetworkChange, Setting, causes_for
from r2convert.doctor.changes import changed_network
from r2convert.doctor.ranking import Evidence, KnownScore, Question, diagnose
from r2convert.mapping.tables import Tables
from r2convert.models.build import build_network
from tests.doctor.conftest import Tried, try_all
from tests.doctor.lab import add_rivals, draw_pairs, trained

pytestmark = pytest.mark.slow

ALIKE = ("pool padding", "first block", "first pool")
SHAPES = (*ALIKE, "shortcut pool")


@pytest.fixture(scope="session")
def staged(lab: Tables, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """A quick v1b network with the causes that are about its shape tried on sixteen pictures."""
    variant = lab.catalog.find("lab_v1b")
    lab_set = draw_pairs(8, seed=2)
    network = trained(variant, lab_set)
    causes = [each for each in causes_for(variant.architecture, Setting()) if each.setting.network in SHAPES]
    return Tried(network, lab_set, try_all(network, lab_set, causes, tmp_path_factory.mktemp("val")))


def test_every_cause_of_the_shape_is_tried(lab: Tables) -> None:
    causes = causes_for(lab.catalog.find("lab_v1b").architecture, Setting())
    assert {each.setting.network for each in causes} >= set(SHAPES)
    of_dla = causes_for(lab.catalog.find("lab_dla").architecture, Setting())
    assert {each.setting.network for each in of_dla} & set(SHAPES) == {"pool padding"}


@pytest.mark.parametrize("cause", ["first-block", "no-first-pool", "no-shortcut-pool"])
def test_the_number_of_another_network_is_recognised(staged: Tried, cause: str) -> None:
    trial = next(each for each in staged.trials.others if each.cause and each.cause.id == cause)
    measured = KnownScore(float(trial.right[:, 0].mean()), float(trial.right[:, 1].mean()))
    found = diagnose(staged.trials, Question(measured), Evidence(images=16), 16)
    assert found.findings[0].score is not None
    assert cause in {each.id for each in found.explanations}
    best = found.findings[0].score
    assert (best.top1_correct, best.top5_correct) == (trial.right[:, 0].sum(), trial.right[:, 1].sum())


@pytest.mark.parametrize("change", ["pool padding", "first block"])
def test_a_change_computes_what_the_other_architecture_does(lab: Tables, change: NetworkChange) -> None:
    """Weights that fit both, by name and shape; in float64, so that equal means equal."""
    network, other = build_network(lab.catalog.find("lab_v1b")).eval().double(), build_network(twin(lab, change)).eval()
    other.double().load_state_dict(network.state_dict())
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.allclose(network(image), other(image), rtol=1e-9, atol=0)
        with changed_network(network, change):
            assert torch.allclose(network(image), other(image), rtol=1e-9, atol=1e-12)


def twin(lab: Tables, change: NetworkChange) -> Variant:
    """The laboratory's v1b network with vd's pools or vd's first block."""
    variant = lab.catalog.find("lab_v1b")
    assert isinstance(variant.architecture, StagedArchitecture)
    if change == "pool padding":
        return replace(variant, architecture=replace(variant.architecture, pool_counts_padding=False))
    return replace(variant, architecture=replace(variant.architecture, first_block="normal"))


@pytest.mark.parametrize("change", ["first pool", "shortcut pool"])
def test_a_pool_is_left_out_and_comes_back(staged: Tried, change: NetworkChange) -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = staged.network(image)
        with changed_network(staged.network, change):
            without = staged.network(image)
        assert torch.equal(before, staged.network(image))
    assert not torch.allclose(before, without)


@pytest.mark.parametrize(("change", "cause"), [("first block", "first-block"), ("pool padding", "pool-padding")])
def test_a_file_of_the_other_architecture_is_recognised(
    lab: Tables, tmp_path: Path, change: NetworkChange, cause: str
) -> None:
    lab_set = draw_pairs(12, seed=2)
    other = trained(twin(lab, change), lab_set)
    with torch.no_grad():
        add_rivals(other, lab_set, range(len(lab_set.classes)))
    variant = lab.catalog.find("lab_v1b")
    network = build_network(variant).eval()
    network.load_state_dict(other.state_dict())
    causes = [each for each in causes_for(variant.architecture, Setting()) if each.setting.network in ALIKE]
    trials = try_all(network, lab_set, causes, tmp_path)
    found = diagnose(trials, Question(sound=KnownScore(1.0)), Evidence(images=24), 24)
    assert [each.id for each in found.explanations] == [cause] == [found.findings[0].id]
    assert "vd against v1b" in found.findings[0].change
