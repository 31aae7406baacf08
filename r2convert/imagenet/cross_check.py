"""Compares what a data set says about itself with what is known about the 50,000 validation images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from r2convert.imagenet.labels import VALIDATION_IMAGE_COUNT, validation_labels, validation_name
from r2convert.imagenet.naming import name_some
from r2convert.imagenet.validation_set import ValidationImage

# From this share of the 50,000 names on, a folder is taken for the whole set with images lost, not for a subset.
_NEARLY_ALL = 0.9


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


def compare_with_built_in_labels(images: Sequence[ValidationImage]) -> list[str]:
    """Sentences about images that the set labels otherwise than ILSVRC 2012 does, or holds more than once."""
    labels = validation_labels()
    numbered = [(image.number, image) for image in images if image.number is not None]
    differing = [image.id for number, image in numbered if labels[number - 1] != image.label]
    counts = Counter(number for number, _ in numbered)
    repeated = [validation_name(number) for number, count in sorted(counts.items()) if count > 1]
    warnings = []
    if differing:
        warnings.append(
            f"{len(differing)} of {len(numbered)} images are not in the class that ILSVRC 2012 gives to their name: "
            f"{name_some(differing)}"
        )
    if repeated:
        warnings.append(f"{len(repeated)} images are there more than once: {name_some(repeated)}")
    return warnings
