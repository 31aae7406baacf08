"""Opens a validation set: finds out by itself what lies at a path."""

from __future__ import annotations

from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.imagenet.class_folders import LAYOUT as CLASS_FOLDERS
from r2convert.imagenet.class_folders import has_class_folders, read_class_folders
from r2convert.imagenet.cross_check import compare_with_built_in_labels, restore_missing_images
from r2convert.imagenet.naming import name_some
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet, in_reading_order


def open_validation_set(path: Path) -> ValidationSet:
    """Reads the names and labels of all images at ``path``; no image is opened.

    Args:
        path: a folder with one sub-folder a class, named by WordNet id, or a folder whose ``val`` is one.

    Returns:
        The set, in the order of :class:`ValidationSet`, with everything odd about it in ``warnings``.

    Raises:
        DatasetError: there is nothing at ``path`` that can be scored.
    """
    if not path.exists():
        raise DatasetError(
            "there is no validation set at this path",
            where=str(path),
            expected="a folder of ImageNet-1k validation images",
            got="nothing of that name",
            next_step="check the spelling of the path given to --imagenet",
        )
    found, layout, images, warnings = _read(path)
    images, restored = restore_missing_images(images)
    ordered = in_reading_order(images)
    return ValidationSet(found, layout, ordered, (*warnings, *restored, *compare_with_built_in_labels(ordered)))


def _read(path: Path) -> tuple[Path, str, list[ValidationImage], list[str]]:
    try:
        for folder in (path, path / "val"):
            if folder.is_dir() and has_class_folders(folder):
                return folder, CLASS_FOLDERS, *read_class_folders(folder)
    except OSError as error:
        raise DatasetError("the folder cannot be listed", where=str(path), got=str(error)) from error
    raise _nothing_to_score(path)


def _nothing_to_score(path: Path) -> DatasetError:
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if not path.is_dir():
        got = "a file"
    elif names:
        got = f"{len(names)} entries: {name_some(names)}"
    else:
        got = "an empty folder"
    return DatasetError(
        "this is no ImageNet-1k validation set",
        where=str(path),
        expected="folders named by WordNet id, such as n01440764, with the images of that class",
        got=got,
        next_step="class names or numbers do not say which of several class orders they follow: "
        "name the folders by WordNet id",
    )
