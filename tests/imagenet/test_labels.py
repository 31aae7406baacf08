"""The built-in label tables, and the development kit's order, held against what the kit itself says."""

from __future__ import annotations

from collections import Counter

import pytest

from r2convert.imagenet import labels
from r2convert.imagenet.labels import CLASS_COUNT, class_names, devkit_order, validation_labels


def test_class_indices_are_positions_of_sorted_wordnet_ids() -> None:
    synsets = labels.synsets()
    assert list(synsets) == sorted(set(synsets))
    assert len(synsets) == labels.CLASS_COUNT == len(labels.class_names())
    assert (synsets[0], labels.class_names()[0]) == ("n01440764", "tench, Tinca tinca")
    assert (synsets[999], labels.class_names()[999]) == ("n15075141", "toilet tissue, toilet paper, bathroom tissue")
    assert labels.class_index_by_synset()["n01443537"] == 1


def test_every_class_has_fifty_validation_images() -> None:
    assert set(Counter(labels.validation_labels()).values()) == {50}
    assert len(labels.validation_labels()) == labels.VALIDATION_IMAGE_COUNT
    # The first three lines of the ground truth by WordNet id: n01751748, n09193705, n02105855.
    assert [labels.synsets()[label] for label in labels.validation_labels()[:3]] == [
        "n01751748",
        "n09193705",
        "n02105855",
    ]


def test_real_labels_cover_the_published_number_of_images() -> None:
    real = labels.real_labels()
    assert len(real) == labels.VALIDATION_IMAGE_COUNT
    assert sum(bool(entry) for entry in real) == 46_837
    assert real[:3] == (frozenset(), frozenset({970, 795}), frozenset({230, 231}))
    agreeing = sum(label in entry for label, entry in zip(labels.validation_labels(), real, strict=True) if entry)
    assert agreeing / 46_837 > 0.85


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("ILSVRC2012_val_00000293.JPEG", 293),
        ("ILSVRC2012_val_00050000.png", 50_000),
        ("ILSVRC2012_val_00000001", 1),
        ("ILSVRC2012_val_00050001.JPEG", None),
        ("ILSVRC2012_val_00000000.JPEG", None),
        ("ILSVRC2012_val_293.JPEG", None),
        ("n01440764_293.JPEG", None),
    ],
)
def test_validation_numbers_come_from_official_names_only(name: str, number: int | None) -> None:
    assert labels.validation_number(name) == number


def test_validation_names_are_read_back() -> None:
    assert labels.validation_number(labels.validation_name(12_345)) == 12_345


FIRST_ANSWERS = (490, 361, 171, 822, 297, 482, 13, 704, 599, 164)
"""The first lines of ``ILSVRC2012_validation_ground_truth.txt``."""


def test_every_class_is_there_once() -> None:
    assert sorted(devkit_order()) == list(range(CLASS_COUNT))


def test_the_kits_answers_are_the_built_in_labels() -> None:
    assert [devkit_order()[answer - 1] for answer in FIRST_ANSWERS] == list(validation_labels()[:10])


def test_it_begins_and_ends_as_the_kit_does() -> None:
    assert class_names()[devkit_order()[0]].startswith("kit fox")
    assert class_names()[devkit_order()[-1]].startswith("dumbbell")
