"""The score is too low here: what is wrong with the file or the images comes first, and mending it is advised."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from r2convert.doctor.causes import SOUND, LabelOrder, relabelled
from r2convert.doctor.evidence import bad_values, lost_images, untouched_layers
from r2convert.doctor.ranking import Answer, Ranking
from r2convert.doctor.trials import Trial
from r2convert.errors import MappingError
from r2convert.imagenet.labels import synsets, validation_labels, validation_name
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from r2convert.results.diagnosis import Diagnosis, Finding, KnownScore
from r2convert.results.verdicts import Check
from tests.doctor.conftest import Ask, Tried, ranking, try_all
from tests.doctor.lab import LabSet, draw_pairs, save, trained
from tests.doctor.mistakes import FEEDS, squashed

pytestmark = pytest.mark.slow

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


def first(diagnosis: Diagnosis | Answer) -> str:
    """The one explanation, which is also the first of the findings."""
    assert diagnosis.verdict == "cause found", diagnosis
    (explanation,) = diagnosis.explanations
    assert diagnosis.findings[0].id == explanation
    return explanation


def test_a_sound_file_on_sound_images_has_nothing(ask: Ask, sound: Classifier, folder: Path, tmp_path: Path) -> None:
    found = ask(save(sound, tmp_path / "sound.pth"), folder)
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
    score = found.findings[0].score
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
        ("devkit-labels-here", "into devkit"),
        ("numbers-as-text", "out of digits"),
        ("numbers-as-text-here", "into digits"),
    ],
)
def test_another_order_of_classes_is_recognised(tried: Tried, tmp_path: Path, cause: str, order: LabelOrder) -> None:
    becomes = relabelled(order, [ValidationImage("", label, None) for label in range(1000)], 1000)
    right = replace(tried.pictures, labels=tried.pictures.classes)
    trials = try_all(tried.network, (), right.write(tmp_path, lambda label: int(becomes[label])), only_labels=True)
    assert first(ranking(trials).explain(None)) == cause
    # Somebody has them right: what is wrong is wrong here.
    assert first(ranking(trials).explain(KnownScore(1.0))) == cause


def test_images_in_wrong_folders_are_told_by_their_names(tried: Tried, tmp_path: Path) -> None:
    official = np.array(validation_labels())
    for place, (picture, label) in enumerate(zip(tried.pictures.pictures, tried.pictures.classes, strict=True)):
        # The last two pictures are of one class.
        number = int(np.flatnonzero(official == label)[place % 2]) + 1
        folder = tmp_path / synsets()[(number * 7) % 1000]
        folder.mkdir(exist_ok=True)
        (folder / validation_name(number)).write_bytes(picture)
    trials = try_all(tried.network, (), tmp_path, only_labels=True)
    assert first(ranking(trials).explain(None)) == "wrong-folders"


def test_a_background_class_in_front_is_recognised(ask: Ask, damaged: Callable[..., Path], folder: Path) -> None:
    def add_background(state: State) -> None:
        weight, bias = state["head.fc.weight"], state["head.fc.bias"]
        state["head.fc.weight"] = torch.cat((weight[:1] * 0, weight))
        state["head.fc.bias"] = torch.cat((bias.min()[None], bias))

    found = ask(damaged(add_background), folder)
    assert first(found) == "labels-one-up"
    assert "background class" in found.findings[0].change


def seen(tried: Tried, certain: list[Finding], likely: list[Finding] | None = None) -> Finding:
    """The one explanation where a file's score is sound and something is seen in it."""
    found = ranking(tried.trials).explain(None, certain, likely or [])
    return found.findings[[each.id for each in found.findings].index(first(found))]


def test_layers_that_were_never_loaded_are_named_before_everything(tried: Tried, sound: Classifier) -> None:
    network = deepcopy(sound)
    network.get_submodule("backbone.base_layer.1").load_state_dict(nn.BatchNorm2d(4).state_dict())
    nn.init.kaiming_uniform_(network.get_parameter("backbone.level5.root.conv.weight"), a=5**0.5)
    finding = seen(tried, untouched_layers(network))
    assert finding.id == "untouched-layers"
    assert finding.evidence == ("2 layers still at their start: base_layer.1, level5.root.conv",)


def test_a_classifier_that_was_never_loaded_is_named(tried: Tried, sound: Classifier) -> None:
    for start in (nn.init.kaiming_uniform_, lambda weight, **_: nn.init.normal_(weight, 0, 0.01)):
        network = deepcopy(sound)
        start(network.head.fc.weight, a=5**0.5)
        nn.init.zeros_(network.head.fc.bias)
        assert seen(tried, untouched_layers(network)).evidence == ("1 layer still at its start: head.fc",)


def test_a_sound_file_has_no_layer_that_was_never_loaded(sound: Classifier) -> None:
    assert untouched_layers(sound) == []


def test_values_that_no_training_gives_come_before_everything(tried: Tried) -> None:
    assert seen(tried, bad_values([Check("values", "fail", note="bn1: 64 variances are negative")])).id == "bad-values"
    assert bad_values([Check("values", "pass")]) == []


def test_lost_images_are_a_cause_of_their_own(tried: Tried) -> None:
    finding = seen(tried, [], lost_images(["a.JPEG", "b.JPEG"], 64))
    assert finding.id == "lost-images"
    assert finding.evidence == ("2 of 64 images lost: a.JPEG, b.JPEG",)
    assert lost_images(["a.JPEG"], 100) == []


def test_a_convolution_of_another_network_is_placed_by_the_wiring_check(
    ask: Ask, damaged: Callable[..., Path], folder: Path
) -> None:
    def replace_by_another(state: State) -> None:
        state["backbone.level3.tree1.conv1.weight"].normal_().abs_()

    found = ask(damaged(replace_by_another), folder)
    assert first(found) == "wiring"
    assert "level3.tree1.bn1" in found.findings[0].evidence[0]


def test_statistics_of_another_network_are_recognised(ask: Ask, lab: Tables, tmp_path: Path) -> None:
    """On pictures that differ clearly: a small batch's own statistics are good enough for those."""
    pairs = draw_pairs(24, seed=3)
    unlike = LabSet(pairs.pictures[24:], pairs.classes[24:], pairs.labels[24:])
    network = trained(lab.catalog.find("lab_dla"), unlike)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(tensor[torch.randperm(len(tensor), generator=generator)] + 0.5)
    found = ask(save(network, tmp_path / "mixed.pth"), unlike.write(tmp_path / "val"))
    assert first(found) == "wiring"
    assert found.findings[0].what == "running means and variances that are not those of the weights"
    # The first layer may be explained by other light, the next one is not.
    assert "level0.1" in found.findings[0].evidence[0]


def test_what_nothing_explains_is_said_to_be_unexplained(ask: Ask, damaged: Callable[..., Path], folder: Path) -> None:
    def shuffle_classes(state: State) -> None:
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(3))
        state["head.fc.weight"] = state["head.fc.weight"][order]
        state["head.fc.bias"] = state["head.fc.bias"][order]

    found = ask(damaged(shuffle_classes), folder)
    assert found.verdict == "unexplained"
    assert found.explanations == ()


def test_hardly_anything_right_is_off_even_if_nobody_knows_what_is_right(tried: Tried) -> None:
    nothing = Trial(SOUND, tried.trials.sound.setting, np.zeros((128, 2), np.bool_))
    assert Ranking(nothing, (), None, 50_000).explain(None).verdict == "unexplained"


@pytest.mark.parametrize("better", ["average", "raw"])
def test_the_moving_average_is_tried_as_well(
    ask: Ask, sound: Classifier, folder: Path, tmp_path: Path, better: str
) -> None:
    """A file of timm's train.py, which keeps both: early in a run the average lags, later the raw weights are noisy."""
    worse = {name: tensor.clone() for name, tensor in sound.state_dict().items()}
    worse["head.fc.weight"] = worse["head.fc.weight"].roll(1, 0)
    raw, average = (worse, sound.state_dict()) if better == "average" else (sound.state_dict(), worse)
    torch.save({"epoch": 3, "arch": "lab_dla", "state_dict": raw, "state_dict_ema": average}, tmp_path / "last.pth.tar")
    found = ask(tmp_path / "last.pth.tar", folder)
    if better == "raw":
        assert found.verdict == "nothing is off"
        return
    assert first(found) == "other-weights"
    assert found.findings[0].change.endswith("take the others with --key ema")
    assert ask(tmp_path / "last.pth.tar", folder, key="ema").verdict == "nothing is off"


def test_an_average_that_makes_no_network_is_passed_over(
    ask: Ask, sound: Classifier, folder: Path, tmp_path: Path
) -> None:
    average = {name: tensor for name, tensor in sound.state_dict().items() if "running" not in name}
    torch.save({"state_dict": sound.state_dict(), "state_dict_ema": average}, tmp_path / "last.pth.tar")
    assert ask(tmp_path / "last.pth.tar", folder).verdict == "nothing is off"


def test_own_classes_are_counted_like_any_others(ask: Ask, sound: Classifier, pictures: LabSet, tmp_path: Path) -> None:
    """A fine-tune on sixteen classes of one's own, whose folders were numbered and sorted as text."""
    state = {name: tensor.clone() for name, tensor in sound.state_dict().items()}
    for name in ("head.fc.weight", "head.fc.bias"):
        state[name] = state[name][list(pictures.classes)]
    torch.save(state, tmp_path / "own.pth")
    names = [f"kind-{number:02d}" for number in range(16)]
    as_text = sorted(range(16), key=str)
    for place, picture in enumerate(pictures.pictures):
        for folder, label in (("right", place), ("as-text", as_text.index(place))):
            (tmp_path / folder / names[label]).mkdir(parents=True)
            (tmp_path / folder / names[label] / f"{place:02d}.jpg").write_bytes(picture)
    found = ask(tmp_path / "own.pth", tmp_path / "right")
    assert found.verdict == "nothing is off"
    assert not {"devkit-labels", "wrong-folders"} & {each.id for each in found.findings}
    assert first(ask(tmp_path / "own.pth", tmp_path / "as-text")) == "numbers-as-text-here"


def test_a_network_of_other_images_is_refused(ask: Ask, sound: Classifier, folder: Path, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in sound.state_dict().items()}
    state["backbone.base_layer.0.weight"] = state["backbone.base_layer.0.weight"][:, :1]
    torch.save(state, tmp_path / "grey.pth")
    with pytest.raises(MappingError, match="cannot be measured on images"):
        ask(tmp_path / "grey.pth", folder)
