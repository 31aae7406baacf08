"""What networks answered to each image of a set, and the scores that follow from it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from r2convert.imagenet.labels import CLASS_COUNT, TOP, real_labels, synsets
from r2convert.imagenet.validation_set import LoadedImage, ValidationImage

if TYPE_CHECKING:
    from r2convert.evaluation.backends import Ranking


@dataclass(frozen=True, slots=True)
class PrecisionAudit:
    """What a faster precision changed, among the images that were shown in strict float32 as well.

    Args:
        first_precision: what all images were shown in.
        images: images shown in both.
        changed_top1: images whose first class differed.
        changed_top1_correct: images that were right in one precision and wrong in the other.
        changed_top5_correct: the same for the first five.
        largest_drift: by how much a margin between two logits differed at most.
        bound: for ``fast``: every image with a margin of at most this counts as strict answers it; twice the drift.
    """

    first_precision: str
    images: int
    changed_top1: int
    changed_top1_correct: int
    changed_top5_correct: int
    largest_drift: float
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Exact counts of one network on one set; every count is out of ``images``.

    Args:
        images: images of the set, missing and unreadable ones included; those count as wrong.
        top1_correct: images whose label is ranked first.
        top5_correct: images whose label is among the first five.
        missing: images the set ought to have and does not.
        unreadable: images that are there and could not be decoded.
        not_a_number: images for which the network answered NaN; they count as wrong.
        pipeline: how crops were made: see :mod:`r2convert.imagenet.preprocessing`.
        precision: how the network was run (see :mod:`r2convert.evaluation.backends`).
        crops_sha256: SHA-256 over the SHA-256 digests of all crops in order (32 zero bytes where there is none):
            two measurements with the same one have shown their networks the same pixels.
        real_images: images that have ReaL labels; 0 unless the files have the official names.
        real_top1_correct: those of them whose first class is one of their ReaL labels.
        audit: for other precisions than ``strict``: what was found when images were shown again in strict float32.
        per_class: by WordNet id: images of the class, and those whose label is ranked first.
        confusions: the pairs of classes confused most often.
        problems: id and reason of every missing or unreadable image, in order.
        accelerations: what else made the network run faster (see :mod:`r2convert.evaluation.backends`).
    """

    images: int
    top1_correct: int
    top5_correct: int
    missing: int
    unreadable: int
    not_a_number: int
    pipeline: str
    precision: str
    crops_sha256: str
    real_images: int = 0
    real_top1_correct: int = 0
    audit: PrecisionAudit | None = None
    per_class: dict[str, tuple[int, int]] = field(default_factory=dict)
    confusions: tuple[Confusion, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    accelerations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkAnswers:
    """One network's answers; arrays are in the order of the images.

    An image without a crop was not shown to the network: its classes are -1, its rank is the number of classes.

    Args:
        top: int16, shape (images, 5): the classes ranked first, best first.
        rank: int16, shape (images,): how many classes were ranked before the labelled one.
        margins: float32, shape (images, 2), as in :class:`~r2convert.evaluation.ranking.Ranking`; NaN where none.
    """

    top: npt.NDArray[np.int16]
    rank: npt.NDArray[np.int16]
    margins: npt.NDArray[np.float32]

    @property
    def top1_correct(self) -> int:
        """Images whose labelled class is ranked first."""
        return int(np.count_nonzero(self.rank < 1))

    @property
    def top5_correct(self) -> int:
        """Images whose labelled class is among the first five."""
        return int(np.count_nonzero(self.rank < TOP))


class Predictions:
    """What became of the images of a set, filled from the front.

    Args:
        images: the images, in order.
        networks: names of the networks that are asked.
    """

    def __init__(self, images: Sequence[ValidationImage], networks: Iterable[str]) -> None:
        self.images = tuple(images)
        self.loaded: list[LoadedImage] = []
        self.answers: Mapping[str, NetworkAnswers] = {name: _nothing_yet(len(images)) for name in networks}

    @property
    def done(self) -> int:
        """How many images are finished."""
        return len(self.loaded)

    def add(self, loaded: Sequence[LoadedImage], rankings: Mapping[str, Ranking]) -> None:
        """Takes in the next images.

        Args:
            loaded: what became of each.
            rankings: by network, rankings of those that have a crop, in order.
        """
        at = [self.done + row for row, image in enumerate(loaded) if image.problem is None]
        for name, ranking in rankings.items():
            answers = self.answers[name]
            answers.top[at] = ranking.top.numpy()
            answers.rank[at] = ranking.rank.numpy()
            answers.margins[at] = ranking.margins.numpy()
        self.loaded += loaded

    def accuracy(
        self,
        network: str,
        *,
        pipeline: str,
        precision: str,
        accelerations: Sequence[str] = (),
        audit: PrecisionAudit | None = None,
    ) -> Accuracy:
        """The scores of a network on the images that are finished."""
        answers = self.answers[network]
        missing = sum(loaded.image.location is None for loaded in self.loaded)
        problems = tuple((loaded.image.id, loaded.problem) for loaded in self.loaded if loaded.problem is not None)
        shown = np.array([loaded.problem is None for loaded in self.loaded], bool)
        real_images, real_top1_correct = _count_real(self.images[: self.done], answers)
        return Accuracy(
            images=self.done,
            top1_correct=answers.top1_correct,
            top5_correct=answers.top5_correct,
            missing=missing,
            unreadable=len(problems) - missing,
            not_a_number=int(np.count_nonzero(shown & (answers.top[: self.done, 0] < 0))),
            pipeline=pipeline,
            precision=precision,
            accelerations=tuple(accelerations),
            crops_sha256=hashlib.sha256(b"".join(loaded.crop_digest for loaded in self.loaded)).hexdigest(),
            real_images=real_images,
            real_top1_correct=real_top1_correct,
            audit=audit,
            per_class=_count_classes(self.images[: self.done], answers),
            confusions=most_frequent_confusions(self.images[: self.done], answers.top[: self.done, 0]),
            problems=problems,
        )


@dataclass(frozen=True, slots=True)
class AnsweredPart:
    """Answers to some images of a set.

    Args:
        places: their positions in the set.
        predictions: what became of them, in this order; the first so many may be finished only.
    """

    places: Sequence[int]
    predictions: Predictions


def merge(images: Sequence[ValidationImage], parts: Iterable[AnsweredPart], networks: Iterable[str]) -> Predictions:
    """All that is finished in some parts of a set, in the order of the set, each image once.

    Args:
        images: the set.
        parts: what became of some of it; where two have the same image, the first one counts.
        networks: names of the networks that were asked.
    """
    found: dict[int, tuple[Predictions, int]] = {}
    for part in parts:
        for row in range(part.predictions.done):
            found.setdefault(part.places[row], (part.predictions, row))
    places = sorted(found)
    whole = Predictions([images[place] for place in places], networks)
    for at, place in enumerate(places):
        predictions, row = found[place]
        for name, answers in whole.answers.items():
            part_answers = predictions.answers[name]
            answers.top[at] = part_answers.top[row]
            answers.rank[at] = part_answers.rank[row]
            answers.margins[at] = part_answers.margins[row]
        whole.loaded.append(predictions.loaded[row])
    return whole


def _nothing_yet(image_count: int) -> NetworkAnswers:
    return NetworkAnswers(
        top=np.full((image_count, TOP), -1, np.int16),
        rank=np.full(image_count, CLASS_COUNT, np.int16),
        margins=np.full((image_count, 2), np.nan, np.float32),
    )


def _count_real(images: Sequence[ValidationImage], answers: NetworkAnswers) -> tuple[int, int]:
    if any(image.number is None for image in images):
        return 0, 0
    labels = real_labels()
    real = [labels[image.number - 1] for image in images if image.number is not None]
    correct = sum(int(answers.top[row, 0]) in classes for row, classes in enumerate(real))
    return sum(map(bool, real)), correct


def _count_classes(images: Sequence[ValidationImage], answers: NetworkAnswers) -> dict[str, tuple[int, int]]:
    labels = np.array([image.label for image in images], np.int64)
    totals = np.bincount(labels, minlength=CLASS_COUNT).tolist()
    correct = np.bincount(labels[answers.rank[: len(labels)] < 1], minlength=CLASS_COUNT).tolist()
    return {
        synset: (total, right) for synset, total, right in zip(synsets(), totals, correct, strict=True) if total > 0
    }


KEPT = 50
"""Pairs of classes that are kept: results of many networks stay small enough to mail."""

EXAMPLES = 4
"""Images named of each pair."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Images of one class that were taken for another.

    Args:
        label: WordNet id of the class they are labelled with.
        predicted: WordNet id of the class that was ranked first.
        count: how many images.
        images: ids of the first few of them, in the order of the set.
    """

    label: str
    predicted: str
    count: int
    images: tuple[str, ...]


def most_frequent_confusions(
    images: Sequence[ValidationImage], predicted: npt.NDArray[np.int16]
) -> tuple[Confusion, ...]:
    """The pairs of classes confused most often, most frequent first; of equal ones in the order of the classes.

    Args:
        images: what was shown.
        predicted: int16, shape (images,): class ranked first, -1 where none was.
    """
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    for image, answer in zip(images, predicted.tolist(), strict=True):
        if answer not in (-1, image.label):
            found[image.label, answer].append(image.id)
    names = synsets()
    return tuple(
        Confusion(names[label], names[answer], len(ids), tuple(ids[:EXAMPLES]))
        for (label, answer), ids in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:KEPT]
    )
