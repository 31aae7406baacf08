"""From an encoded image to the uint8 crop a network is shown, exactly as the published numbers were measured.

Short side to 256 with Pillow's antialiased bilinear filter, then the central 224x224: what torchvision's
``Resize(256)``, ``CenterCrop(224)`` on Pillow images compute, rounding included. EXIF rotation is not applied.

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
    bilinear interpolation without antialiasing, centre crop with the odd pixel on the right and at the bottom. Needs
    the extra ``opencv``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import product

import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]
from PIL import Image, UnidentifiedImageError

from r2convert.catalog.protocol import Pipeline
from r2convert.errors import UnreadableImageError, UsageError

RESIZED_SHORT_SIDE = 256
CROP_SIDE = 224

Pixels = npt.NDArray[np.uint8]
Crop = Pixels

# Pillow's own limit against decompression bombs, applied to the resized image too: a hair of 1x6000 becomes a giant.
_MOST_PIXELS = 178_956_970


def crop_image(data: bytes) -> Crop:
    """Decodes an image, resizes it and cuts out its centre, all with Pillow: the reference.

    Args:
        data: an encoded image: JPEG of any colour space, or anything else Pillow reads.

    Returns:
        uint8, shape (224, 224, 3), red green blue.

    Raises:
        UnreadableImageError: the bytes are no image, stop in the middle of one, or describe an absurd one.
    """
    image = _decode(data)
    new_width, new_height = resized_size(*image.size)
    resized = _resize(_resize(image, new_width, image.height), new_width, new_height)
    left, top = crop_corner(new_width, new_height)
    return np.asarray(resized.crop((left, top, left + CROP_SIDE, top + CROP_SIDE)))


def fast_crop_function() -> Callable[[bytes], Crop]:
    """A function that gives the bytes of :func:`crop_image`, for any data, in less time on this machine."""
    decode = pixel_function()
    return lambda data: crop_pixels(decode(data))


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


def crop_pixels(pixels: Pixels) -> Crop:
    """Resizes and crops decoded pixels, leaving out what the crop does not show.

    The first pass, over the width, needs only the source rows under the crop; the second only the columns of the
    crop. (``Image.resize(box=...)`` would save more and is not exact: its box is rounded to float32.)

    Args:
        pixels: uint8, shape (height, width, 3).

    Returns:
        uint8, shape (224, 224, 3), equal to what :func:`crop_image` cuts from the same pixels.

    Raises:
        UnreadableImageError: the image is absurdly long and thin.
    """
    height, width = pixels.shape[:2]
    new_width, new_height = resized_size(width, height)
    left, top = crop_corner(new_width, new_height)
    first, last = _source_rows(height, new_height, top)
    narrow = _resize(Image.fromarray(pixels[first:last]), new_width, last - first)
    # Back to full height, so that the second pass weighs the rows as it would those of the whole image.
    columns = narrow.crop((left, -first, left + CROP_SIDE, height - first))
    resized = _resize(columns, CROP_SIDE, new_height)
    return np.asarray(resized.crop((0, top, CROP_SIDE, top + CROP_SIDE)))


def resized_size(width: int, height: int) -> tuple[int, int]:
    """Width and height after bringing the short side to 256; the long side is cut to an integer, not rounded.

    Raises:
        UnreadableImageError: the result would be larger than any image Pillow agrees to open.
    """
    if width <= height:
        resized = RESIZED_SHORT_SIDE, int(RESIZED_SHORT_SIDE * height / width)
    else:
        resized = int(RESIZED_SHORT_SIDE * width / height), RESIZED_SHORT_SIDE
    if resized[0] * resized[1] > _MOST_PIXELS:
        raise UnreadableImageError("the image is too long and thin", got=f"{width}x{height} pixels: too long and thin")
    return resized


def crop_corner(width: int, height: int) -> tuple[int, int]:
    """Left and top of the central crop; halves go to the even neighbour, as Python's ``round`` takes them."""
    return round((width - CROP_SIDE) / 2), round((height - CROP_SIDE) / 2)


def _source_rows(height: int, new_height: int, top: int) -> tuple[int, int]:
    """First and last (excluded) source row under rows ``top`` to ``top + 223`` of the result, or a few more."""
    scale = height / new_height
    reach = max(scale, 1.0) + 1
    return max(0, int(top * scale - reach)), min(height, int((top + CROP_SIDE) * scale + reach) + 1)


def require_readable(data: bytes) -> None:
    """Raises ``UnreadableImageError`` unless Pillow decodes the whole image and its shape is no absurd one."""
    resized_size(*_decode(data).size)


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _decode_pixels(data: bytes) -> Pixels:
    return np.asarray(_decode(data))


def _decode(data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
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


def opencv_crop_pixels() -> Callable[[Pixels], Crop]:
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

    def crop(pixels: Pixels) -> Crop:
        height, width = pixels.shape[:2]
        scale = RESIZED_SHORT_SIDE / min(height, width)
        new_width, new_height = round(width * scale), round(height * scale)
        resized = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        left, top = (new_width - CROP_SIDE) // 2, (new_height - CROP_SIDE) // 2
        return np.ascontiguousarray(resized[top : top + CROP_SIDE, left : left + CROP_SIDE], np.uint8)

    return crop


def crop_function(pipeline: Pipeline) -> Callable[[bytes], Crop]:
    """The fastest function on a processor that gives exactly the pipeline's crops.

    Raises:
        UsageError: a package that the pipeline needs is not installed.
    """
    return opencv_crop_function() if pipeline == "opencv" else fast_crop_function()
