"""Stand-ins for what cannot be shipped: checkpoints with random weights, and images whose answer is known.

They have the names, shapes, containers and layouts of the real ones, and go through the same code.

Random weights follow a recipe that others can follow too, so that two implementations can be filled alike and their
logits compared; the golden logits in ``tests/data/golden`` were made with it.

Synthetic images are written as real image files and read back through the real pipeline. The network to be measured
ranks the classes of each; then each image is given, as its label, the class of a chosen rank: first for as many as
shall be right, second to fifth for those that shall count for top-5 only, far behind for the rest. Only ranks that lie
a clear margin apart are used, so that another batch size or device cannot change the counts.
"""

from __future__ import annotations

import io
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from r2convert.catalog.variant import Variant
from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import AccessError, UsageError
from r2convert.evaluation.backends import normalise
from r2convert.evaluation.precision import computing_in
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.preprocessing import Crop, crop_image
from r2convert.mapping.identity import resolve
from r2convert.mapping.tables import Expansion, Tables
from r2convert.models.build import load_network


def random_values(
    name: str, role: str, shape: tuple[int, ...], *, transposed: bool = False, seed: int = 0
) -> np.ndarray[Any, Any]:
    """Random values for one tensor.

    Weights are scaled by the square root of their fan-in, so that activations neither vanish nor explode.

    Args:
        name: its name in its file's layout, which seeds the generator.
        role: what it is, e.g. ``conv.weight``, ``bn.running_var``.
        shape: its shape in its file's layout.
        transposed: whether a linear weight is stored as (in, out).
        seed: random seed; another one gives another network.

    Returns:
        float64 values; for a counter of training batches, an int64 scalar.
    """
    if role == "bn.num_batches_tracked":
        return np.array(1000 + seed, dtype=np.int64)
    generator = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    values: np.ndarray[Any, Any] = np.asarray(generator.standard_normal(shape))
    if role == "bn.running_var":
        return np.asarray(1 + 0.1 * np.abs(values))
    if role == "bn.weight":
        return np.asarray(1 + 0.1 * values)
    if role in ("conv.weight", "linear.weight"):
        fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
        return np.asarray(values * np.sqrt(1 / fan_in))
    return np.asarray(0.1 * values)


Place = Literal["first", "among five", "behind"]
Rank = Callable[[Crop], npt.NDArray[np.floating]]

# Logit gaps below this share of the spread of an image's logits are not relied upon; float32 noise is 1e-5 of it.
_CLEAR_MARGIN = 1e-3
_RANK_BATCH = 8
_TRIES_PER_IMAGE = 8
_BEHIND = 300
_SIZES = ((500, 375), (375, 500), (640, 427), (256, 256), (331, 500), (224, 300), (1024, 683), (180, 240))


@dataclass(frozen=True, slots=True)
class SyntheticSet:
    """What was written, and what a sound measurement of it has to find.

    Args:
        folder: holds one folder a class, named by WordNet id.
        images: number of images.
        top1_correct: images whose label the network ranks first.
        top5_correct: images whose label it ranks among the first five.
    """

    folder: Path
    images: int
    top1_correct: int
    top5_correct: int


def write_synthetic_set(
    folder: Path, rank: Rank, *, images: int, top1_correct: int, top5_correct: int, seed: int = 0
) -> SyntheticSet:
    """Write a validation set of synthetic images for one network.

    Args:
        folder: where to put the class folders; made if need be.
        rank: the network: crops, uint8 (n, 224, 224, 3), to logits (n, 1000).
        images: number of images.
        top1_correct: how many shall be right.
        top5_correct: how many shall be right among the first five, the former included.
        seed: random seed of the images.

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
        for number, (image, label) in enumerate(_labelled_images(rank, wanted, seed)):
            class_folder = folder / synsets()[label]
            class_folder.mkdir(parents=True, exist_ok=True)
            (class_folder / f"standin_{number:05d}.JPEG").write_bytes(image)
    except OSError as error:
        raise AccessError("the synthetic images cannot be written", where=str(folder), got=str(error)) from error
    return SyntheticSet(folder, images, top1_correct, top5_correct)


def synthetic_image(number: int, seed: int = 0) -> bytes:
    """An encoded image: coloured shapes over smooth noise, in one of several sizes.

    As in ImageNet, a few are greyscale JPEGs, CMYK JPEGs, or PNGs that are called JPEG.
    """
    generator = np.random.default_rng((seed, number))
    width, height = _SIZES[number % len(_SIZES)]
    coarse = generator.integers(0, 256, (5 + number % 7, 5 + number % 5, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    for _ in range(6):
        side = int(generator.integers(min(width, height) // 8, min(width, height) // 2))
        corner = int(generator.integers(0, width - side)), int(generator.integers(0, height - side))
        texture = generator.integers(0, 256, (side // 6 + 1, side // 6 + 1, 3), np.uint8)
        image.paste(Image.fromarray(texture).resize((side, side), Image.Resampling.NEAREST), corner)
    file = io.BytesIO()
    if number % 16 == 13:
        image.save(file, "PNG")
    else:
        mode = {5: "L", 9: "CMYK"}.get(number % 16, "RGB")
        image.convert(mode).save(file, "JPEG", quality=90, subsampling=number % 3)
    return file.getvalue()


def _labelled_images(rank: Rank, wanted: dict[Place, int], seed: int) -> list[tuple[bytes, int]]:
    """Images for every place, without those the network is undecided about."""
    outstanding = dict(wanted)
    labelled: list[tuple[bytes, int]] = []
    most = _TRIES_PER_IMAGE * sum(wanted.values())
    for start in range(0, most, _RANK_BATCH):
        images = [synthetic_image(number, seed) for number in range(start, start + _RANK_BATCH)]
        for image, logits in zip(images, rank(np.stack([crop_image(data) for data in images])), strict=True):
            # The place with the most still to fill comes first, so that places alternate over the set.
            for place in sorted(outstanding, key=lambda place: -outstanding[place]):
                label = _clear_label(logits, place) if outstanding[place] else None
                if label is not None:
                    labelled.append((image, label))
                    outstanding[place] -= 1
                    break
        if not any(outstanding.values()):
            return labelled
    raise UsageError(
        "the network's logits lie too close together to label synthetic images",
        expected=f"logits apart by {_CLEAR_MARGIN} of their spread for {sum(wanted.values())} of {most} images",
        got=f"{len(labelled)} such images",
        next_step="use a network with other weights, or another random seed",
    )


def _clear_label(logits: npt.NDArray[np.floating], place: Place) -> int | None:
    """A class the network clearly ranks at this place, or ``None`` if it is undecided."""
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


def random_state_dict(
    expansion: Expansion, layout: str, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> OrderedDict[str, Tensor]:
    """A state dict with a layout's names and shapes and random weights, in the table's order."""
    state: OrderedDict[str, Tensor] = OrderedDict()
    for name, slot in expansion.names(layout).items():
        transposed = expansion.form_in(layout, slot) == "transposed"
        values = random_values(name, slot.role, expansion.shape_in(layout, slot), transposed=transposed, seed=seed)
        tensor = torch.from_numpy(values)
        state[name] = tensor if slot.is_counter else tensor.to(dtype)
    return state


def write_random_checkpoint(
    tables: Tables, variant: Variant, path: Path, *, layout: str = "official", legacy: bool = False, seed: int = 0
) -> None:
    """Write a checkpoint of random weights with torch itself.

    Args:
        tables: the tables of the catalogue.
        variant: which network.
        path: where to write.
        layout: whose names it gets.
        legacy: as torch wrote files before 1.6, instead of as a zip.
        seed: random seed; another one gives another network.
    """
    state = random_state_dict(tables.of(variant), layout, seed=seed)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)


def write_images_for(
    tables: Tables, checkpoint: Path, folder: Path, *, images: int, top1_correct: int, top5_correct: int
) -> SyntheticSet:
    """Write class folders of synthetic images on which a checkpoint's score is known by construction.

    Args:
        tables: the tables of the catalogue.
        checkpoint: whose ranking of the classes gives each image its label.
        folder: where to write the class folders.
        images: how many images.
        top1_correct: how many get the class ranked first as their label.
        top5_correct: how many get one of the first five, the former included.

    Raises:
        InputError: the checkpoint cannot be read.
        AccessError: the folder cannot be written.
    """
    with open_checkpoint(checkpoint) as opened:
        network = load_network(opened, resolve(tables, opened))

    def rank(crops: Crop) -> npt.NDArray[np.floating]:
        with computing_in("strict", torch.device("cpu")), torch.inference_mode():
            logits: npt.NDArray[np.floating] = network(normalise(torch.from_numpy(crops))).numpy()
        return logits

    return write_synthetic_set(folder, rank, images=images, top1_correct=top1_correct, top5_correct=top5_correct)
