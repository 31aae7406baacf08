"""The development kit's order of the classes, held against what the kit itself says."""

from __future__ import annotations

from r2convert.imagenet.labels import CLASS_COUNT, class_names, devkit_order, validation_labels

FIRST_ANSWERS = (490, 361, 171, 822, 297, 482, 13, 704, 599, 164)
"""The first lines of ``ILSVRC2012_validation_ground_truth.txt``."""


def test_every_class_is_there_once() -> None:
    assert sorted(devkit_order()) == list(range(CLASS_COUNT))


def test_the_kits_answers_are_the_built_in_labels() -> None:
    assert [devkit_order()[answer - 1] for answer in FIRST_ANSWERS] == list(validation_labels()[:10])


def test_it_begins_and_ends_as_the_kit_does() -> None:
    assert class_names()[devkit_order()[0]].startswith("kit fox")
    assert class_names()[devkit_order()[-1]].startswith("dumbbell")
