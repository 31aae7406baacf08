"""One folder a class, named by its WordNet id: ``n01440764/ILSVRC2012_val_00000293.JPEG``.

The class index comes from the folder's name, never from its position: an empty or absent class folder cannot
shift the others.
"""

from __future__ import annotations

import re

from r2convert.errors import DatasetError
from r2convert.imagenet.labels import class_index_by_synset
from r2convert.imagenet.listing import Listing
from r2convert.imagenet.naming import is_image_name, name_some
from r2convert.imagenet.validation_set import ValidationImage

LAYOUT = "class folders"

_WORDNET_ID = re.compile(r"n\d{8}", re.ASCII)


def has_class_folders(listing: Listing) -> bool:
    """Whether any folder is named by a WordNet id, of ImageNet-1k or not."""
    return any(map(_WORDNET_ID.fullmatch, _folder_names(listing)))


def read_class_folders(listing: Listing) -> tuple[list[ValidationImage], list[str]]:
    """The images of all class folders, in no particular order, and what is odd about the listing.

    Any subset of the 1,000 classes will do.

    Raises:
        DatasetError: a folder carries a WordNet id that is no class of ImageNet-1k, or there is no image at all.
    """
    index_by_synset = class_index_by_synset()
    class_folders = {name for name in _folder_names(listing) if _WORDNET_ID.fullmatch(name)}
    _refuse_foreign_classes(listing, sorted(class_folders - index_by_synset.keys()))
    images: list[ValidationImage] = []
    passed_over = list(listing.deeper)
    if listing.path.is_dir():
        passed_over += [name for name in listing.folders if name not in class_folders]
    for entry in listing.entries:
        if entry.folder in class_folders and is_image_name(entry.file_name):
            images.append(ValidationImage(entry.name, index_by_synset[entry.folder], entry.location))
        elif entry.folder in class_folders or "/" not in entry.name:
            passed_over.append(entry.name)
    if not images:
        raise DatasetError(
            "the class folders hold no images",
            where=str(listing.path),
            expected="JPEG files inside folders such as n01440764",
            got=f"{len(class_folders)} class folders, all without images",
            next_step="check that the validation images were unpacked and moved into the class folders",
        )
    filled = {image.id.rpartition("/")[0].rpartition("/")[2] for image in images}
    return images, _describe(sorted(class_folders - filled), sorted(passed_over))


def _folder_names(listing: Listing) -> set[str]:
    return {*listing.folders, *(entry.folder for entry in listing.entries)}


def _describe(empty: list[str], passed_over: list[str]) -> list[str]:
    warnings = []
    if empty:
        warnings.append(f"{len(empty)} class folders hold no image: {name_some(empty)}")
    if passed_over:
        warnings.append(f"{len(passed_over)} entries are no images of a class, left out: {name_some(passed_over)}")
    return warnings


def _refuse_foreign_classes(listing: Listing, names: list[str]) -> None:
    if names:
        raise DatasetError(
            "some class folders are no classes of ImageNet-1k",
            where=str(listing.path),
            expected="folders named by the 1,000 WordNet ids of ImageNet-1k",
            got=f"{len(names)} others: {name_some(names)}",
            next_step="point --imagenet at the ImageNet-1k validation images, or move the other folders away",
        )
