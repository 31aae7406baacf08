"""Crops in batches on a device: resized there or here, kept or read again, they are the same."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from r2convert.errors import AccessError
from r2convert.imagenet.crop_store import CropCache, KeptCrops
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.loader import CropSource, DeviceCrops, HostCrops, reader
from r2convert.imagenet.preprocessing import crop_image, pixel_function
from r2convert.imagenet.validation_set import LoadedImage, ValidationImage, ValidationSet

CPU = torch.device("cpu")
Found = tuple[list[LoadedImage], npt.NDArray[np.uint8]]


@pytest.fixture
def images(tmp_path: Path, write_picture: Callable[..., Path]) -> ValidationSet:
    """Pictures of many sizes and kinds, one too large for the buffer, one damaged, one missing."""
    folder = tmp_path / "set" / "n01440764"
    sizes = [(300, 280), (280, 300), (224, 224), (256, 256), (90, 400), (1300, 900), (500, 375)]
    for number, (width, height) in enumerate(sizes):
        write_picture(folder / f"{number}.JPEG", seed=number, width=width, height=height)
    write_picture(folder / "7.JPEG", seed=7, format="PNG")
    write_picture(folder / "8.JPEG", seed=8, mode="CMYK")
    (folder / "9.JPEG").write_bytes((folder / "0.JPEG").read_bytes()[:300])
    found = open_validation_set(tmp_path / "set")
    return replace(found, images=(*found.images, ValidationImage("gone", 0, None)))


def read_all(source: CropSource, images: ValidationSet, batch_size: int) -> Found:
    loaded: list[LoadedImage] = []
    crops = []
    for batch in source.batches(images.images, batch_size):
        found = batch.outcome()
        assert batch.images == tuple(each.image for each in found)
        assert batch.problems == tuple(each.problem for each in found)
        loaded += found
        crops.append(batch.crops[: len(found)].numpy().copy())
    assert [each.image for each in loaded] == list(images.images)
    return loaded, np.concatenate(crops)


def host_crops() -> HostCrops:
    return HostCrops(reader(crop_image), CPU, workers=2)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_crops_resized_on_the_device_are_those_of_pillow(images: ValidationSet, batch_size: int) -> None:
    expected, expected_crops = read_all(host_crops(), images, batch_size)
    found, crops = read_all(DeviceCrops(pixel_function(), CPU, workers=2), images, batch_size)
    assert found == expected
    assert np.array_equal(crops, expected_crops)
    assert [each.problem is None for each in found] == [True] * 9 + [False] * 2


def test_no_images_give_no_batches() -> None:
    sources: tuple[CropSource, ...] = (host_crops(), DeviceCrops(pixel_function(), CPU, workers=2))
    for source in sources:
        assert list(source.batches((), 8)) == []


def test_a_cache_is_filled_and_used(images: ValidationSet, tmp_path: Path) -> None:
    decoded: list[int] = []
    decode = pixel_function()

    def counting(data: bytes) -> npt.NDArray[np.uint8]:
        decoded.append(len(data))
        return decode(data)

    expected = read_all(host_crops(), images, 4)
    for readable in (9, 0):
        decoded.clear()
        source = DeviceCrops(counting, CPU, 2, CropCache(tmp_path / "cache", images, "pil"))
        found, crops = read_all(source, images, 4)
        assert found == expected[0]
        assert np.array_equal(crops, expected[1])
        assert len(decoded) == readable + 1  # the damaged one is tried every time
    assert (tmp_path / "cache").is_dir()


def test_a_cache_on_a_full_disk_is_named(images: ValidationSet, tmp_path: Path) -> None:
    cache = CropCache(tmp_path / "cache", images, "pil")
    cache.crops_path.unlink()
    cache.crops_path.symlink_to("/dev/full")
    with pytest.raises(AccessError, match="crops cannot be kept"):
        read_all(DeviceCrops(pixel_function(), CPU, 2, cache), images, 4)


@pytest.mark.parametrize(("most_bytes", "read_again"), [(None, 0), (1000, 10)])
def test_crops_that_fit_are_not_read_again(images: ValidationSet, most_bytes: int | None, read_again: int) -> None:
    read: list[str] = []

    def counting(image: ValidationImage) -> npt.NDArray[np.uint8]:
        read.append(image.id)
        return reader(crop_image)(image)

    kept = KeptCrops(HostCrops(counting, CPU, workers=2), CPU, images.images, most_bytes)
    first, first_crops = read_all(kept, images, 4)
    read.clear()
    second, second_crops = read_all(kept, images, 3)
    assert len(read) == read_again
    assert second == first
    assert np.array_equal(second_crops, first_crops)
    some = replace(images, images=images.images[::-2])
    assert read_all(kept, some, 2)[0] == first[::-2]


def test_what_was_kept_of_a_part_only_is_read_anew_with_the_rest(images: ValidationSet) -> None:
    kept = KeptCrops(host_crops(), CPU, images.images)
    read_all(kept, replace(images, images=images.images[:4]), 3)
    assert read_all(kept, images, 3)[0] == read_all(host_crops(), images, 3)[0]
