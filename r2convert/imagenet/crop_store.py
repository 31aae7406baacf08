"""Keeps crops, so that no image is decoded twice: on the device within a run, on disk for later runs.

Two plain files a set: ``<key>.crops``, uint8 (images, 224, 224, 3), which can be memory-mapped by anything, and
``<key>.digests``, the SHA-256 of each crop, 32 zero bytes where there is none yet. A crop is used only if its digest
fits, so a run that was killed, a full disk or two runs at once can cost time but never a wrong pixel.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from r2convert.catalog.protocol import Pipeline
from r2convert.errors import AccessError
from r2convert.imagenet.device_resize import on_device
from r2convert.imagenet.loader import CropSource, DeviceBatch, ReadCrop, known_batch
from r2convert.imagenet.preprocessing import CROP_SIDE, Crop
from r2convert.imagenet.validation_set import NO_CROP, LoadedImage, ValidationImage, ValidationSet

_CROP_BYTES = CROP_SIDE * CROP_SIDE * 3


class CropCache:
    """The crops of one validation set in a folder.

    The key depends on names, sizes and modification times of the image files, and on the pipeline: changed images
    get a new cache.

    Args:
        folder: where to keep crops; made if need be.
        images: the set.
        pipeline: how its crops are made.

    Raises:
        AccessError: the folder cannot be written.
    """

    def __init__(self, folder: Path, images: ValidationSet, pipeline: Pipeline) -> None:
        key = _key(images, pipeline)
        self.crops_path, self.digests_path = folder / f"{key}.crops", folder / f"{key}.digests"
        self._rows = {image: row for row, image in enumerate(images.images)}
        count = len(images.images)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _extend(self.crops_path, count * _CROP_BYTES)
            _extend(self.digests_path, count * len(NO_CROP))
        except OSError as error:
            raise _cannot_keep(folder, error) from error
        shape = (count, CROP_SIDE, CROP_SIDE, 3)
        self._crops = np.memmap(self.crops_path, np.uint8, "r", shape=shape)
        self._digests = np.memmap(self.digests_path, np.uint8, "r", shape=(count, len(NO_CROP)))

    def through(self, read_crop: ReadCrop) -> ReadCrop:
        """A function that gives the same crops, from the cache where it has them, and keeps those it has not."""

        def read(image: ValidationImage) -> Crop:
            kept = self.get(image)
            if kept is not None:
                return kept
            crop = read_crop(image)
            self.keep(image, crop, hashlib.sha256(crop.tobytes()).digest())
            return crop

        return read

    def get(self, image: ValidationImage) -> Crop | None:
        """The crop of an image of the set, if it is kept and sound."""
        row = self._rows[image]
        digest = self._digests[row].tobytes()
        if digest == NO_CROP or hashlib.sha256(self._crops[row].data).digest() != digest:
            return None
        crop: Crop = self._crops[row]
        return crop

    def keep(self, image: ValidationImage, crop: Crop, digest: bytes) -> None:
        """Keeps the crop of an image of the set.

        Args:
            image: the image.
            crop: uint8, shape (224, 224, 3).
            digest: SHA-256 of its bytes.

        Raises:
            AccessError: it cannot be written.
        """
        row = self._rows[image]
        # Written, not stored through the map: a full disk is an error then, and not the end of the process.
        try:
            _write_at(self.crops_path, row * _CROP_BYTES, crop.tobytes())
            _write_at(self.digests_path, row * len(NO_CROP), digest)
        except OSError as error:
            raise _cannot_keep(self.crops_path.parent, error) from error


def _key(images: ValidationSet, pipeline: Pipeline) -> str:
    digest = hashlib.sha256(f"{pipeline}\n".encode())
    for image in images.images:
        digest.update(f"{image.id}\t".encode())
        if image.location is not None:
            location = image.location
            state = location.path.stat() if location.path.exists() else None
            size, changed = (state.st_size, state.st_mtime_ns) if state else (0, 0)
            digest.update(f"{size}\t{changed}\t{location.offset}\t{location.size}".encode())
        digest.update(b"\n")
    return digest.hexdigest()[:32]


def _extend(path: Path, size: int) -> None:
    """Makes a file of at least this size, without taking the space yet."""
    with path.open("ab") as file:
        if file.tell() < size:
            os.truncate(path, size)


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        if file.write(data) != len(data):
            raise OSError("the disk took only a part of it")


def _cannot_keep(folder: Path, error: OSError) -> AccessError:
    return AccessError(
        "crops cannot be kept",
        where=str(folder),
        got=str(error),
        next_step="free space, choose another folder, or leave out --crop-cache",
    )


class KeptCrops:
    """Keeps all crops on the device if they fit, so that no image is decoded twice.

    Args:
        source: where crops come from the first time.
        device: where they are kept.
        images: the whole set.
        most_bytes: memory they may take; by default half of what is free.
    """

    def __init__(
        self, source: CropSource, device: torch.device, images: Sequence[ValidationImage], most_bytes: int | None = None
    ) -> None:
        self._source = source
        self._rows = {image: row for row, image in enumerate(images)}
        self._outcomes: dict[ValidationImage, tuple[Callable[[], tuple[LoadedImage, ...]], int]] = {}
        self._crops: torch.Tensor | None = None
        room = free_memory(device) // 2 if most_bytes is None else most_bytes
        if len(images) * CROP_SIDE * CROP_SIDE * 3 <= room:
            shape = len(images), CROP_SIDE, CROP_SIDE, 3
            self._crops = torch.empty(shape, dtype=torch.uint8, device=device)

    def batches(self, images: Sequence[ValidationImage], batch_size: int) -> Generator[DeviceBatch, None, None]:
        """See :class:`CropSource`."""
        if self._crops is not None and all(image in self._outcomes for image in images):
            yield from self._known_batches(images, batch_size)
            return
        with closing(self._source.batches(images, batch_size)) as batches:
            for batch in batches:
                self._keep(batch)
                yield batch

    def _keep(self, batch: DeviceBatch) -> None:
        if self._crops is None:
            return
        rows = on_device(torch.tensor([self._rows[image] for image in batch.images]), self._crops.device)
        self._crops.index_copy_(0, rows, batch.crops[: len(rows)])
        for place, image in enumerate(batch.images):
            self._outcomes[image] = batch.outcome, place

    def _known_batches(self, images: Sequence[ValidationImage], batch_size: int) -> Iterator[DeviceBatch]:
        assert self._crops is not None  # noqa: S101 - asked for only with crops
        for start in range(0, len(images), batch_size):
            some = images[start : start + batch_size]
            rows = on_device(torch.tensor([self._rows[image] for image in some]), self._crops.device)
            outcomes = (self._outcomes[image] for image in some)
            found = tuple(outcome()[place] for outcome, place in outcomes)
            yield known_batch(found, self._crops.index_select(0, rows))


def free_memory(device: torch.device) -> int:
    """Bytes that are free where a device keeps its tensors; 0 where nothing tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0
