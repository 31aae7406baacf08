"""Crops in batches, read ahead on threads: resized on the device or by the processor, they are the same."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from r2convert.catalog.protocol import Protocol
from r2convert.imagenet import loader as loading
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.loader import Loader
from r2convert.imagenet.preprocessing import STANDARD, Crop, crop_image
from r2convert.imagenet.validation_set import NO_CROP, ImageLocation, ValidationImage, ValidationSet

WritePicture = Callable[..., Path]
Found = tuple[list[str | None], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@pytest.fixture
def images(tmp_path: Path, write_picture: WritePicture) -> ValidationSet:
    """Images of many sizes and kinds, one too large for the buffer, one damaged, one missing, one deleted."""
    folder = tmp_path / "set" / "n01440764"
    sizes = [(300, 280), (280, 300), (224, 224), (256, 256), (90, 400), (1300, 900), (500, 375)]
    for number, (width, height) in enumerate(sizes):
        write_picture(folder / f"{number}.JPEG", seed=number, width=width, height=height)
    write_picture(folder / "7.JPEG", seed=7, format="PNG")
    write_picture(folder / "8.JPEG", seed=8, mode="CMYK")
    (folder / "9.JPEG").write_bytes((folder / "0.JPEG").read_bytes()[:300])
    found = open_validation_set(tmp_path / "set")
    deleted = ValidationImage("deleted", 0, ImageLocation(tmp_path / "deleted.JPEG"))
    return replace(found, images=(*found.images, ValidationImage("gone", 0, None), deleted))


def read_all(loader: Loader, places: list[int], batch_size: int) -> Found:
    """Problems, crops and digests of some images."""
    problems: list[str | None] = []
    crops, digests, seen = [], [], list[int]()
    for batch in loader.batches(places, batch_size):
        seen += batch.places
        problems += batch.problems
        crops.append(batch.crops[: len(batch.places)].numpy().copy())
        assert not batch.crops[len(batch.places) :].any()
        assert batch.digests is not None
        digests.append(batch.digests())
    assert seen == places
    return problems, np.concatenate(crops), np.concatenate(digests)


@pytest.mark.parametrize("resize_on_device", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 12, 50])
@pytest.mark.parametrize("protocol", [STANDARD, Protocol(248, 224, "bicubic"), Protocol(300, 288)])
def test_every_image_comes_once_and_in_order(
    images: ValidationSet, batch_size: int, protocol: Protocol, *, resize_on_device: bool
) -> None:
    loader = Loader(images.images, protocol, workers=2, resize_on_device=resize_on_device)
    problems, crops, digests = read_all(loader, list(range(12)), batch_size)
    assert [problem is None for problem in problems] == [True] * 9 + [False] * 3
    for place, image in enumerate(images.images[:9]):
        assert image.location is not None
        assert np.array_equal(crops[place], crop_image(image.location.read(), protocol))
        assert digests[place].tobytes() == hashlib.sha256(crops[place].tobytes()).digest()


@pytest.mark.parametrize("resize_on_device", [False, True])
def test_missing_and_unreadable_images_keep_their_place(images: ValidationSet, *, resize_on_device: bool) -> None:
    loader = Loader(images.images, workers=2, resize_on_device=resize_on_device)
    problems, crops, digests = read_all(loader, [8, 9, 10, 11], 4)
    assert problems[0] is None
    assert "truncated" in (problems[1] or "").lower()
    assert problems[2] == "missing"
    assert "No such file" in (problems[3] or "")
    assert not crops[1:].any()
    assert digests[1:].tobytes() == 3 * NO_CROP


@pytest.mark.parametrize("resize_on_device", [False, True])
def test_no_images_give_no_batches(images: ValidationSet, *, resize_on_device: bool) -> None:
    assert list(Loader(images.images, resize_on_device=resize_on_device).batches([], 8)) == []


def test_stretches_of_an_archive_are_read(tmp_path: Path, write_picture: WritePicture) -> None:
    parts = [write_picture(tmp_path / f"{seed}.JPEG", seed=seed).read_bytes() for seed in range(3)]
    archive = tmp_path / "archive"
    archive.write_bytes(b"".join(parts))
    assert ImageLocation(archive, len(parts[0]), len(parts[1])).read() == parts[1]
    with pytest.raises(OSError, match="ends 1 bytes before"):
        ImageLocation(archive, len(parts[0]) + len(parts[1]), len(parts[2]) + 1).read()


def test_threads_end_when_the_reader_stops_early(images: ValidationSet) -> None:
    batches = Loader(images.images, workers=2).batches(list(range(12)), 2)
    next(batches)
    batches.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("decode", "digest"))]


def test_a_programming_error_is_not_mistaken_for_a_bad_image(
    images: ValidationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes) -> Crop:
        raise TypeError("wrong arguments")

    monkeypatch.setattr(loading, "crop_function", lambda protocol: broken)
    with pytest.raises(TypeError):
        list(Loader(images.images, workers=2).batches([0, 1], 2))


def test_memory_that_runs_out_while_resizing_costs_time_only(
    images: ValidationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from r2convert.imagenet import device_resize

    whole = device_resize._resample_some
    sizes: list[int] = []

    def hungry(sources: torch.Tensor, geometries: list[device_resize.Geometry]) -> torch.Tensor:
        sizes.append(len(geometries))
        if len(geometries) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(sources, geometries)

    expected = read_all(Loader(images.images, resize_on_device=True), list(range(12)), 12)[1]
    monkeypatch.setattr(device_resize, "_resample_some", hungry)
    found = read_all(Loader(images.images, resize_on_device=True), list(range(12)), 12)[1]
    assert np.array_equal(found, expected)
    assert max(sizes) == 12
