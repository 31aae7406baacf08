"""The laboratory, built once: networks, pictures, and every cause tried on every picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2convert.catalog.variant import Variant
from r2convert.checks.run import Request
from r2convert.doctor.causes import SOUND, Cause, LabelOrder, Setting, causes_for, network_causes, relabelled
from r2convert.doctor.consultation import consult
from r2convert.doctor.ranking import Ranking
from r2convert.doctor.trials import Device, Trial, Trials
from r2convert.evaluation.backends import prepared
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.preprocessing import STANDARD
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from r2convert.results.diagnosis import Diagnosis, KnownScore
from tests.doctor.lab import LabSet, draw_pairs, lab_tables, trained

WRONG_LABELS: dict[LabelOrder, int] = {"plus one": 9, "minus one": 7, "into devkit": 5, "into digits": 3}
"""How many pictures have a label that is right only if the classes are counted like that."""


@dataclass(frozen=True)
class Tried:
    """A sound network with the trials of all its causes on all pictures."""

    variant: Variant
    network: Classifier
    pictures: LabSet
    trials: Trials


Ask = Callable[..., Diagnosis]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Networks as small as these are slower on several threads that others keep busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return lab_tables(tmp_path_factory.mktemp("mappings"))


@pytest.fixture(scope="session")
def pictures() -> LabSet:
    """Sixteen pictures, all labelled right."""
    return draw_pairs(8)


@pytest.fixture(scope="session")
def sound(lab: Tables, pictures: LabSet) -> Classifier:
    """A network that is right on all of them."""
    return trained(lab.catalog.find("lab_dla"), pictures)


@pytest.fixture(scope="session")
def tried(lab: Tables, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Sixty-four pictures, of which some are labelled wrong, so that every label order has a score of its own."""
    variant, lab_set = lab.catalog.find("lab_dla"), mislabelled(draw_pairs(32, seed=1))
    network = trained(variant, lab_set)
    trials = try_all(network, network_causes(variant, {}), lab_set.write(tmp_path_factory.mktemp("val")))
    return Tried(variant, network, lab_set, trials)


def mislabelled(lab_set: LabSet) -> LabSet:
    """The last two pictures are made one, of class 0; of the others that differ most, some get wrong labels."""
    pictures, classes = [*lab_set.pictures], [*lab_set.classes]
    pictures[-1] = pictures[-2]
    classes[-2:] = [0, 0]
    labels, place = [*classes], len(classes) - 3
    for order, count in WRONG_LABELS.items():
        becomes = relabelled(order, [ValidationImage("", label, None) for label in range(1000)], 1000)
        for _ in range(count):
            labels[place] = int(np.flatnonzero(becomes == classes[place])[0])
            place -= 1
    return LabSet(tuple(pictures), tuple(classes), tuple(labels))


def try_all(network: Classifier, network_causes: Iterable[Cause], folder: Path, *, only_labels: bool = False) -> Trials:
    """Every cause on every picture."""
    device, images = Device.of("cpu", 16), open_validation_set(folder)
    sound = Setting(STANDARD, prepared(network, device.device))
    causes = causes_for(sound, network_causes, images)
    others = [Trial(*each) for each in causes if each[1].shown == sound or not only_labels]
    trials = Trials(images, device, Trial(SOUND, sound), others)
    trials.run(0, 1, lambda _: None)
    return trials


def ranking(trials: Trials, known: KnownScore | None = None, all_images: int | None = None) -> Ranking:
    """What the causes did, on all images there are unless more are said to be."""
    count = len(trials.images.images) if all_images is None else all_images
    return Ranking(trials.sound, trials.others, known, count)


@pytest.fixture
def ask(lab: Tables) -> Ask:
    """Consult the doctor on a file and a folder."""

    def call(checkpoint: Path, folder: Path, expected: float | None = 100.0, **options: Any) -> Diagnosis:
        images, known = open_validation_set(folder), None if expected is None else KnownScore(expected / 100)
        device = Device.of("cpu", 16)
        request = Request(checkpoint, **options)
        return consult(lab, request, images, limit=len(images.images), expected=known, device=device)

    return call
