"""A labelled set of validation images: the plain values every layout is read into."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from r2convert.catalog.variant import Dataset
from r2convert.errors import UsageError
from r2convert.files import first_names
from r2convert.imagenet.labels import synsets, validation_number

NO_CROP = bytes(hashlib.sha256().digest_size)
"""The digest of a crop that does not exist."""


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """Where the bytes of an image lie: a file, or a stretch of an uncompressed archive.

    Args:
        path: the file.
        offset: first byte.
        size: number of bytes; ``None`` for the whole file from ``offset`` on.
    """

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            OSError: the file cannot be read, or ends before the stretch does.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read() if self.size is None else file.read(self.size)
        if self.size is not None and len(data) != self.size:
            raise OSError(f"{self.path} ends {self.size - len(data)} bytes before the image does")
        return data


@dataclass(frozen=True, slots=True)
class ValidationImage:
    """One image of a validation set.

    Args:
        id: its name inside the set: a path with forward slashes, relative to the set.
        label: its class index, 0 to 999.
        location: where its bytes are; ``None`` when the set ought to have it and does not.
    """

    id: str
    label: int
    location: ImageLocation | None

    @property
    def number(self) -> int | None:
        """Its number in the ILSVRC 2012 validation set (1 to 50,000), if its file name says one."""
        return validation_number(self.file_name)

    @property
    def file_name(self) -> str:
        """The last part of its id."""
        return self.id.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Images to measure an accuracy on, in the order they are read and hashed in.

    The order is that of the validation numbers where every image has one, otherwise that of the ids, so that the
    same images give the same order (and the same hash of crops) whatever layout they lie in.

    Args:
        path: the folder, archive or list it was read from.
        layout: what that is, in words, e.g. ``class folders``.
        images: every image that counts, missing ones included.
        warnings: what a reader of the score has to know, one sentence each.
        classes: names of the classes a network has to tell apart, by class index: WordNet ids, for ImageNet.
        ranked: indices of the classes that are ranked, if the set is about some of them only (ImageNet-A, -R).
        dataset: the set that accuracies are published on which these images are, all of them or a random part.
    """

    path: Path
    layout: str
    images: tuple[ValidationImage, ...]
    warnings: tuple[str, ...] = ()
    classes: tuple[str, ...] = field(default_factory=synsets, repr=False)
    ranked: tuple[int, ...] | None = None
    dataset: Dataset | None = None

    @property
    def missing(self) -> tuple[ValidationImage, ...]:
        """The images that the set should have but does not; they count as wrong."""
        return tuple(image for image in self.images if image.location is None)

    @property
    def class_count(self) -> int:
        """How many classes the images belong to."""
        return len({image.label for image in self.images})

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids and labels in order: the same fingerprint means the same images and labels."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(f"{image.file_name}\t{image.label}\n".encode())
        return digest.hexdigest()


def in_reading_order(images: list[ValidationImage]) -> tuple[ValidationImage, ...]:
    """The images in the order :class:`ValidationSet` promises."""
    if all(image.number is not None for image in images):
        return tuple(sorted(images, key=lambda image: (image.number or 0, image.id)))
    return tuple(sorted(images, key=lambda image: image.id))


# Those of torchvision's ImageFolder; the content is decoded whatever the extension claims.
_IMAGE_EXTENSIONS = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")


def is_image_name(name: str) -> bool:
    """Whether a file is meant to be an image, by its extension; hidden files (``._x.JPEG``) are not."""
    return name.lower().endswith(_IMAGE_EXTENSIONS) and not name.startswith(".")


def mention(names: Sequence[str], one: str, many: str) -> str:
    """How many there are, what is so about them, and the first few: ``2 images are missing: a, b``."""
    return f"{len(names):,} {one if len(names) == 1 else many}: {first_names(names)}"


def stratified_sample(images: ValidationSet, count: int, *, seed: int = 0) -> ValidationSet:
    """A sample with the same number of images of every class, give or take one.

    Images are drawn by the SHA-256 of seed and file name, so that the sample is the same whatever form the set lies in,
    and a larger sample contains every smaller one of the same seed.

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
    by_class: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
    for place, image in enumerate(images.images):
        by_class[image.label].append((_lot(image, seed), place))
    # One image of every class, then a second of every class, ...; the classes of the last round are drawn, too.
    drawn = sorted((turn, *lot) for members in by_class.values() for turn, lot in enumerate(sorted(members)))
    chosen = sorted(place for _, _, place in drawn[:count])
    return replace(images, images=tuple(images.images[place] for place in chosen))


def _lot(image: ValidationImage, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{image.file_name}".encode()).digest()
