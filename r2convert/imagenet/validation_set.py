"""A labelled set of validation images: the plain values every layout is read into."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from r2convert.imagenet.labels import VALIDATION_IMAGE_COUNT, validation_labels, validation_number


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
        return validation_number(PurePosixPath(self.id).name)


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
    """

    path: Path
    layout: str
    images: tuple[ValidationImage, ...]
    warnings: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[ValidationImage, ...]:
        """The images the set ought to have and does not; they count as wrong."""
        return tuple(image for image in self.images if image.location is None)

    @property
    def class_count(self) -> int:
        """How many classes the images belong to."""
        return len({image.label for image in self.images})

    @property
    def is_full(self) -> bool:
        """Whether these are the 50,000 images of ILSVRC 2012 with their labels, which published numbers speak of."""
        labels = validation_labels()
        numbers = [image.number for image in self.images]
        return (
            len(numbers) == VALIDATION_IMAGE_COUNT
            and len({number for number in numbers if number is not None}) == VALIDATION_IMAGE_COUNT
            and all(
                labels[number - 1] == image.label
                for number, image in zip(numbers, self.images, strict=True)
                if number is not None
            )
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids and labels in order: the same fingerprint means the same questions were asked."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(f"{PurePosixPath(image.id).name}\t{image.label}\n".encode())
        return digest.hexdigest()


def in_reading_order(images: list[ValidationImage]) -> tuple[ValidationImage, ...]:
    """The images in the order :class:`ValidationSet` promises."""
    if all(image.number is not None for image in images):
        return tuple(sorted(images, key=lambda image: (image.number or 0, image.id)))
    return tuple(sorted(images, key=lambda image: image.id))
