"""Resizing by gathered pixels in int32 gives Pillow's bytes."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r2convert.catalog.protocol import Protocol
from r2convert.errors import UnreadableImageError
from r2convert.imagenet import device_resize
from r2convert.imagenet.device_resize import (
    SOURCE_SIDE,
    SourceReader,
    resample,
    resamples_exactly,
    resampling_pass,
)
from r2convert.imagenet.preprocessing import Pixels, crop_image, crop_pixels

TORCHVISION = Path(__file__).parents[1] / "data" / "imagenet" / "torchvision_crops.json"


def crop_together(pictures: list[Pixels], reader: SourceReader | None = None) -> Pixels:
    # What lies beside a picture in the buffer must not matter.
    sources = np.full((len(pictures), SOURCE_SIDE, SOURCE_SIDE, 3), 255, np.uint8)
    reader = reader or SourceReader()
    geometries = [reader.put(pixels, source) for pixels, source in zip(pictures, sources, strict=True)]
    crops: Pixels = resample(torch.from_numpy(sources), geometries).numpy()
    return crops


def test_crops_are_those_of_torchvision() -> None:
    for recorded in json.loads(TORCHVISION.read_text())["images"]:
        width, height = recorded["width"], recorded["height"]
        pixels = np.random.RandomState(10_000 * width + height).randint(0, 256, (height, width, 3)).astype(np.uint8)
        (crop,) = crop_together([pixels])
        assert hashlib.sha256(crop.tobytes()).hexdigest() == recorded["crop_sha256"], (width, height)


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 700), st.integers(1, 700)), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    bright=st.booleans(),
)
def test_any_sizes_together_give_the_bytes_of_pillow(sizes: list[tuple[int, int]], seed: int, bright: bool) -> None:
    pictures = []
    for width, height in sizes:
        shape = max(height, width // 30 + 1), max(width, height // 30 + 1), 3
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        pictures.append(np.where(pixels > 127, 255, 0).astype(np.uint8) if bright else pixels)
    crops = crop_together(pictures)
    for crop, pixels in zip(crops, pictures, strict=True):
        assert np.array_equal(crop, crop_pixels(pixels))


@settings(deadline=None, max_examples=200)
@given(size=st.integers(1, 3000), new_size=st.integers(256, 900))
def test_weights_are_those_that_pillow_applies(size: int, new_size: int) -> None:
    first = round((new_size - 224) / 2)
    found = resampling_pass(size, new_size, first)
    line = np.random.default_rng(size * new_size).integers(0, 256, (1, size), np.uint8)
    by_pillow = np.asarray(Image.fromarray(line).resize((new_size, 1), Image.Resampling.BILINEAR))
    needed = line[0, found.needed].astype(np.int64)
    for output in range(224):
        start = found.starts[output]
        sources = needed[start : start + found.weights.shape[1]]
        total = int(sources @ found.weights[output, : len(sources)])
        assert not found.weights[output, len(sources) :].any()
        assert min((total + 2**21) >> 22, 255) == by_pillow[0, first + output]


def test_more_pictures_than_are_resized_at_once() -> None:
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (200 + number, 330 - number, 3), np.uint8) for number in range(130)]
    assert np.array_equal(crop_together(pictures), [crop_pixels(pixels) for pixels in pictures])


def test_no_pictures_give_no_crops() -> None:
    assert crop_together([]).shape == (0, 224, 224, 3)


def test_weights_are_kept_and_bounded() -> None:
    reader = SourceReader(kept_passes=3)
    pixels = np.random.default_rng(0).integers(0, 256, (320, 256, 3), np.uint8)
    for size in (300, 301, 302, 300, 303, 304, 300):
        assert np.array_equal(crop_together([pixels[:size]], reader), [crop_pixels(pixels[:size])])


def test_a_large_picture_is_handed_over_as_its_crop() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8)
    source = np.zeros((SOURCE_SIDE, SOURCE_SIDE, 3), np.uint8)
    SourceReader().put(pixels, source)
    assert np.array_equal(source[:224, :224], crop_pixels(pixels))


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(40, 900),
    height=st.integers(40, 900),
    protocol=st.sampled_from(
        [Protocol(256, 224, "bicubic"), Protocol(248, 224, "bicubic"), Protocol(320, 320), Protocol(64, 48, "bicubic")]
    ),
)
def test_other_sizes_and_filters_are_those_of_pillow(width: int, height: int, protocol: Protocol) -> None:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    reader = SourceReader(protocol)
    sources = np.zeros((1, reader.side, reader.side, 3), np.uint8)
    geometry = reader.put(pixels, sources[0])
    (crop,) = resample(torch.from_numpy(sources), [geometry], protocol.crop).numpy()
    assert np.array_equal(crop, crop_pixels(pixels, protocol))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    assert np.array_equal(crop, crop_image(file.getvalue(), protocol))


def test_a_device_with_other_bytes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resamples_exactly(torch.device("cpu"))
    monkeypatch.setattr(
        device_resize,
        "crop_pixels",
        lambda pixels, protocol: np.minimum(crop_pixels(pixels, protocol), 254).astype(np.uint8),
    )
    assert not resamples_exactly(torch.device("cpu"))


def test_a_hair_is_refused() -> None:
    source = np.zeros((SOURCE_SIDE, SOURCE_SIDE, 3), np.uint8)
    with pytest.raises(UnreadableImageError):
        SourceReader().put(np.zeros((60_000, 1, 3), np.uint8), source)
