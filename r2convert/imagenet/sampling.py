"""Takes a part of a validation set that stands for the whole: every class alike, the same one every time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace

from r2convert.errors import UsageError
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet


def stratified_sample(images: ValidationSet, count: int, *, seed: int = 0) -> ValidationSet:
    """A sample with the same number of images of every class, give or take one.

    Images are drawn by the SHA-256 of seed and id, so that the sample depends on nothing else and a larger sample
    contains every smaller one of the same seed.

    Args:
        images: the set to draw from.
        count: how many images; at least as many as there are gives the whole set.
        seed: another seed draws another sample.

    Returns:
        The sample, in the order of the set.

    Raises:
        UsageError: ``count`` is not positive.
    """
    if count < 1:
        raise UsageError("a sample needs at least one image", expected="1 or more", got=str(count))
    if count >= len(images.images):
        return images
    by_class: dict[int, list[ValidationImage]] = defaultdict(list)
    for image in images.images:
        by_class[image.label].append(image)
    # One image of every class, then a second of every class, ...; the classes of the last round are drawn, too.
    drawn: list[tuple[int, bytes, ValidationImage]] = []
    for members in by_class.values():
        members.sort(key=lambda image: _lot(image, seed))
        drawn += [(turn, _lot(image, seed), image) for turn, image in enumerate(members)]
    drawn.sort(key=lambda draw: draw[:2])
    chosen = {image.id for _, _, image in drawn[:count]}
    part = tuple(image for image in images.images if image.id in chosen)
    return replace(images, images=part)


def _lot(image: ValidationImage, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{image.id}".encode()).digest()
