"""A small stand-in for the validation set whose top-1 and top-5 are known before anything is measured.

Pictures are drawn, written as real image files, and read back through the real pipeline. The network to be
measured ranks the classes of each; then each picture is given, as its label, the class of a chosen rank: first for
as many as shall be right, second to fifth for those that shall count for top-5 only, far behind for the rest.
Only places that lie a clear margin apart are used, so another batch size or device cannot change the counts.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2convert.errors import AccessError, UsageError
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.preprocessing import Crop, crop_image

Place = Literal["first", "among five", "behind"]
Rank = Callable[[Crop], npt.NDArray[np.floating]]

# Logit gaps below this share of the spread of an image's logits are not relied upon; float32 noise is 1e-5 of it.
_CLEAR_MARGIN = 1e-3
_RANK_BATCH = 8
_DRAWS_PER_PICTURE = 8
_BEHIND = 300
_SIZES = ((500, 375), (375, 500), (640, 427), (256, 256), (331, 500), (224, 300), (1024, 683), (180, 240))


@dataclass(frozen=True, slots=True)
class StandInSet:
    """What was written, and what a sound measurement of it has to find.

    Args:
        folder: holds one folder a class, named by WordNet id.
        images: number of pictures.
        top1_correct: pictures whose label the network ranks first.
        top5_correct: pictures whose label it ranks among the first five.
    """

    folder: Path
    images: int
    top1_correct: int
    top5_correct: int


def write_standin_set(
    folder: Path, rank: Rank, *, images: int, top1_correct: int, top5_correct: int, seed: int = 0
) -> StandInSet:
    """Writes a stand-in validation set for one network.

    Args:
        folder: where to put the class folders; made if need be.
        rank: the network: crops, uint8 (n, 224, 224, 3), to logits (n, 1000).
        images: number of pictures.
        top1_correct: how many shall be right.
        top5_correct: how many shall be right among the first five, the former included.
        seed: another seed draws other pictures.

    Raises:
        UsageError: the counts do not fit together, or the network's logits are too close to each other to tell.
        AccessError: the folder cannot be written.
    """
    if not 0 <= top1_correct <= top5_correct <= images:
        raise UsageError(
            "these counts cannot all be true",
            expected="0 <= top-1 correct <= top-5 correct <= images",
            got=f"{top1_correct}, {top5_correct}, {images}",
        )
    wanted: dict[Place, int] = {
        "first": top1_correct,
        "among five": top5_correct - top1_correct,
        "behind": images - top5_correct,
    }
    try:
        for number, (picture, label) in enumerate(_label_pictures(rank, wanted, seed)):
            class_folder = folder / synsets()[label]
            class_folder.mkdir(parents=True, exist_ok=True)
            (class_folder / f"standin_{number:05d}.JPEG").write_bytes(picture)
    except OSError as error:
        raise AccessError("the stand-in set cannot be written", where=str(folder), got=str(error)) from error
    return StandInSet(folder, images, top1_correct, top5_correct)


def draw_picture(number: int, seed: int = 0) -> bytes:
    """An encoded picture: coloured shapes over smooth noise, in one of several sizes.

    As in ImageNet, a few are greyscale JPEGs, CMYK JPEGs, or PNGs that are called JPEG.
    """
    generator = np.random.default_rng((seed, number))
    width, height = _SIZES[number % len(_SIZES)]
    coarse = generator.integers(0, 256, (5 + number % 7, 5 + number % 5, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    for _ in range(6):
        side = int(generator.integers(min(width, height) // 8, min(width, height) // 2))
        corner = int(generator.integers(0, width - side)), int(generator.integers(0, height - side))
        texture = generator.integers(0, 256, (side // 6 + 1, side // 6 + 1, 3), np.uint8)
        picture.paste(Image.fromarray(texture).resize((side, side), Image.Resampling.NEAREST), corner)
    file = io.BytesIO()
    if number % 16 == 13:
        picture.save(file, "PNG")
    else:
        mode = {5: "L", 9: "CMYK"}.get(number % 16, "RGB")
        picture.convert(mode).save(file, "JPEG", quality=90, subsampling=number % 3)
    return file.getvalue()


def _label_pictures(rank: Rank, wanted: dict[Place, int], seed: int) -> list[tuple[bytes, int]]:
    """Draws pictures until every place is taken, passing over those the network is undecided about."""
    outstanding = dict(wanted)
    labelled: list[tuple[bytes, int]] = []
    most = _DRAWS_PER_PICTURE * sum(wanted.values())
    for start in range(0, most, _RANK_BATCH):
        pictures = [draw_picture(number, seed) for number in range(start, start + _RANK_BATCH)]
        for picture, logits in zip(pictures, rank(np.stack([crop_image(data) for data in pictures])), strict=True):
            # The place with the most still to fill comes first, so that places alternate over the set.
            for place in sorted(outstanding, key=lambda place: -outstanding[place]):
                label = _clear_label(logits, place) if outstanding[place] else None
                if label is not None:
                    labelled.append((picture, label))
                    outstanding[place] -= 1
                    break
        if not any(outstanding.values()):
            return labelled
    raise UsageError(
        "the network's answers lie too close together for a stand-in set",
        expected=f"logits apart by {_CLEAR_MARGIN} of their spread for {sum(wanted.values())} of {most} pictures",
        got=f"{len(labelled)} such pictures",
        next_step="use a network with other weights, or another seed",
    )


def _clear_label(logits: npt.NDArray[np.floating], place: Place) -> int | None:
    """A class the network clearly puts at this place, or ``None`` if it is undecided."""
    order = np.argsort(-logits, kind="stable")
    values = logits[order]
    if place == "first":
        position, margin = 0, values[0] - values[1]
    elif place == "among five":
        # Of the second to fifth, the one farthest from becoming the first and from dropping out.
        gaps = np.minimum(values[0] - values[1:5], values[1:5] - values[5])
        position, margin = 1 + int(gaps.argmax()), gaps.max()
    else:
        position, margin = _BEHIND, values[4] - values[_BEHIND]
    return int(order[position]) if margin > _CLEAR_MARGIN * (values[0] - values[-1]) else None
