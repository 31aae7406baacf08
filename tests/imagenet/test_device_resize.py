"""Resizing by float64 matrix products gives Pillow's bytes."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r2convert.errors import UnreadableImageError
from r2convert.imagenet.device_resize import DeviceCropper, crop_function_on, resampling_weights
from r2convert.imagenet.pipeline import crop_image, crop_pixels

TORCHVISION = Path(__file__).parents[1] / "data" / "imagenet" / "torchvision_crops.json"


def test_crops_are_those_of_torchvision() -> None:
    cropper = DeviceCropper(torch.device("cpu"))
    for recorded in json.loads(TORCHVISION.read_text())["images"]:
        width, height = recorded["width"], recorded["height"]
        pixels = np.random.RandomState(10_000 * width + height).randint(0, 256, (height, width, 3)).astype(np.uint8)
        crop = cropper.crop(torch.from_numpy(pixels))
        assert hashlib.sha256(crop.numpy().tobytes()).hexdigest() == recorded["crop_sha256"], (width, height)


@settings(deadline=None)
@given(width=st.integers(1, 600), height=st.integers(1, 600), seed=st.integers(0, 99), bright=st.booleans())
def test_any_size_gives_the_bytes_of_pillow(width: int, height: int, seed: int, bright: bool) -> None:
    height, width = max(height, width // 30 + 1), max(width, height // 30 + 1)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    if bright:
        pixels = np.where(pixels > 127, 255, 0).astype(np.uint8)
    assert np.array_equal(DeviceCropper(torch.device("cpu")).crop(torch.from_numpy(pixels)), crop_pixels(pixels))


@settings(deadline=None, max_examples=200)
@given(size=st.integers(1, 3000), new_size=st.integers(256, 900))
def test_weights_are_those_that_pillow_applies(size: int, new_size: int) -> None:
    first = round((new_size - 224) / 2)
    needed, weights = resampling_weights(size, new_size, first)
    line = np.random.default_rng(size * new_size).integers(0, 256, (1, size), np.uint8)
    by_pillow = np.asarray(Image.fromarray(line).resize((new_size, 1), Image.Resampling.BILINEAR))
    by_weights = np.clip((weights @ line[0, needed] + 2**21) // 2**22, 0, 255)
    assert np.array_equal(by_weights, by_pillow[0, first : first + 224])


def test_weights_are_kept_and_bounded() -> None:
    cropper = DeviceCropper(torch.device("cpu"), kept_weights=3)
    pixels = np.random.default_rng(0).integers(0, 256, (320, 256, 3), np.uint8)
    for size in (300, 301, 302, 300, 303, 304, 300):
        assert np.array_equal(cropper.crop(torch.from_numpy(pixels[:size])), crop_pixels(pixels[:size]))


def test_threads_share_a_cropper(encode_picture: Callable[..., bytes]) -> None:
    crop = crop_function_on(torch.device("cpu"))
    pictures = [encode_picture(300 + number, 260, seed=number) for number in range(24)]
    pictures += [encode_picture(280, 300, format="PNG"), encode_picture(280, 300, mode="CMYK")]
    with ThreadPoolExecutor(6) as pool:
        crops = list(pool.map(crop, pictures * 2))
    assert np.array_equal(crops, [crop_image(picture) for picture in pictures * 2])


def test_a_device_with_other_bytes_is_not_used(
    encode_picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def off_by_one(self: DeviceCropper, pixels: torch.Tensor) -> torch.Tensor:
        return torch.ones((224, 224, 3), dtype=torch.uint8)

    monkeypatch.setattr(DeviceCropper, "crop", off_by_one)
    picture = encode_picture(300, 260)
    assert np.array_equal(crop_function_on(torch.device("cpu"))(picture), crop_image(picture))


def test_a_hair_is_refused() -> None:
    with pytest.raises(UnreadableImageError):
        DeviceCropper(torch.device("cpu")).crop(torch.zeros((60_000, 1, 3), dtype=torch.uint8))
