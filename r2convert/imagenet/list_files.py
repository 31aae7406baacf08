"""Reads lists, one image a line (``ILSVRC2012_val_00000001.JPEG 65``), as OpenMMLab keeps it in ``meta/val.txt``.

The images lie beside the list or in a flat ``val`` folder. Fields are separated by blanks, a tab or a comma; the class
is an index of the sorted WordNet ids (0 to 999) or a WordNet id.
"""

from __future__ import annotations

import re
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.files import first_names
from r2convert.imagenet.labels import CLASS_COUNT, class_index_by_synset
from r2convert.imagenet.listings import CLASSES_FILE, classes_beside, read_lines
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage, mention

LIST_FILE = "list file"
OPENMMLAB_LIST = "OpenMMLab list"

# The image is everything before the last separator, since file names may hold blanks and commas.
_LINE = re.compile(r"(?P<image>.+?)[ \t,]+(?P<label>\S+?)\s*", re.ASCII)


def read_list_file(
    path: Path, *, image_folder: Path | None = None
) -> tuple[list[ValidationImage], list[str], tuple[str, ...] | None]:
    """The images a list names, in no particular order; those that are not there have no location.

    A file ``classes.txt`` beside the list names classes that are not those of ImageNet, one per line; the list has
    their names or their indices then.

    Args:
        path: the list, UTF-8; empty lines and lines that begin with ``#`` do not count.
        image_folder: what its paths are relative to; by default the first of the list's folder, ``val`` in it, the
            folder above and ``val`` in that one, that has the first image of the list.

    Returns:
        The images, what is odd about them, and the classes by index, if they are not those of ImageNet.

    Raises:
        DatasetError: a line cannot be read, a class does not exist, or none of the images is there.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if _counts(line)]
    classes = classes_beside(path.parent) if path.name != CLASSES_FILE else None
    rows = [_read_line(path, number, line, classes) for number, line in lines]
    if classes is None:
        _refuse_labels_from_one(path, [label for _, label in rows])
    folder = image_folder or _find_images(path, [name for name, _ in rows])
    images = []
    for name, label in rows:
        file = folder / name
        images.append(ValidationImage(name, label, ImageLocation(file) if _is_file(file) else None))
    missing = [image.id for image in images if image.location is None]
    if len(missing) == len(images):
        raise DatasetError(
            "none of the images in the list is there" if images else "the list names no images",
            where=str(path),
            expected=f"images below {folder}",
            got=first_names(missing) if images else "an empty list",
            next_step="keep the list beside the images, or one folder above or below them",
        )
    if not missing:
        return images, [], classes
    return (
        images,
        [
            mention(
                missing,
                "image of the list is missing and counts as wrong",
                "images of the list are missing and count as wrong",
            )
        ],
        classes,
    )


def list_has_images(path: Path, image_folder: Path) -> bool:
    """Whether any of the images that a list names lies in a folder."""
    matches = (_LINE.fullmatch(line.strip()) for line in read_lines(path) if _counts(line))
    return any(_is_file(image_folder / match["image"].removeprefix("./")) for match in matches if match)


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _read_line(path: Path, number: int, line: str, classes: tuple[str, ...] | None) -> tuple[str, int]:
    match = _LINE.fullmatch(line.strip())
    label = None if match is None else _class_index(match["label"], classes)
    if match is None or label is None:
        raise DatasetError(
            "a line of the list does not name an image and its class",
            where=f"{path}:{number}",
            expected="a file name and a class index or WordNet id, such as: ILSVRC2012_val_00000001.JPEG 65"
            if classes is None
            else f"a file name and one of the {len(classes)} classes of classes.txt, or its index",
            got=line[:200],
            next_step="correct the line (those that begin with # do not count)"
            + (", or name the classes in a file classes.txt beside the list" if classes is None else ""),
        )
    return match["image"].removeprefix("./"), label


def _class_index(text: str, classes: tuple[str, ...] | None) -> int | None:
    if classes is not None:
        if text in classes:
            return classes.index(text)
        return int(text) if text.isascii() and text.isdigit() and int(text) < len(classes) else None
    if text.isascii() and text.isdigit() and int(text) <= CLASS_COUNT:
        return int(text)
    return class_index_by_synset().get(text)


def _refuse_labels_from_one(path: Path, labels: list[int]) -> None:
    if CLASS_COUNT in labels:
        raise DatasetError(
            "the list counts its classes from 1",
            where=str(path),
            expected="class indices from 0 to 999, in the order of the sorted WordNet ids",
            got="class 1000" + ("" if 0 in labels else ", and no class 0"),
            next_step="the development kit's ILSVRC2012_ID is another order: use WordNet ids, or a flat folder, "
            "whose labels are built in",
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A line of nonsense makes a name no file system takes; nothing of that name is there.
        return False


def _find_images(path: Path, names: list[str]) -> Path:
    candidates = (path.parent, path.parent / "val", path.parent.parent, path.parent.parent / "val")
    for name in names:
        for candidate in candidates:
            if _is_file(candidate / name):
                return candidate
    return path.parent
