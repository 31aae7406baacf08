"""What networks predict for each image of a set, as arrays, and the scores that follow from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from r2convert.catalog.protocol import Protocol
from r2convert.imagenet.labels import TOP, real_labels
from r2convert.imagenet.validation_set import NO_CROP, ValidationImage, ValidationSet
from r2convert.results.verification import (
    CONFUSION_EXAMPLES,
    CONFUSIONS_KEPT,
    Accuracy,
    Confusion,
    PrecisionAudit,
    Speed,
)

if TYPE_CHECKING:
    from r2convert.evaluation.backends import Ranking

Places = npt.NDArray[np.intp]
"""Positions of images in their set, in ascending order."""


@dataclass(frozen=True, slots=True)
class NetworkPredictions:
    """What one network predicts for the images of a set; arrays are in their order.

    Where an image is not done, or has no crop, its classes are -1 and its rank is the number of classes.

    Args:
        done: bool, shape (images,): whether this is known.
        top: int16, shape (images, 5): the classes ranked first, best first.
        rank: int16, shape (images,): how many classes were ranked before the labelled one.
        margins: float32, shape (images, 2), as in :class:`~r2convert.evaluation.backends.Ranking`; NaN where none.
    """

    done: npt.NDArray[np.bool_]
    top: npt.NDArray[np.int16]
    rank: npt.NDArray[np.int16]
    margins: npt.NDArray[np.float32]

    @classmethod
    def unknown(cls, images: int, classes: int) -> NetworkPredictions:
        """Nothing is known yet."""
        return cls(
            done=np.zeros(images, bool),
            top=np.full((images, TOP), -1, np.int16),
            rank=np.full(images, classes, np.int16),
            margins=np.full((images, 2), np.nan, np.float32),
        )

    @property
    def top1_correct(self) -> int:
        """Images whose labelled class is ranked first."""
        return int(np.count_nonzero(self.rank < 1))

    @property
    def top5_correct(self) -> int:
        """Images whose labelled class is among the first five."""
        return int(np.count_nonzero(self.rank < TOP))

    def take(self, other: NetworkPredictions, places: Places) -> None:
        """Copies another one's predictions for some images."""
        for mine, theirs in zip(self.arrays, other.arrays, strict=True):
            mine[places] = theirs[places]

    @property
    def arrays(self) -> tuple[npt.NDArray[np.generic], ...]:
        """All of them."""
        return self.done, self.top, self.rank, self.margins


class Predictions:
    """Which images of a set could be loaded, and what networks predict for them.

    Args:
        images: the set.
        networks: names of the networks.

    Attributes:
        digests: uint8, shape (images, 32): SHA-256 of each crop, zeros where there is none.
        loaded: bool, shape (images,): whether loading was attempted, so that digest or problem are known.
        problems: by position, why an image has no crop.
        networks: by name.
    """

    def __init__(self, images: ValidationSet, networks: Iterable[str]) -> None:
        self.images = images
        count = len(images.images)
        self.digests = np.zeros((count, len(NO_CROP)), np.uint8)
        self.loaded = np.zeros(count, bool)
        self.problems: dict[int, str] = {}
        self.networks = {name: NetworkPredictions.unknown(count, len(images.classes)) for name in networks}

    def note(self, places: Sequence[int], problems: Sequence[str | None], digests: npt.NDArray[np.uint8]) -> None:
        """Records digests and problems of some images."""
        rows = np.asarray(places, np.intp)
        self.loaded[rows] = True
        self.digests[rows] = digests
        self.problems.update(
            {place: problem for place, problem in zip(places, problems, strict=True) if problem is not None}
        )

    def add(
        self, into: NetworkPredictions, places: Sequence[int], problems: Sequence[str | None], ranking: Ranking
    ) -> None:
        """Records what a network predicts for some images.

        Args:
            into: the network's predictions.
            places: of the images.
            problems: why an image has no crop; then its ranking does not count.
            ranking: of all of them, on the processor.
        """
        rows = np.asarray(places, np.intp)
        into.done[rows] = True
        shown = np.array([problem is None for problem in problems], bool)
        into.top[rows[shown]] = ranking.top.numpy()[shown]
        into.rank[rows[shown]] = ranking.rank.numpy()[shown]
        into.margins[rows[shown]] = ranking.margins.numpy()[shown]

    def merge(self, other: Predictions) -> None:
        """Adds what another run or process knows about the same set and is not known here."""
        unknown = np.flatnonzero(other.loaded & ~self.loaded)
        self.digests[unknown] = other.digests[unknown]
        self.loaded[unknown] = True
        self.problems.update({place: other.problems[place] for place in unknown.tolist() if place in other.problems})
        for name, network in self.networks.items():
            network.take(other.networks[name], np.flatnonzero(other.networks[name].done & ~network.done))

    def accuracy(
        self,
        network: str,
        *,
        protocol: Protocol,
        precision: str,
        accelerations: Sequence[str] = (),
        audit: PrecisionAudit | None = None,
        speed: Speed | None = None,
    ) -> Accuracy:
        """The scores of a network on the images that are done."""
        found = self.networks[network]
        places = np.flatnonzero(found.done)
        images = [self.images.images[place] for place in places]
        problems = tuple(
            (image.id, self.problems[place])
            for place, image in zip(places.tolist(), images, strict=True)
            if place in self.problems
        )
        missing = sum(image.location is None for image in images)
        not_a_number = int(np.count_nonzero(found.top[places, 0] < 0)) - len(problems)
        labels = np.array([image.label for image in images], np.int64)
        real_images, real_top1, real_top5 = _count_real(images, found.top[places])
        return Accuracy(
            images=len(places),
            top1_correct=found.top1_correct,
            top5_correct=found.top5_correct,
            missing=missing,
            unreadable=len(problems) - missing,
            not_a_number=not_a_number,
            pipeline=protocol.pipeline,
            precision=precision,
            accelerations=tuple(accelerations),
            crops_sha256=hashlib.sha256(self.digests[places].tobytes()).hexdigest(),
            real_images=real_images,
            real_top1_correct=real_top1,
            real_top5_correct=real_top5,
            audit=audit,
            per_class=_count_classes(self.images.classes, labels, found.rank[places] < 1),
            confusions=most_frequent_confusions(images, found.top[places, 0], self.images.classes),
            problems=problems,
            protocol=protocol,
            speed=speed,
        )


def most_frequent_confusions(
    images: Sequence[ValidationImage], predicted: npt.NDArray[np.int16], classes: Sequence[str]
) -> tuple[Confusion, ...]:
    """The pairs of classes confused most often, most frequent first; of equal ones in the order of the classes.

    Args:
        images: what the network ran on.
        predicted: int16, shape (images,): class ranked first, -1 where none was.
        classes: their names.
    """
    labels = np.array([image.label for image in images], np.int64)
    first = predicted.astype(np.int64)
    wrong = np.flatnonzero((first >= 0) & (first != labels))
    pairs, inverse, counts = np.unique(
        labels[wrong] * len(classes) + first[wrong], return_inverse=True, return_counts=True
    )
    found = []
    for pair in np.lexsort((pairs, -counts))[:CONFUSIONS_KEPT]:
        label, answer = divmod(int(pairs[pair]), len(classes))
        examples = wrong[np.flatnonzero(inverse == pair)[:CONFUSION_EXAMPLES]]
        ids = tuple(images[row].id for row in examples)
        found.append(Confusion(classes[label], classes[answer], int(counts[pair]), ids))
    return tuple(found)


def merged_audit(audits: Sequence[PrecisionAudit]) -> PrecisionAudit:
    """Audits of one network on different images as one."""
    bounds = [audit.bound for audit in audits if audit.bound is not None]
    return PrecisionAudit(
        first_precision=audits[0].first_precision,
        images=sum(audit.images for audit in audits),
        changed_top1=sum(audit.changed_top1 for audit in audits),
        changed_top1_correct=sum(audit.changed_top1_correct for audit in audits),
        changed_top5_correct=sum(audit.changed_top5_correct for audit in audits),
        largest_drift=max(audit.largest_drift for audit in audits),
        bound=max(bounds) if bounds else None,
    )


def _count_real(images: Sequence[ValidationImage], top: npt.NDArray[np.int16]) -> tuple[int, int, int]:
    """Images with ReaL labels, and those of them whose first class is one, and one of whose first five classes is.

    None unless all have official names.
    """
    numbers = [image.number for image in images]
    if None in numbers:
        return 0, 0, 0
    labels = real_labels()
    real = [labels[number - 1] for number in numbers if number is not None]
    ranked = top.tolist()
    first = sum(row[0] in classes for row, classes in zip(ranked, real, strict=True))
    first_five = sum(not classes.isdisjoint(row) for row, classes in zip(ranked, real, strict=True))
    return sum(map(bool, real)), first, first_five


def _count_classes(
    classes: Sequence[str], labels: npt.NDArray[np.int64], right: npt.NDArray[np.bool_]
) -> dict[str, tuple[int, int]]:
    totals = np.bincount(labels, minlength=len(classes)).tolist()
    correct = np.bincount(labels[right], minlength=len(classes)).tolist()
    return {name: (total, hits) for name, total, hits in zip(classes, totals, correct, strict=True) if total > 0}
