"""Compares what a data set says about itself with what is known about the 50,000 validation images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.imagenet.labels import (
    CLASS_COUNT,
    VALIDATION_IMAGE_COUNT,
    synsets,
    validation_labels,
    validation_name,
)
from r2convert.imagenet.naming import name_some
from r2convert.imagenet.validation_set import ValidationImage

# From this share of the 50,000 names on, a folder is taken for the whole set with images lost, not for a subset.
_NEARLY_ALL = 0.9
_ENOUGH_EVIDENCE = 10


def restore_missing_images(images: list[ValidationImage]) -> tuple[list[ValidationImage], list[str]]:
    """Puts back what a nearly complete set has lost, without a location, so that it is counted as wrong.

    A set with at least 90 % of the 50,000 official names is the whole set with images lost; a smaller one is a
    subset somebody chose.

    Returns:
        The images with the lost ones added, and a sentence that names them.
    """
    present = {image.number for image in images if image.number is not None}
    if not _NEARLY_ALL * VALIDATION_IMAGE_COUNT <= len(present) < VALIDATION_IMAGE_COUNT:
        return images, []
    labels = validation_labels()
    lost = [number for number in range(1, VALIDATION_IMAGE_COUNT + 1) if number not in present]
    names = [validation_name(number) for number in lost]
    restored = [ValidationImage(name, labels[number - 1], None) for number, name in zip(lost, names, strict=True)]
    return images + restored, [f"{len(lost)} images are missing and count as wrong: {name_some(names)}"]


def check_against_built_in_labels(path: Path, images: Sequence[ValidationImage]) -> list[str]:
    """Sentences about images that are there twice, or in another class than ILSVRC 2012 gives them.

    Raises:
        DatasetError: the labels count the classes in another order, as the development kit does.
    """
    labels = validation_labels()
    numbered = [(labels[image.number - 1], image) for image in images if image.number is not None]
    differing = [(official, image) for official, image in numbered if official != image.label]
    if len(differing) > len(numbered) / 2:
        _refuse_another_class_order(path, numbered)
    warnings = _describe_class_sizes(images)
    if differing:
        warnings.append(
            f"{len(differing)} of {len(numbered)} images are not in the class that ILSVRC 2012 gives to their name: "
            f"{name_some([image.id for _, image in differing])}"
        )
    counts = Counter(validation_name(image.number) if image.number else image.id for image in images)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        warnings.append(f"{len(repeated)} images are there more than once: {name_some(repeated)}")
    return warnings


def _describe_class_sizes(images: Sequence[ValidationImage]) -> list[str]:
    """A sentence about classes that do not have 50 images, in a set of about the size of the whole."""
    if len(images) < _NEARLY_ALL * VALIDATION_IMAGE_COUNT:
        return []
    sizes = Counter(image.label for image in images)
    each = VALIDATION_IMAGE_COUNT // CLASS_COUNT
    uneven = [f"{synset} ({sizes[label]})" for label, synset in enumerate(synsets()) if sizes[label] != each]
    return [f"{len(uneven)} classes do not have {each} images: {name_some(uneven)}"] if uneven else []


def _refuse_another_class_order(path: Path, numbered: Sequence[tuple[int, ValidationImage]]) -> None:
    """Raises if every class has been given one other index: a renumbering, not a number of mistakes."""
    renumbered = {(official, image.label) for official, image in numbered}
    one_to_one = (
        len({given for _, given in renumbered}) == len({official for official, _ in renumbered}) == len(renumbered)
    )
    # A class seen twice with the same other index is evidence; a class seen once is not.
    if one_to_one and len(numbered) - len(renumbered) >= _ENOUGH_EVIDENCE:
        official, given = next(pair for pair in sorted(renumbered) if pair[0] != pair[1])
        raise DatasetError(
            "the labels count the classes in another order",
            where=str(path),
            expected=f"the order of the sorted WordNet ids, in which {synsets()[official]} is class {official}",
            got=f"class {given} for {synsets()[official]}; the development kit's ILSVRC2012_ID is such an order",
            next_step="write WordNet ids instead of numbers, or point --imagenet at the flat folder of images, "
            "whose labels are built in",
        )
