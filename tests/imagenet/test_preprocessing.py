"""From encoded images to crops, with Pillow, a faster JPEG decoder and OpenCV."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r2convert.catalog.protocol import Protocol
from r2convert.errors import UnreadableImageError, UsageError
from r2convert.imagenet.preprocessing import (
    CROP_SIDE,
    Pixels,
    agrees_with_pillow,
    crop_corner,
    crop_function,
    crop_image,
    crop_pixels,
    decode_jpeg,
    resized_size,
)

Encode = Callable[..., bytes]
OPENCV = Protocol(pipeline="opencv")
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
    for crop in (crop_image, crop_function()):
        with pytest.raises(UnreadableImageError, match="too long and thin"):
            crop(data)


@settings(deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    progressive=st.booleans(),
    restart=st.sampled_from([0, 1, 7]),
    mode=st.sampled_from(["RGB", "L"]),
)
def test_pixels_are_those_of_pillow(
    width: int, height: int, quality: int, subsampling: str, progressive: bool, restart: int, mode: str
) -> None:
    noise = np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    Image.fromarray(noise).convert(mode).save(
        file, "JPEG", quality=quality, progressive=progressive, restart_marker_blocks=restart, **options
    )
    pixels = decode_jpeg(file.getvalue())
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(Image.open(file).convert("RGB")))


@pytest.mark.parametrize(("mode", "format"), [("CMYK", "JPEG"), ("RGB", "PNG"), ("RGB", "GIF")])
def test_other_pictures_are_left_to_pillow(encode_picture: Encode, mode: str, format: str) -> None:  # noqa: A002
    data = encode_picture(300, 260, mode=mode, format=format)
    assert decode_jpeg(data) is None
    assert np.array_equal(crop_function()(data), crop_image(data))


@settings(deadline=None)
@given(position=st.integers(0, 5000), value=st.binary(min_size=1, max_size=3), cut=st.integers(0, 400))
def test_damaged_pictures_are_read_as_pillow_reads_them(
    encode_picture: Encode, position: int, value: bytes, cut: int
) -> None:
    data = bytearray(encode_picture(90, 70))
    position %= len(data)
    data[position : position + len(value)] = value
    damaged = bytes(data[: len(data) - max(0, cut - 200)])
    try:
        expected = crop_image(damaged)
    except UnreadableImageError:
        with pytest.raises(UnreadableImageError):
            crop_function()(damaged)
    else:
        assert np.array_equal(crop_function()(damaged), expected)


def test_a_decoder_with_other_pixels_is_found_out() -> None:
    def one_off(data: bytes) -> Pixels | None:
        pixels = decode_jpeg(data)
        return None if pixels is None else pixels ^ (np.arange(pixels.size).reshape(pixels.shape) == 7)

    assert agrees_with_pillow()
    assert not agrees_with_pillow(one_off)
    assert not agrees_with_pillow(lambda data: None)


@settings(deadline=None, max_examples=40)
@given(width=st.integers(30, 700), height=st.integers(30, 700))
def test_pixels_are_interpolated_between_their_four_neighbours(width: int, height: int) -> None:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    crop = crop_function(OPENCV)(file.getvalue())
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
    assert np.abs(crop_function(OPENCV)(data).astype(int) - crop_image(data)).max() > 8


def test_rotation_in_the_metadata_is_applied() -> None:
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:128] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    crop = crop_function(OPENCV)(file.getvalue())
    assert crop[:100].max() < 20
    assert crop[-100:].min() > 235


def test_what_is_cut_off_is_not_made_up(encode_picture: Encode) -> None:
    data = encode_picture()
    for damaged in (data[: len(data) // 2], b"", b"no image"):
        with pytest.raises(UnreadableImageError):
            crop_function(OPENCV)(damaged)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError) as caught:
        crop_function(OPENCV)
    assert caught.value.next_step == "pip install opencv-python-headless"
