"""Which classes a network takes for which others, and images to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2convert.imagenet.labels import synsets
from r2convert.imagenet.validation_set import ValidationImage

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
