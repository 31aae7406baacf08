"""From an encoded image to the uint8 crop a network is shown, exactly as the published numbers were measured.

The short side is resized with one of Pillow's antialiased filters, then the centre cut out: to the last bit what
torchvision's and timm's ``Resize(256)``, ``CenterCrop(224)`` compute on Pillow images. EXIF rotation is not applied.
How large, and with which filter, is said by a :class:`~r2convert.catalog.protocol.Protocol`.

The width is resized first and the height of that result then, each pass rounded to uint8. Every Pillow up to 12 does
so; from 13 on it takes the height first where that shrinks more than twice as much, which is off by one in many
pixels of a tall picture. The two passes are asked for one by one here, so that all versions give the published crops.

:func:`crop_image` does that in so many words; :func:`fast_crop_function` gives the same bytes sooner.

JPEGs are decoded by simplejpeg where that gives exactly Pillow's pixels: a third faster. Both use libjpeg-turbo, but
not the same build of it. So nothing is taken on trust: before the first image, a few small ones of every kind are
decoded by both, and unless all pixels agree Pillow decodes everything.

There are two pipelines:

``pil``
    what torchvision's transforms do with Pillow: what all published Res2Net accuracies but one were measured with.
``opencv``
    what PaddleClas 2.6 does with OpenCV (``ResizeImage`` and ``CropImage`` of its validation configuration) for the
    accuracies it publishes: EXIF rotation applied, both sides scaled and rounded so that the short one is 256, plain
    interpolation without antialiasing, centre crop with the odd pixel on the right and at the bottom. Needs
    the extra ``opencv``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]
from PIL import Image, ImageOps, UnidentifiedImageError

from r2convert.catalog.protocol import Interpolation, Protocol
from r2convert.errors import UnreadableImageError, UsageError

STANDARD: Final = Protocol()
"""Short side 256, bilinear, crop 224: what nearly all published accuracies of ImageNet were measured with."""

RESIZED_SHORT_SIDE: Final = STANDARD.resize
CROP_SIDE: Final = STANDARD.crop

Pixels = npt.NDArray[np.uint8]
Crop = Pixels

FILTERS: Final[dict[Interpolation, Image.Resampling]] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
SUPPORT: Final[dict[Interpolation, float]] = {"bilinear": 1.0, "bicubic": 2.0}
"""How far a filter reaches, in source pixels, where the image does not shrink."""

# Pillow's own limit against decompression bombs, applied to the resized image too: a hair of 1x6000 becomes a giant.
_MOST_PIXELS = 178_956_970


def crop_image(data: bytes, protocol: Protocol = STANDARD) -> Crop:
    """Decodes an image, resizes it and cuts out its centre, all with Pillow: the reference.

    Args:
        data: an encoded image: JPEG of any colour space, or anything else Pillow reads.
        protocol: how; its pipeline is taken for ``pil``.

    Returns:
        uint8, shape (crop, crop, 3), red green blue.

    Raises:
        UnreadableImageError: the bytes are no image, stop in the middle of one, or describe an absurd one.
    """
    image = _decode(data)
    width, height = resized_size(*image.size, protocol.resize)
    image_filter, side = FILTERS[protocol.interpolation], protocol.crop
    resized = image.resize((width, image.height), image_filter).resize((width, height), image_filter)
    left, top = crop_corner(width, height, side)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def crop_function(protocol: Protocol = STANDARD) -> Callable[[bytes], Crop]:
    """The fastest function on a processor that gives exactly the crops of a protocol, from encoded images.

    Raises:
        UsageError: a package that the pipeline needs is not installed.
    """
    if protocol.pipeline == "opencv":
        return _opencv_crop_function(protocol)
    decode = pixel_function()
    return lambda data: crop_pixels(decode(data), protocol)


def crop_opened(image: Image.Image, protocol: Protocol = STANDARD) -> Crop:
    """The crop of an image that Pillow has opened or made, from its own pixels.

    Raises:
        UnreadableImageError: the file behind it is damaged, or it is absurdly long and thin.
        UsageError: a package that the pipeline needs is not installed.
    """
    with _explaining_decoder():
        # OpenCV turns what it reads as EXIF says, torchvision and timm do not.
        turned = ImageOps.exif_transpose(image) if protocol.pipeline == "opencv" else image
        pixels = np.asarray(turned.convert("RGB"))
    if protocol.pipeline == "pil":
        return crop_pixels(pixels, protocol)
    resized_size(*turned.size, protocol.resize)
    return opencv_crop_pixels(protocol)(pixels)


def pixel_function() -> Callable[[bytes], Pixels]:
    """A function from an encoded image to Pillow's pixels, uint8 (height, width, 3), the fastest on this machine.

    It raises ``UnreadableImageError`` where :func:`crop_image` does.
    """
    if not agrees_with_pillow():
        return _decode_pixels

    def decode(data: bytes) -> Pixels:
        pixels = decode_jpeg(data)
        return _decode_pixels(data) if pixels is None else pixels

    return decode


def crop_pixels(pixels: Pixels, protocol: Protocol = STANDARD) -> Crop:
    """Resizes and crops decoded pixels with Pillow, leaving out what the crop does not show.

    The first pass, over the width, needs only the source rows under the crop; the second only the columns of the
    crop. (``Image.resize(box=...)`` would save more and is not exact: its box is rounded to float32.)

    Args:
        pixels: uint8, shape (height, width, 3).
        protocol: how; its pipeline is taken for ``pil``.

    Returns:
        uint8, shape (crop, crop, 3), equal to what :func:`crop_image` cuts from the same pixels.

    Raises:
        UnreadableImageError: the image is absurdly long and thin.
    """
    height, width = pixels.shape[:2]
    side, image_filter = protocol.crop, FILTERS[protocol.interpolation]
    new_width, new_height = resized_size(width, height, protocol.resize)
    left, top = crop_corner(new_width, new_height, side)
    # The source rows under the crop, or a few more.
    scale = height / new_height
    reach = max(scale, 1.0) * SUPPORT[protocol.interpolation] + 1
    first, last = max(0, int(top * scale - reach)), min(height, int((top + side) * scale + reach) + 1)
    narrow = Image.fromarray(pixels[first:last]).resize((new_width, last - first), image_filter)
    # Back to full height, so that the second pass weighs the rows as it would those of the whole image.
    columns = narrow.crop((left, -first, left + side, height - first))
    resized = columns.resize((side, new_height), image_filter)
    return np.asarray(resized.crop((0, top, side, top + side)))


def resized_size(width: int, height: int, short_side: int = RESIZED_SHORT_SIDE) -> tuple[int, int]:
    """Width and height after resizing the short side; the long side is cut to an integer, not rounded.

    Raises:
        UnreadableImageError: the result would be larger than any image Pillow agrees to open.
    """
    if width <= height:
        resized = short_side, int(short_side * height / width)
    else:
        resized = int(short_side * width / height), short_side
    if resized[0] * resized[1] > _MOST_PIXELS:
        raise UnreadableImageError("the image is too long and thin", got=f"{width}x{height} pixels: too long and thin")
    return resized


def crop_corner(width: int, height: int, side: int = CROP_SIDE) -> tuple[int, int]:
    """Left and top of the central crop; halves go to the even neighbour, as Python's ``round`` takes them."""
    return round((width - side) / 2), round((height - side) / 2)


def _decode_pixels(data: bytes) -> Pixels:
    return np.asarray(_decode(data))


def _decode(data: bytes) -> Image.Image:
    with _explaining_decoder(), Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


@contextmanager
def _explaining_decoder() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        # Pillow's own message names an address in memory.
        raise UnreadableImageError("the image cannot be decoded", got="no image of a known format") from error
    except Exception as error:
        # Whatever a decoder stumbles over in damaged bytes, this one image is unreadable and the next one is not.
        raise UnreadableImageError("the image cannot be decoded", got=str(error) or type(error).__name__) from error


# Other colour spaces (CMYK, YCCK) are converted to RGB by Pillow's own rules.
_COLOUR_SPACES = ("YCbCr", "Gray")


def decode_jpeg(data: bytes) -> Pixels | None:
    """The pixels of a common, sound JPEG; ``None`` for anything else, which is for Pillow to judge.

    Returns:
        uint8, shape (height, width, 3), red green blue.
    """
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(data)
        if colour_space not in _COLOUR_SPACES or height * width > (Image.MAX_IMAGE_PIXELS or 0):
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    except ValueError:
        # Not a JPEG, damaged, or merely odd: Pillow reads some of what the strict decoder refuses.
        return None
    return pixels


def agrees_with_pillow(decode: Callable[[bytes], Pixels | None] = decode_jpeg) -> bool:
    """Whether a decoder gives Pillow's pixels for each chroma subsampling, baseline and progressive, and greyscale."""
    for data in _probes():
        pixels = decode(data)
        with Image.open(io.BytesIO(data)) as image:
            if pixels is None or not np.array_equal(pixels, np.asarray(image.convert("RGB"))):
                return False
    return True


def _probes() -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (45, 61, 3), np.uint8)
    picture = Image.fromarray(noise)
    probes = []
    for subsampling, progressive, quality in product((0, 1, 2), (False, True), (60, 96)):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
        probes.append(file.getvalue())
    file = io.BytesIO()
    picture.convert("L").save(file, "JPEG")
    return [*probes, file.getvalue()]


def _opencv_crop_function(protocol: Protocol) -> Callable[[bytes], Crop]:
    """A function from an encoded image to its crop, red green blue, with OpenCV."""
    crop_decoded = opencv_crop_pixels(protocol)
    import cv2

    def crop(data: bytes) -> Crop:
        # OpenCV before 5 makes up what is cut off. Whether an image is sound is for Pillow to say, as for `pil`.
        resized_size(*_decode(data).size, protocol.resize)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise UnreadableImageError("the image cannot be decoded", got="OpenCV reads no image from it")
        blue_green_red = crop_decoded(np.asarray(pixels, np.uint8))
        return np.ascontiguousarray(blue_green_red[:, :, ::-1])

    return crop


def opencv_crop_pixels(protocol: Protocol = STANDARD) -> Callable[[Pixels], Crop]:
    """A function that resizes and crops decoded pixels with OpenCV; the order of their channels does not matter.

    Raises:
        UsageError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            "this pipeline needs OpenCV",
            got=str(error),
            next_step="pip install opencv-python-headless",
        ) from error
    side = protocol.crop
    image_filter = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[protocol.interpolation]

    def crop(pixels: Pixels) -> Crop:
        height, width = pixels.shape[:2]
        scale = protocol.resize / min(height, width)
        new_width, new_height = round(width * scale), round(height * scale)
        resized = cv2.resize(pixels, (new_width, new_height), interpolation=image_filter)
        left, top = (new_width - side) // 2, (new_height - side) // 2
        return np.ascontiguousarray(resized[top : top + side, left : left + side], np.uint8)

    return crop
