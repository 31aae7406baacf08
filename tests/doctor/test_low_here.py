"""The score is too low here: what is wrong with the file or the images comes first, and mending it is advised."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from r2convert.doctor.causes import LabelOrder
from r2convert.doctor.changes import relabelling
from r2convert.doctor.ranking import Consultation, Evidence, Question, diagnose, gather_evidence
from r2convert.doctor.trials import prepared
from r2convert.imagenet.labels import validation_labels, validation_name
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from tests.doctor.conftest import Ask, Tried, relabelled
from tests.doctor.lab import LabSet, draw_pairs, save, trained
from tests.doctor.mistakes import FEEDS, squashed

pytestmark = pytest.mark.slow

NOTHING_SEEN = Evidence(images=64)
State = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def folder(pictures: LabSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.write(tmp_path_factory.mktemp("val"))


@pytest.fixture
def damaged(sound: Classifier, tmp_path: Path) -> Callable[[Callable[[State], None]], Path]:
    """The sound network's file with something changed in it."""

    def write(change: Callable[[State], None]) -> Path:
        state = {name: tensor.clone() for name, tensor in sound.state_dict().items()}
        change(state)
        torch.save(state, tmp_path / "damaged.pth")
        return tmp_path / "damaged.pth"

    return write


def first(consultation: Consultation) -> str:
    """The one explanation, which is also the first of the findings."""
    assert consultation.diagnosis.verdict == "cause found", consultation.diagnosis
    (explanation,) = consultation.diagnosis.explanations
    assert consultation.diagnosis.findings[0] == explanation
    return explanation.id


def test_a_sound_file_on_sound_images_has_nothing(ask: Ask, sound: Classifier, folder: Path, tmp_path: Path) -> None:
    found = ask(save(sound, tmp_path / "sound.pth"), folder).diagnosis
    assert found.verdict == "nothing is off"
    assert found.as_given.top1_correct == found.as_given.images == 16
    assert found.explanations == ()


@pytest.mark.parametrize("feed", sorted(FEEDS))
def test_a_file_trained_for_another_input_is_recognised(
    ask: Ask, lab: Tables, pictures: LabSet, folder: Path, tmp_path: Path, feed: str
) -> None:
    network = trained(lab.catalog.find("lab_dla"), pictures, FEEDS[feed])
    found = ask(save(network, tmp_path / "other.pth"), folder)
    assert first(found) == feed
    score = found.diagnosis.findings[0].score
    assert score is not None
    assert score.top1_correct == 16


def test_a_file_trained_on_squashed_pictures_is_recognised(
    ask: Ask, lab: Tables, pictures: LabSet, folder: Path, tmp_path: Path
) -> None:
    network = trained(lab.catalog.find("lab_dla"), pictures, squashed)
    assert first(ask(save(network, tmp_path / "other.pth"), folder)) == "squash"


@pytest.mark.parametrize(
    ("cause", "order"),
    [
        ("labels-one-up", "minus one"),
        ("labels-one-down", "plus one"),
        ("devkit-labels", "out of devkit"),
        ("devkit-labels-here", "into devkit"),
        ("numbers-as-text", "out of digits"),
        ("numbers-as-text-here", "into digits"),
    ],
)
def test_another_order_of_classes_is_recognised(tried: Tried, cause: str, order: LabelOrder) -> None:
    labels = relabelling(order)[[_class_of(tried, image) for image in tried.trials.images]]
    found = diagnose(relabelled(tried.trials, labels), Question(), NOTHING_SEEN, 64)
    assert found.verdict == "cause found"
    assert found.findings[0].id == cause


def _class_of(tried: Tried, image: ValidationImage) -> int:
    return tried.pictures.classes[int(Path(image.id).stem)]


def test_images_in_wrong_folders_are_told_by_their_names(tried: Tried) -> None:
    official = np.array(validation_labels())
    images = []
    for image in tried.trials.images:
        number = int(np.flatnonzero(official == _class_of(tried, image))[0]) + 1
        images.append(ValidationImage(validation_name(number), (number * 7) % 1000, None))
    trials = relabelled(replace(tried.trials, images=tuple(images)), np.array([image.label for image in images]))
    found = diagnose(trials, Question(), NOTHING_SEEN, 64)
    assert found.findings[0].id == "wrong-folders"
    assert found.verdict == "cause found"


def test_a_background_class_in_front_is_recognised(ask: Ask, damaged: Callable[..., Path], folder: Path) -> None:
    def add_background(state: State) -> None:
        weight, bias = state["head.fc.weight"], state["head.fc.bias"]
        state["head.fc.weight"] = torch.cat((weight[:1] * 0, weight))
        state["head.fc.bias"] = torch.cat((bias.min()[None], bias))

    found = ask(damaged(add_background), folder)
    assert first(found) == "labels-one-up"
    assert "background class" in found.diagnosis.findings[0].change


def seen_in(network: Classifier, tried: Tried, lost: tuple[str, ...] = (), **known: Any) -> Evidence:
    """What is seen in a file without running it on images."""
    ready = prepared(network, torch.device("cpu"), 8)
    trials = replace(tried.trials, crops=tried.trials.crops[:0], images=tried.trials.images[len(lost) :], lost=lost)
    return gather_evidence(ready, trials, Question(), 64, **known)


def test_layers_that_were_never_loaded_are_named_before_everything(tried: Tried, sound: Classifier) -> None:
    network = deepcopy(sound)
    network.get_submodule("backbone.base_layer.1").load_state_dict(nn.BatchNorm2d(4).state_dict())
    nn.init.kaiming_uniform_(network.get_parameter("backbone.level5.root.conv.weight"), a=5**0.5)
    found = diagnose(tried.trials, Question(), seen_in(network, tried), 64)
    assert [each.id for each in found.explanations] == [found.findings[0].id] == ["untouched-layers"]
    assert "2 layers still at their start: base_layer.1, level5.root.conv" in found.findings[0].evidence


def test_a_classifier_that_was_never_loaded_is_named(tried: Tried, sound: Classifier) -> None:
    for start in (nn.init.kaiming_uniform_, lambda weight, **_: nn.init.normal_(weight, 0, 0.01)):
        network = deepcopy(sound)
        start(network.head.fc.weight, a=5**0.5)
        nn.init.zeros_(network.head.fc.bias)
        found = diagnose(tried.trials, Question(), seen_in(network, tried), 64)
        assert "1 layer still at its start: head.fc" in found.findings[0].evidence


def test_values_that_no_training_gives_come_before_everything(tried: Tried, sound: Classifier) -> None:
    found = diagnose(tried.trials, Question(), seen_in(sound, tried, bad_values=("bn1 has 64 negative variances",)), 64)
    assert [each.id for each in found.explanations] == [found.findings[0].id] == ["bad-values"]


def test_lost_images_are_a_cause_of_their_own(tried: Tried, sound: Classifier) -> None:
    found = diagnose(tried.trials, Question(), seen_in(sound, tried, lost=("a.JPEG", "b.JPEG")), 64)
    assert [each.id for each in found.explanations] == [found.findings[0].id] == ["lost-images"]
    assert "2 of 64 images lost: a.JPEG, b.JPEG" in found.findings[0].evidence


def test_a_convolution_of_another_network_is_placed_by_the_wiring_check(
    ask: Ask, damaged: Callable[..., Path], folder: Path
) -> None:
    def replace_by_another(state: State) -> None:
        state["backbone.level3.tree1.conv1.weight"].normal_().abs_()

    found = ask(damaged(replace_by_another), folder)
    assert first(found) == "wiring"
    assert "level3.tree1.bn1" in found.diagnosis.findings[0].evidence[0]


def test_statistics_of_another_network_are_recognised(ask: Ask, lab: Tables, tmp_path: Path) -> None:
    """On pictures that differ clearly: a small batch's own statistics are good enough for those."""
    pairs = draw_pairs(24, seed=3)
    unlike = LabSet(pairs.pictures[24:], pairs.classes[24:], pairs.labels[24:])
    network = trained(lab.catalog.find("lab_dla"), unlike)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(tensor[torch.randperm(len(tensor), generator=generator)] + 0.5)
    found = ask(save(network, tmp_path / "mixed.pth"), unlike.write(tmp_path / "val")).diagnosis
    assert found.findings[0].id == "training-mode"
    assert found.findings[0].explains
    assert "base_layer.1" in found.findings[0].evidence[0]


def test_what_nothing_explains_is_said_to_be_unexplained(ask: Ask, damaged: Callable[..., Path], folder: Path) -> None:
    def shuffle_classes(state: State) -> None:
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(3))
        state["head.fc.weight"] = state["head.fc.weight"][order]
        state["head.fc.bias"] = state["head.fc.bias"][order]

    found = ask(damaged(shuffle_classes), folder).diagnosis
    assert found.verdict == "unexplained"
    assert found.explanations == ()


def test_hardly_anything_right_is_off_even_if_nobody_knows_what_is_right(tried: Tried) -> None:
    trials = relabelled(tried.trials, np.full(64, 999))
    more = replace(trials.sound, right=np.zeros((128, 2), np.bool_))
    found = diagnose(replace(trials, sound=more, others=()), Question(), NOTHING_SEEN, 50_000)
    assert found.verdict == "unexplained"
