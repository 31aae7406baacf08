"""From an encoded image to the uint8 crop a network is shown, exactly as the published numbers were measured.

Short side to 256 with Pillow's antialiased bilinear filter, then the central 224x224: what torchvision's
``Resize(256)``, ``CenterCrop(224)`` on Pillow images compute, rounding included. EXIF rotation is not applied.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2convert.errors import UnreadableImageError

PIPELINE = "pil"
RESIZED_SHORT_SIDE = 256
CROP_SIDE = 224

Crop = npt.NDArray[np.uint8]


def crop_image(data: bytes) -> Crop:
    """Decodes an image, resizes it and cuts out its centre.

    Args:
        data: an encoded image: JPEG of any colour space, or anything else Pillow reads.

    Returns:
        uint8, shape (224, 224, 3), red green blue.

    Raises:
        UnreadableImageError: the bytes are no image, or stop in the middle of one.
    """
    image = _decode(data)
    width, height = image.size
    resized = image.resize(resized_size(width, height), Image.Resampling.BILINEAR)
    left, top = crop_corner(*resized.size)
    return np.asarray(resized.crop((left, top, left + CROP_SIDE, top + CROP_SIDE)))


def resized_size(width: int, height: int) -> tuple[int, int]:
    """Width and height after bringing the short side to 256; the long side is cut to an integer, not rounded."""
    if width <= height:
        return RESIZED_SHORT_SIDE, int(RESIZED_SHORT_SIDE * height / width)
    return int(RESIZED_SHORT_SIDE * width / height), RESIZED_SHORT_SIDE


def crop_corner(width: int, height: int) -> tuple[int, int]:
    """Left and top of the central crop; halves go to the even neighbour, as Python's ``round`` takes them."""
    return round((width - CROP_SIDE) / 2), round((height - CROP_SIDE) / 2)


def _decode(data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:
        # Whatever a decoder stumbles over in damaged bytes, this one image is unreadable and the next one is not.
        raise UnreadableImageError("the image cannot be decoded", got=str(error) or type(error).__name__) from error
