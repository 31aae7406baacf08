"""One folder a class, named by its WordNet id: ``n01440764/ILSVRC2012_val_00000293.JPEG``.

The class index comes from the folder's name, never from its position: an empty or absent class folder cannot
shift the others.
"""

from __future__ import annotations

import re
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.imagenet.labels import class_index_by_synset
from r2convert.imagenet.naming import is_image_name, name_some
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage

LAYOUT = "class folders"

_WORDNET_ID = re.compile(r"n\d{8}", re.ASCII)


def has_class_folders(folder: Path) -> bool:
    """Whether any sub-folder is named by a WordNet id, of ImageNet-1k or not."""
    return any(_WORDNET_ID.fullmatch(entry.name) for entry in folder.iterdir() if entry.is_dir())


def read_class_folders(folder: Path) -> tuple[list[ValidationImage], list[str]]:
    """The images of all class folders, in no particular order, and what is odd about the folder.

    Args:
        folder: the folder that holds the class folders; any subset of the 1,000 classes will do.

    Raises:
        DatasetError: a folder carries a WordNet id that is no class of ImageNet-1k, or there is no image at all.
    """
    index_by_synset = class_index_by_synset()
    entries = sorted(folder.iterdir())
    class_folders = [entry for entry in entries if entry.is_dir() and _WORDNET_ID.fullmatch(entry.name)]
    _refuse_foreign_classes(folder, [entry.name for entry in class_folders if entry.name not in index_by_synset])
    images: list[ValidationImage] = []
    passed_over = [entry.name for entry in entries if entry not in class_folders]
    empty: list[str] = []
    for class_folder in class_folders:
        found, others = _read_one_class(class_folder, index_by_synset[class_folder.name])
        images += found
        passed_over += others
        if not found:
            empty.append(class_folder.name)
    warnings = []
    if empty:
        warnings.append(f"{len(empty)} class folders hold no image: {name_some(empty)}")
    if passed_over:
        warnings.append(f"{len(passed_over)} entries are no images of a class, left out: {name_some(passed_over)}")
    if not images:
        raise DatasetError(
            "the class folders hold no images",
            where=str(folder),
            expected="JPEG files inside folders such as n01440764",
            got=f"{len(class_folders)} class folders, all without images",
            next_step="check that the validation images were unpacked and moved into the class folders",
        )
    return images, warnings


def _read_one_class(folder: Path, label: int) -> tuple[list[ValidationImage], list[str]]:
    images, others = [], []
    for file in folder.iterdir():
        name = f"{folder.name}/{file.name}"
        if is_image_name(file.name) and not file.is_dir():
            images.append(ValidationImage(name, label, ImageLocation(file)))
        else:
            others.append(name)
    return images, others


def _refuse_foreign_classes(folder: Path, names: list[str]) -> None:
    if names:
        raise DatasetError(
            "some class folders are no classes of ImageNet-1k",
            where=str(folder),
            expected="folders named by the 1,000 WordNet ids of ImageNet-1k",
            got=f"{len(names)} others: {name_some(names)}",
            next_step="point --imagenet at the ImageNet-1k validation images, or move the other folders away",
        )
