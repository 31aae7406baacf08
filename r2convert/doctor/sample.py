"""The few images on which everything is tried: read once, then cropped in as many ways as are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2convert.doctor.crops import CropPixels
from r2convert.errors import UnreadableImageError
from r2convert.imagenet.preprocessing import Crop, resized_size
from r2convert.imagenet.validation_set import ValidationImage

Decode = Callable[[bytes], npt.NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Block:
    """Some images of the sample, decoded.

    Args:
        images: those that could be read.
        pixels: each one's pixels, uint8 (height, width, 3).
        lost: names of those that could not.
    """

    images: tuple[ValidationImage, ...]
    pixels: tuple[npt.NDArray[np.uint8], ...]
    lost: tuple[str, ...]

    def crops(self, crop: CropPixels, pool: ThreadPoolExecutor) -> Crop:
        """Every picture cropped in one way: uint8, shape (images, 224, 224, 3)."""
        return np.stack(list(pool.map(crop, self.pixels)))


def shuffled(images: Sequence[ValidationImage], seed: int) -> list[ValidationImage]:
    """The images in a drawn order, so that the first of them stand for all of them."""
    order = np.random.default_rng(seed).permutation(len(images))
    return [images[position] for position in order]


def read_block(images: Sequence[ValidationImage], decode: Decode, pool: ThreadPoolExecutor) -> Block:
    """Reads and decodes images; missing and unreadable ones are told apart from the rest."""
    decoded = list(pool.map(lambda image: _pixels(image, decode), images))
    readable = [(image, pixels) for image, pixels in zip(images, decoded, strict=True) if pixels is not None]
    return Block(
        tuple(image for image, _ in readable),
        tuple(pixels for _, pixels in readable),
        tuple(image.id for image, pixels in zip(images, decoded, strict=True) if pixels is None),
    )


def _pixels(image: ValidationImage, decode: Decode) -> npt.NDArray[np.uint8] | None:
    if image.location is None:
        return None
    try:
        pixels = decode(image.location.read())
        resized_size(pixels.shape[1], pixels.shape[0])
    except (UnreadableImageError, OSError):
        return None
    return pixels
