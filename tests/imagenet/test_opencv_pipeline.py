"""Crops as PaddleClas makes them."""

import io
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r2convert.errors import UnreadableImageError, UsageError
from r2convert.imagenet.preprocessing import crop_image, opencv_crop_function

Encode = Callable[..., bytes]


@settings(deadline=None, max_examples=40)
@given(width=st.integers(30, 700), height=st.integers(30, 700))
def test_pixels_are_interpolated_between_their_four_neighbours(width: int, height: int) -> None:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    crop = opencv_crop_function()(file.getvalue())
    assert crop.shape == (224, 224, 3)
    assert crop.dtype == np.uint8
    scale = 256 / min(width, height)
    new_width, new_height = round(width * scale), round(height * scale)
    for y, x in ((0, 0), (100, 17), (223, 223)):
        across = ((new_width - 224) // 2 + x + 0.5) * width / new_width - 0.5
        down = ((new_height - 224) // 2 + y + 0.5) * height / new_height - 0.5
        left, top = int(np.floor(across)), int(np.floor(down))
        right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
        left, top = max(left, 0), max(top, 0)
        share_x, share_y = across - np.floor(across), down - np.floor(down)
        upper = pixels[top, left] * (1 - share_x) + pixels[top, right] * share_x
        lower = pixels[bottom, left] * (1 - share_x) + pixels[bottom, right] * share_x
        assert np.abs(crop[y, x] - (upper * (1 - share_y) + lower * share_y)).max() <= 1


def test_the_two_pipelines_differ(encode_picture: Encode) -> None:
    data = encode_picture(900, 700)
    assert np.abs(opencv_crop_function()(data).astype(int) - crop_image(data)).max() > 8


def test_rotation_in_the_metadata_is_applied() -> None:
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:128] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    crop = opencv_crop_function()(file.getvalue())
    assert crop[:100].max() < 20
    assert crop[-100:].min() > 235


def test_what_is_cut_off_is_not_made_up(encode_picture: Encode) -> None:
    data = encode_picture()
    for damaged in (data[: len(data) // 2], b"", b"no image"):
        with pytest.raises(UnreadableImageError):
            opencv_crop_function()(damaged)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError) as caught:
        opencv_crop_function()
    assert "r2convert[opencv]" in str(caught.value.next_step)
