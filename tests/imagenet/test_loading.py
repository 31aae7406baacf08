"""Crops in batches, read ahead on threads."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from r2convert.imagenet.loader import load_batches, reader
from r2convert.imagenet.preprocessing import Crop, crop_image
from r2convert.imagenet.validation_set import NO_CROP, ImageLocation, ValidationImage

WritePicture = Callable[..., Path]


def buffers(batch_size: int, count: int = 3) -> list[Crop]:
    return [np.full((batch_size, 224, 224, 3), 77, np.uint8) for _ in range(count)]


@pytest.fixture
def images(tmp_path: Path, write_picture: WritePicture) -> list[ValidationImage]:
    files = [write_picture(tmp_path / f"{seed}.JPEG", seed=seed, width=230 + seed) for seed in range(11)]
    return [ValidationImage(file.name, 0, ImageLocation(file)) for file in files]


@pytest.mark.parametrize("batch_size", [1, 3, 11, 16])
@pytest.mark.parametrize("workers", [1, 4])
def test_every_image_comes_once_and_in_order(images: list[ValidationImage], batch_size: int, workers: int) -> None:
    seen: list[ValidationImage] = []
    crops: list[Crop] = []
    for batch in load_batches(images, reader(crop_image), buffers(batch_size), workers=workers):
        assert batch.start == len(seen)
        seen += [loaded.image for loaded in batch.images]
        crops += [crop.copy() for crop in batch.crops[: len(batch.images)]]
        assert not batch.crops[len(batch.images) :].any()
    assert seen == images
    for image, crop in zip(images, crops, strict=True):
        assert image.location is not None
        assert np.array_equal(crop, crop_image(image.location.read()))


def test_missing_and_unreadable_images_keep_their_place(images: list[ValidationImage], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.JPEG"
    damaged.write_bytes((tmp_path / "0.JPEG").read_bytes()[:300])
    images[1] = ValidationImage("gone.JPEG", 0, None)
    images[2] = ValidationImage("damaged.JPEG", 0, ImageLocation(damaged))
    images[4] = ValidationImage("deleted.JPEG", 0, ImageLocation(tmp_path / "deleted.JPEG"))
    (batch,) = load_batches(images, reader(crop_image), buffers(11), workers=2)
    problems = {row: loaded.problem for row, loaded in enumerate(batch.images) if loaded.problem}
    assert problems.keys() == {1, 2, 4}
    assert problems[1] == "missing"
    assert "truncated" in (problems[2] or "").lower()
    assert "No such file" in problems[4]
    for row, loaded in enumerate(batch.images):
        if row in problems:
            assert loaded.crop_digest == NO_CROP
            assert not batch.crops[row].any()
        else:
            assert loaded.crop_digest == hashlib.sha256(batch.crops[row].tobytes()).digest()


def test_stretches_of_an_archive_are_read(tmp_path: Path, write_picture: WritePicture) -> None:
    parts = [write_picture(tmp_path / f"{seed}.JPEG", seed=seed).read_bytes() for seed in range(3)]
    archive = tmp_path / "archive"
    archive.write_bytes(b"".join(parts))
    assert ImageLocation(archive, len(parts[0]), len(parts[1])).read() == parts[1]
    with pytest.raises(OSError, match="ends 1 bytes before"):
        ImageLocation(archive, len(parts[0]) + len(parts[1]), len(parts[2]) + 1).read()


def test_threads_end_when_the_reader_stops_early(images: list[ValidationImage]) -> None:
    batches = load_batches(images, reader(crop_image), buffers(2), workers=2)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_programming_error_is_not_mistaken_for_a_bad_image(images: list[ValidationImage]) -> None:
    def broken(data: bytes) -> Crop:
        raise TypeError("wrong arguments")

    with pytest.raises(TypeError):
        list(load_batches(images, reader(broken), buffers(2), workers=2))
