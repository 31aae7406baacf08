"""Pictures to show a network when their labels do not matter: from any folder, or drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2convert.errors import DatasetError, UnreadableImageError
from r2convert.imagenet.dataset_readers import list_folder
from r2convert.imagenet.preprocessing import Crop, crop_image, fast_crop_function
from r2convert.imagenet.standin import draw_picture

FEWEST = 16
DRAWN = 32
MOST = 64

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures as a network is shown them.

    Args:
        crops: uint8, shape (pictures, 224, 224, 3).
        source: the folder they are from, or ``None`` if they were drawn.
    """

    crops: Crop
    source: Path | None


def drawn_pictures() -> Pictures:
    """Shapes and noise, the same on every machine; unlike the photographs a network was trained on."""
    return Pictures(np.stack([crop_image(draw_picture(number)) for number in range(DRAWN)]), None)


def pictures_from(folder: Path) -> Pictures:
    """Up to 64 pictures of a folder and its folders, spread evenly over them, cut as published numbers are measured.

    Raises:
        DatasetError: there is no such folder, or fewer than 16 of its files can be decoded.
    """
    if not folder.is_dir():
        raise DatasetError(
            "this is no folder of pictures",
            where=str(folder),
            expected="a folder; after --wiring the next word is taken for one",
            got="a file" if folder.exists() else "nothing of that name",
            next_step="put --wiring after the checkpoints, or write --wiring=FOLDER",
        )
    files = [entry for entry in list_folder(folder).entries if entry.name.lower().endswith(_SUFFIXES)]
    crops = list(_crops([entry.location.path for entry in files]))
    if len(crops) < FEWEST:
        raise DatasetError(
            "these are too few pictures to tell anything",
            where=str(folder),
            expected=f"{FEWEST} pictures or more, in the folder or one folder further down",
            got=f"{len(files)} picture files, {len(crops)} of them readable",
            next_step="point --wiring at a folder of photographs, or leave its path out",
        )
    return Pictures(np.stack(crops), folder)


def _crops(paths: Sequence[Path]) -> Iterator[Crop]:
    """Crops of those that can be decoded."""
    crop = fast_crop_function()
    count = min(len(paths), MOST)
    for number in range(count):
        try:
            yield crop(paths[number * len(paths) // count].read_bytes())
        except (UnreadableImageError, OSError):
            continue
