"""Which classes are taken for which: counted, named and bounded."""

from __future__ import annotations

import numpy as np
import pytest

from r2convert.evaluation.predictions import most_frequent_confusions
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.results.verification import CONFUSION_EXAMPLES, CONFUSIONS_KEPT, Confusion


def shown(pairs: list[tuple[int, int]]) -> tuple[Confusion, ...]:
    """What comes of images, each (label, predicted), with the row for an id."""
    images = [ValidationImage(f"{row}.JPEG", label, None) for row, (label, _) in enumerate(pairs)]
    return most_frequent_confusions(images, np.array([answer for _, answer in pairs], np.int16), synsets())


def test_the_most_frequent_pair_comes_first_with_its_images() -> None:
    names = synsets()
    found = shown([(3, 5), (7, 7), (4, 3), (4, 3), (9, -1)])
    assert found == (
        Confusion(names[4], names[3], 2, ("2.JPEG", "3.JPEG")),
        Confusion(names[3], names[5], 1, ("0.JPEG",)),
    )


@pytest.mark.parametrize("pairs", [[], [(1, 1)] * 3, [(2, -1)]])
def test_right_answers_and_no_answers_are_no_confusions(pairs: list[tuple[int, int]]) -> None:
    assert shown(pairs) == ()


def test_pairs_and_examples_are_bounded() -> None:
    found = shown([(label, 999) for label in range(CONFUSIONS_KEPT + 10) for _ in range(CONFUSION_EXAMPLES + 1)])
    assert len(found) == CONFUSIONS_KEPT
    assert {(pair.count, len(pair.images)) for pair in found} == {(CONFUSION_EXAMPLES + 1, CONFUSION_EXAMPLES)}
