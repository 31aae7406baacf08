"""The laboratory, built once: networks, pictures, and every cause tried on every picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from r2convert.checks.run import Request
from r2convert.doctor.causes import Cause, LabelOrder, Setting, causes_for
from r2convert.doctor.changes import crop_functions, relabelling
from r2convert.doctor.ranking import Consultation, DoctorImages, KnownScore, consult
from r2convert.doctor.trials import Sampling, Trial, Trials, prepared, run_trials, shuffled
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.preprocessing import pixel_function
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from tests.doctor.lab import LabSet, draw_pairs, lab_tables, trained

WRONG_LABELS: dict[LabelOrder, int] = {"plus one": 9, "minus one": 7, "into devkit": 5, "into digits": 3}
"""How many pictures have a label that is right only if the classes are counted like that."""


@dataclass(frozen=True)
class Tried:
    """A sound network with the trials of all its causes on all pictures."""

    network: Classifier
    pictures: LabSet
    trials: Trials


Ask = Callable[..., Consultation]


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
    lab_set = mislabelled(draw_pairs(32, seed=1))
    network = trained(lab.catalog.find("lab_dla"), lab_set)
    causes = causes_for(lab.catalog.find("lab_dla").architecture, Setting())
    return Tried(network, lab_set, try_all(network, lab_set, list(causes), tmp_path_factory.mktemp("val")))


def mislabelled(lab_set: LabSet) -> LabSet:
    """The last two pictures are made one, of class 0; of the others that differ most, some get wrong labels."""
    pictures, classes = [*lab_set.pictures], [*lab_set.classes]
    pictures[-1] = pictures[-2]
    classes[-2:] = [0, 0]
    labels, place = [*classes], len(classes) - 3
    for order, count in WRONG_LABELS.items():
        becomes = relabelling(order)
        for _ in range(count):
            labels[place] = int(np.flatnonzero(becomes == classes[place])[0])
            place -= 1
    return LabSet(tuple(pictures), tuple(classes), tuple(labels))


def try_all(network: Classifier, lab_set: LabSet, causes: list[Cause], folder: Path) -> Trials:
    """Every cause on every picture."""
    images = open_validation_set(lab_set.write(folder)).images
    sampling = Sampling(shuffled(images, 0), pixel_function(), crop_functions(), workers=1)
    ready = prepared(network, torch.device("cpu"), 16)
    return run_trials(ready, sampling, Setting(), causes, lambda _: None, thorough=True)


@pytest.fixture
def ask(lab: Tables) -> Ask:
    """Consult the doctor on a file and a folder."""

    def call(checkpoint: Path, folder: Path, expected: float | None = 100.0) -> Consultation:
        images = open_validation_set(folder)
        known = None if expected is None else KnownScore(expected / 100)
        count = len(images.images)
        return consult(lab, Request(checkpoint), DoctorImages(images, count, False, 0), expected=known, batch_size=16)

    return call


def relabelled(trials: Trials, labels: np.ndarray) -> Trials:
    """The same answers held against other labels, given in the order of the trials' images."""
    fresh = [replace(trial, right=np.empty((0, 2), np.bool_), top=trial.top[:0]) for trial in _all(trials)]
    for trial, before in zip(fresh, _all(trials), strict=True):
        trial.add(before.top, labels)
    return replace(trials, sound=fresh[0], others=tuple(fresh[1:]))


def _all(trials: Trials) -> list[Trial]:
    return [trials.sound, *trials.others]
