"""The validation images as they are published: ``ILSVRC2012_val_00000001.JPEG`` and so on, all in one place.

Their labels are the built-in ones, found by the number in the name; no development kit is needed.
"""

from __future__ import annotations

from r2convert.imagenet.labels import validation_labels, validation_number
from r2convert.imagenet.listing import Entry, Listing
from r2convert.imagenet.naming import is_image_name, name_some
from r2convert.imagenet.validation_set import ValidationImage

FOLDER_LAYOUT = "flat folder"
ARCHIVE_LAYOUT = "tar archive"


def has_official_names(listing: Listing) -> bool:
    """Whether any image at the top of a folder, or anywhere in an archive, has an official name."""
    return any(_number(listing, entry) is not None for entry in listing.entries)


def read_official_names(listing: Listing) -> tuple[list[ValidationImage], list[str]]:
    """The images with official names, in no particular order, and a sentence about whatever lies beside them."""
    labels = validation_labels()
    images: list[ValidationImage] = []
    passed_over = [f"{name}/" for name in listing.folders] if listing.path.is_dir() else []
    for entry in listing.entries:
        number = _number(listing, entry)
        if number is not None:
            images.append(ValidationImage(entry.name, labels[number - 1], entry.location))
        elif "/" not in entry.name or listing.path.is_file():
            passed_over.append(entry.name)
    if not passed_over:
        return images, []
    return images, [f"{len(passed_over)} entries have no official name, left out: {name_some(sorted(passed_over))}"]


def _number(listing: Listing, entry: Entry) -> int | None:
    """The validation number of an entry that is an image and lies where it counts."""
    at_the_top = "/" not in entry.name or listing.path.is_file()
    return validation_number(entry.file_name) if at_the_top and is_image_name(entry.file_name) else None
