"""Crops kept on disk."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from r2convert.errors import AccessError, UnreadableImageError
from r2convert.imagenet.crop_store import CropCache
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.loader import reader
from r2convert.imagenet.preprocessing import Crop, crop_image
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet


@pytest.fixture
def images(tmp_path: Path, write_picture: Callable[..., Path]) -> ValidationSet:
    for seed in range(4):
        write_picture(tmp_path / "set" / "n01440764" / f"{seed}.JPEG", seed=seed)
    return open_validation_set(tmp_path / "set")


class Counting:
    """Reads crops and remembers of what."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, image: ValidationImage) -> Crop:
        self.read.append(image.id)
        return reader(crop_image)(image)


def read_all(cache: CropCache, images: ValidationSet) -> tuple[list[Crop], list[str]]:
    counting = Counting()
    read = cache.through(counting)
    return [read(image).copy() for image in images.images], counting.read


def test_a_second_run_decodes_nothing(images: ValidationSet, tmp_path: Path) -> None:
    first, decoded = read_all(CropCache(tmp_path / "cache", images, "pil"), images)
    assert decoded == [image.id for image in images.images]
    second, decoded = read_all(CropCache(tmp_path / "cache", images, "pil"), images)
    assert decoded == []
    assert np.array_equal(first, second)
    assert np.array_equal(first, [reader(crop_image)(image) for image in images.images])


def test_the_file_is_a_plain_array(images: ValidationSet, tmp_path: Path) -> None:
    cache = CropCache(tmp_path / "cache", images, "pil")
    crops, _ = read_all(cache, images)
    assert np.array_equal(np.fromfile(cache.crops_path, np.uint8).reshape(4, 224, 224, 3), crops)


@pytest.mark.parametrize("damage", ["pixel", "digest", "shorter crops", "shorter digests", "half a crop"])
def test_what_a_killed_run_leaves_costs_time_and_no_pixel(images: ValidationSet, tmp_path: Path, damage: str) -> None:
    cache = CropCache(tmp_path / "cache", images, "pil")
    crops, _ = read_all(cache, images)
    third_crop = 2 * 224 * 224 * 3
    if damage == "pixel":
        data = cache.crops_path.read_bytes()
        cache.crops_path.write_bytes(data[:third_crop] + bytes([data[third_crop] ^ 1]) + data[third_crop + 1 :])
    elif damage == "digest":
        data = cache.digests_path.read_bytes()
        cache.digests_path.write_bytes(data[:70] + bytes(5) + data[75:])
    elif damage == "shorter crops":
        os.truncate(cache.crops_path, third_crop)
    elif damage == "shorter digests":
        os.truncate(cache.digests_path, 64)
    else:
        data = cache.crops_path.read_bytes()
        cache.crops_path.write_bytes(data[: third_crop + 1000] + bytes(len(data) - third_crop - 1000))
    again, decoded = read_all(CropCache(tmp_path / "cache", images, "pil"), images)
    assert np.array_equal(again, crops)
    assert set(decoded) <= {images.images[2].id, images.images[3].id}
    assert images.images[2].id in decoded


def test_changed_images_get_a_new_cache(
    images: ValidationSet, tmp_path: Path, write_picture: Callable[..., Path]
) -> None:
    read_all(CropCache(tmp_path / "cache", images, "pil"), images)
    write_picture(tmp_path / "set" / "n01440764" / "1.JPEG", seed=77)
    _, decoded = read_all(CropCache(tmp_path / "cache", images, "pil"), images)
    assert len(decoded) == 4


def test_each_pipeline_has_its_own(images: ValidationSet, tmp_path: Path) -> None:
    read_all(CropCache(tmp_path / "cache", images, "pil"), images)
    _, decoded = read_all(CropCache(tmp_path / "cache", images, "opencv"), images)
    assert len(decoded) == 4


def test_unreadable_images_are_not_kept(images: ValidationSet, tmp_path: Path) -> None:
    (tmp_path / "set" / "n01440764" / "1.JPEG").write_bytes(b"damaged")
    read = CropCache(tmp_path / "cache", images, "pil").through(reader(crop_image))
    for _ in range(2):
        with pytest.raises(UnreadableImageError):
            read(images.images[1])


def test_a_folder_that_cannot_be_made_is_named(images: ValidationSet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AccessError, match="crops cannot be kept"):
        CropCache(tmp_path / "file" / "cache", images, "pil")


def test_a_full_disk_is_named(images: ValidationSet, tmp_path: Path) -> None:
    cache = CropCache(tmp_path / "cache", images, "pil")
    cache.crops_path.unlink()
    cache.crops_path.symlink_to("/dev/full")
    with pytest.raises(AccessError, match="crops cannot be kept"):
        read_all(cache, images)
