"""Crops as PaddleClas makes them for its published accuracies: with OpenCV, which does not antialias.

Decoded with EXIF rotation applied, both sides scaled and rounded so that the short one is 256, plain bilinear
interpolation, centre crop with the odd pixel on the right and at the bottom (PaddleClas 2.6, ``ResizeImage`` and
``CropImage`` of its validation configuration). Needs the extra ``opencv``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from r2convert.errors import UnreadableImageError, UsageError
from r2convert.imagenet.pipeline import CROP_SIDE, RESIZED_SHORT_SIDE, Crop, require_readable


def opencv_crop_function() -> Callable[[bytes], Crop]:
    """A function from an encoded image to its crop, uint8 (224, 224, 3), red green blue.

    Raises:
        UsageError: OpenCV is not installed.
    """
    crop_pixels = opencv_crop_pixels()
    import cv2

    def crop(data: bytes) -> Crop:
        # OpenCV before 5 makes up what is cut off. Whether a picture is sound is for Pillow to say, as for `pil`.
        require_readable(data)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise UnreadableImageError("the image cannot be decoded", got="OpenCV reads no image from it")
        blue_green_red = crop_pixels(np.asarray(pixels, np.uint8))
        return np.ascontiguousarray(blue_green_red[:, :, ::-1])

    return crop


def opencv_crop_pixels() -> Callable[[npt.NDArray[np.uint8]], Crop]:
    """The same for decoded pixels, uint8 (height, width, 3), whose channels keep their order.

    Raises:
        UsageError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            "this pipeline needs OpenCV",
            got=str(error),
            next_step='pip install "r2convert[opencv]"',
        ) from error

    def crop(pixels: npt.NDArray[np.uint8]) -> Crop:
        height, width = pixels.shape[:2]
        scale = RESIZED_SHORT_SIDE / min(height, width)
        new_width, new_height = round(width * scale), round(height * scale)
        resized = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        left, top = (new_width - CROP_SIDE) // 2, (new_height - CROP_SIDE) // 2
        return np.ascontiguousarray(resized[top : top + CROP_SIDE, left : left + CROP_SIDE], np.uint8)

    return crop
