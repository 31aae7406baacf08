"""What networks answered to each image of a set, and the scores that follow from it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from r2convert.imagenet.labels import CLASS_COUNT, TOP, real_labels, synsets
from r2convert.imagenet.validation_set import LoadedImage, ValidationImage
from r2convert.results.verification import CONFUSION_EXAMPLES, CONFUSIONS_KEPT, Accuracy, Confusion, PrecisionAudit

if TYPE_CHECKING:
    from r2convert.evaluation.backends import Ranking


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
        Confusion(names[label], names[answer], len(ids), tuple(ids[:CONFUSION_EXAMPLES]))
        for (label, answer), ids in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:CONFUSIONS_KEPT]
    )
