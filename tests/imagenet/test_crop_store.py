"""Crops kept in memory and on disk."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from r2convert.catalog.protocol import Protocol
from r2convert.errors import AccessError
from r2convert.imagenet import crop_store
from r2convert.imagenet.crop_store import CropStore, ResidentCrops, free_memory, memory_for
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.loader import CropBatch, Loader, Transfers
from r2convert.imagenet.preprocessing import STANDARD, Crop, crop_image
from r2convert.imagenet.validation_set import ImageLocation, ValidationSet

CPU = torch.device("cpu")


@pytest.fixture
def images(tmp_path: Path, write_picture: Callable[..., Path]) -> ValidationSet:
    for seed in range(4):
        write_picture(tmp_path / "set" / "n01440764" / f"{seed}.JPEG", seed=seed)
    return open_validation_set(tmp_path / "set")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read, in whatever order."""
    names: list[str] = []
    whole = ImageLocation.read

    def counting(location: ImageLocation) -> bytes:
        names.append(location.path.name)
        return whole(location)

    monkeypatch.setattr(ImageLocation, "read", counting)
    return names


def crops_of(source: Loader | ResidentCrops, places: Sequence[int], batch_size: int = 3) -> list[Crop]:
    crops: list[Crop] = []
    for batch in source.batches(places, batch_size):
        crops += [crop.numpy().copy() for crop in batch.crops[: len(batch.places)]]
    return crops


def expected(images: ValidationSet) -> list[Crop]:
    return [crop_image(image.location.path.read_bytes()) for image in images.images if image.location]


def stored(
    folder: Path, images: ValidationSet, protocol: Protocol = STANDARD, *, resize_on_device: bool = False
) -> list[Crop]:
    store = CropStore(folder, images, protocol)
    loader = Loader(images.images, protocol, workers=2, store=store, resize_on_device=resize_on_device)
    batches: list[Crop] = []
    for batch in loader.batches(range(len(images.images)), 3):
        assert batch.digests is not None
        assert batch.digests().any()
        batches += [crop.numpy().copy() for crop in batch.crops[: len(batch.places)]]
    return batches


@pytest.mark.parametrize("resize_on_device", [False, True])
def test_a_second_run_decodes_nothing(
    images: ValidationSet, tmp_path: Path, read: list[str], *, resize_on_device: bool
) -> None:
    first = stored(tmp_path / "store", images, resize_on_device=resize_on_device)
    assert sorted(read) == ["0.JPEG", "1.JPEG", "2.JPEG", "3.JPEG"]
    read.clear()
    second = stored(tmp_path / "store", images, resize_on_device=resize_on_device)
    assert read == []
    assert np.array_equal(first, second)
    assert np.array_equal(first, expected(images))


def test_crops_that_are_ready_travel_as_they_are(images: ValidationSet, tmp_path: Path) -> None:
    stored(tmp_path / "store", images)
    loader = Loader(
        images.images, workers=1, store=CropStore(tmp_path / "store", images, STANDARD), resize_on_device=True
    )
    uploaded: list[tuple[int, ...]] = []
    whole = Transfers.upload

    def spying(transfers: Transfers, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        uploaded.append(pixels.shape)
        return whole(transfers, pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transfers, "upload", spying)
        crops = crops_of(loader, range(4), 4)
    assert uploaded == [(4, 224, 224, 3)]
    assert np.array_equal(crops, expected(images))


def test_the_file_is_a_plain_array(images: ValidationSet, tmp_path: Path) -> None:
    crops = stored(tmp_path / "store", images)
    path = CropStore(tmp_path / "store", images, STANDARD).crops_path
    assert np.array_equal(np.fromfile(path, np.uint8).reshape(4, 224, 224, 3), crops)


@pytest.mark.parametrize("damage", ["pixel", "digest", "shorter crops", "shorter digests", "half a crop"])
def test_what_a_killed_run_leaves_costs_time_and_no_pixel(
    images: ValidationSet, tmp_path: Path, read: list[str], damage: str
) -> None:
    crops = stored(tmp_path / "store", images)
    store = CropStore(tmp_path / "store", images, STANDARD)
    third_crop = 2 * 224 * 224 * 3
    data = store.crops_path.read_bytes()
    if damage == "pixel":
        store.crops_path.write_bytes(data[:third_crop] + bytes([data[third_crop] ^ 1]) + data[third_crop + 1 :])
    elif damage == "digest":
        digests = store.digests_path.read_bytes()
        store.digests_path.write_bytes(digests[:70] + bytes(5) + digests[75:])
    elif damage == "shorter crops":
        os.truncate(store.crops_path, third_crop)
    elif damage == "shorter digests":
        os.truncate(store.digests_path, 64)
    else:
        store.crops_path.write_bytes(data[: third_crop + 1000] + bytes(len(data) - third_crop - 1000))
    for resize_on_device in (True, False):
        read.clear()
        assert np.array_equal(stored(tmp_path / "store", images, resize_on_device=resize_on_device), crops)
        # It is put right by the first run.
        assert ("2.JPEG" in read) is resize_on_device
        assert set(read) <= {"2.JPEG", "3.JPEG"}


def test_changed_images_and_other_protocols_get_files_of_their_own(
    images: ValidationSet, tmp_path: Path, write_picture: Callable[..., Path], read: list[str]
) -> None:
    for protocol in (STANDARD, Protocol(crop=200), Protocol(interpolation="bicubic"), Protocol(pipeline="opencv")):
        read.clear()
        stored(tmp_path / "store", images, protocol)
        assert len(read) == 4
    write_picture(tmp_path / "set" / "n01440764" / "1.JPEG", seed=77)
    read.clear()
    stored(tmp_path / "store", images)
    assert len(read) == 4


def test_another_normalisation_is_the_same_crop(images: ValidationSet, tmp_path: Path, read: list[str]) -> None:
    stored(tmp_path / "store", images)
    read.clear()
    stored(tmp_path / "store", images, Protocol(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    assert read == []


def test_unreadable_images_are_not_kept(images: ValidationSet, tmp_path: Path) -> None:
    (tmp_path / "set" / "n01440764" / "1.JPEG").write_bytes(b"damaged")
    stored(tmp_path / "store", images)
    store = CropStore(tmp_path / "store", images, STANDARD)
    assert [store.has(image) for image in images.images] == [True, False, True, True]


def test_a_folder_that_cannot_be_made_is_named(images: ValidationSet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AccessError, match="crops cannot be kept"):
        CropStore(tmp_path / "file" / "store", images, STANDARD)


@pytest.mark.parametrize("resize_on_device", [False, True])
def test_a_full_disk_is_named(images: ValidationSet, tmp_path: Path, *, resize_on_device: bool) -> None:
    store = CropStore(tmp_path / "store", images, STANDARD)
    store.crops_path.unlink()
    store.crops_path.symlink_to("/dev/full")
    loader = Loader(images.images, store=store, resize_on_device=resize_on_device)
    with pytest.raises(AccessError, match="crops cannot be kept"):
        [batch.digests() for batch in loader.batches(range(4), 4) if batch.digests]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 9])
def test_resident_crops_are_read_once(images: ValidationSet, read: list[str], batch_size: int) -> None:
    resident = ResidentCrops(Loader(images.images, workers=2), memory_for(4, 224, CPU), range(4))
    assert np.array_equal(crops_of(resident, range(4), batch_size), expected(images))
    read.clear()
    assert np.array_equal(crops_of(resident, range(4), batch_size), expected(images))
    some: list[CropBatch] = list(resident.batches([0, 2, 3], batch_size))
    assert [place for batch in some for place in batch.places] == [0, 2, 3]
    assert all(batch.digests is None for batch in some)
    assert np.array_equal(crops_of(resident, [0, 2, 3], batch_size), np.array(expected(images))[[0, 2, 3]])
    assert read == []


def test_what_is_resident_in_part_is_read_anew_with_the_rest(images: ValidationSet) -> None:
    resident = ResidentCrops(Loader(images.images), memory_for(4, 224, CPU), range(4))
    crops_of(resident, [0, 2])
    assert np.array_equal(crops_of(resident, range(4)), expected(images))


def test_as_many_crops_are_resident_as_there_is_room_for() -> None:
    size = 224 * 224 * 3
    assert len(memory_for(10, 224, CPU, most_bytes=3 * size + 5)) == 3
    assert len(memory_for(10, 224, CPU, most_bytes=0)) == 1
    assert len(memory_for(10, 224, CPU)) == 10


def test_pinned_memory_stays_within_the_room_although_torch_rounds_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", lambda shape, **_: torch.zeros(shape[0]))
    size, cuda = 224 * 224 * 3, torch.device("cuda", 0)
    for room, most in ((100 * size, 2**23 // size), (2**23, 2**23 // size), (2**23 - 1, 2**22 // size), (0, 1)):
        assert len(memory_for(1000, 224, cuda, most_bytes=room)) == most


def test_free_memory_is_what_is_available_and_what_a_container_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 30000 kB\nMemFree: 12600 kB\nMemAvailable: 21900 kB\n")
    assert crop_store._available_memory(meminfo) == 21900 * 1024
    limit, used, statistics = (tmp_path / name for name in ("max", "current", "stat"))
    used.write_text("700\n")
    statistics.write_text("anon 400\ninactive_file 200\n")
    monkeypatch.setattr(crop_store, "_available_memory", lambda path: 2000)
    monkeypatch.setattr(crop_store, "_CGROUP_LIMITS", ((str(limit), str(used), str(statistics), "inactive_file"),))
    for text, left in (("1000\n", 500), ("max\n", 2000), ("9000\n", 2000), ("600\n", 100)):
        limit.write_text(text)
        assert free_memory(CPU) == left
    limit.unlink()
    assert free_memory(CPU) == 2000
