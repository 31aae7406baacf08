"""From encoded images to crops."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r2convert.errors import UnreadableImageError
from r2convert.imagenet.preprocessing import (
    CROP_SIDE,
    crop_corner,
    crop_image,
    crop_pixels,
    fast_crop_function,
    resized_size,
)

Encode = Callable[..., bytes]
TORCHVISION = Path(__file__).parents[1] / "data" / "imagenet" / "torchvision_crops.json"


@pytest.mark.parametrize(
    "recorded", json.loads(TORCHVISION.read_text())["images"], ids=lambda entry: f"{entry['width']}x{entry['height']}"
)
def test_crops_are_those_of_torchvision(recorded: dict[str, Any]) -> None:
    width, height = recorded["width"], recorded["height"]
    pixels = np.random.RandomState(10_000 * width + height).randint(0, 256, (height, width, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    for crop in (crop_image(file.getvalue()), crop_pixels(pixels)):
        assert crop.shape == (224, 224, 3)
        assert hashlib.sha256(crop.tobytes()).hexdigest() == recorded["crop_sha256"]


@settings(deadline=None)
@given(width=st.integers(60, 6000), height=st.integers(60, 6000))
def test_the_short_side_becomes_256_and_the_crop_lies_inside(width: int, height: int) -> None:
    resized = resized_size(width, height)
    assert min(resized) == 256
    left, top = crop_corner(*resized)
    assert 0 <= left <= resized[0] - CROP_SIDE
    assert 0 <= top <= resized[1] - CROP_SIDE


@pytest.mark.parametrize(
    ("mode", "format"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG")]
)
def test_every_colour_space_becomes_rgb(encode_picture: Encode, mode: str, format: str) -> None:  # noqa: A002
    data = encode_picture(300, 260, mode=mode, format=format)
    crop = crop_image(data)
    # By hand: 300x260 is resized to int(256 * 300 / 260) = 295 by 256; the corner is round(35.5) = 36 and 16.
    by_hand = Image.open(io.BytesIO(data)).convert("RGB").resize((295, 256), Image.Resampling.BILINEAR)
    assert np.array_equal(crop, np.asarray(by_hand)[16:240, 36:260])


def test_rotation_in_the_metadata_is_not_applied(encode_picture: Encode) -> None:
    plain = Image.open(io.BytesIO(encode_picture(300, 260, format="PNG")))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [io.BytesIO(), io.BytesIO()]
    plain.save(files[0], "JPEG")
    plain.save(files[1], "JPEG", exif=exif)
    assert np.array_equal(crop_image(files[0].getvalue()), crop_image(files[1].getvalue()))


def test_a_picture_cut_short_is_unreadable_wherever_it_stops(encode_picture: Encode) -> None:
    data = encode_picture()
    for length in (0, 1, 2, 20, 200, len(data) // 2, len(data) - 200):
        with pytest.raises(UnreadableImageError):
            crop_image(data[:length])


@settings(deadline=None)
@given(
    data=st.binary(max_size=200), head=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a"])
)
def test_bytes_that_are_no_picture_are_unreadable(data: bytes, head: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        crop_image(head + data)


@settings(deadline=None)
@given(width=st.integers(1, 700), height=st.integers(1, 700), seed=st.integers(0, 99))
def test_the_short_way_gives_the_same_crop_for_any_size(width: int, height: int, seed: int) -> None:
    height, width = max(height, width // 50 + 1), max(width, height // 50 + 1)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    assert np.array_equal(crop_pixels(pixels), crop_image(file.getvalue()))


@pytest.mark.parametrize(("width", "height"), [(1, 60_000), (60_000, 1)])
def test_a_hair_is_unreadable_instead_of_filling_the_memory(encode_picture: Encode, width: int, height: int) -> None:
    data = encode_picture(width, height)
    for crop in (crop_image, fast_crop_function()):
        with pytest.raises(UnreadableImageError, match="too long and thin"):
            crop(data)
