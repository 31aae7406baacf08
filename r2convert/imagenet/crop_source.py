"""Crops of images on the device where the networks run, in batches, ahead of whoever consumes them.

Threads decode into a ring of buffers. On a GPU the buffers are pinned, and a stream of its own uploads and resizes the
next batch while the networks still compute on the last one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from r2convert.imagenet.crop_cache import CropCache
from r2convert.imagenet.device_resize import SOURCE_SIDE, Geometry, Pixels, SourceReader, resample
from r2convert.imagenet.loading import NO_CROP, LoadedImage, ReadCrop, fill, load_ahead, load_batches, read_bytes
from r2convert.imagenet.pipeline import CROP_SIDE
from r2convert.imagenet.uploads import Uploads
from r2convert.imagenet.validation_set import ValidationImage

# Batches that decode threads may be ahead of the networks: one shown, one ready, one being filled.
_BUFFERS = 3
# Of crops that have come back from a device; SHA-256 releases the interpreter's lock.
_DIGEST_THREADS = 2


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """Consecutive images.

    Args:
        images: the images.
        problems: of each, why it has no crop; ``None`` if it has one.
        crops: uint8, shape (images or more, 224, 224, 3), on the device: the crops in order, zeros where there is none.
        outcome: waits until the digests of the crops are known, and gives what became of each image.
    """

    images: tuple[ValidationImage, ...]
    problems: tuple[str | None, ...]
    crops: torch.Tensor
    outcome: Callable[[], tuple[LoadedImage, ...]]


def known_batch(loaded: tuple[LoadedImage, ...], crops: torch.Tensor) -> DeviceBatch:
    """A batch of which everything is known."""
    images, problems = tuple(each.image for each in loaded), tuple(each.problem for each in loaded)
    return DeviceBatch(images, problems, crops, lambda: loaded)


class CropSource(Protocol):
    """Where batches of crops come from."""

    def batches(self, images: Sequence[ValidationImage], batch_size: int) -> Generator[DeviceBatch, None, None]:
        """Every image exactly once, in order, unreadable and missing ones included; close it to stop early."""


@dataclass(frozen=True, slots=True)
class HostCrops:
    """Crops that the processor makes, uploaded.

    Args:
        read_crop: an image to its crop.
        device: where to put crops.
        workers: decode threads.
    """

    read_crop: ReadCrop
    device: torch.device
    workers: int

    def batches(self, images: Sequence[ValidationImage], batch_size: int) -> Generator[DeviceBatch, None, None]:
        """See :class:`CropSource`. On a CPU the memory is used again once the next batch has been asked for."""
        buffers = _ring(min(batch_size, len(images)), CROP_SIDE, self.device)
        uploads = Uploads(self.device)
        with closing(load_batches(images, self.read_crop, buffers, workers=self.workers)) as batches:
            for batch in batches:
                with uploads.beside_the_networks():
                    crops = uploads.upload(batch.crops)
                uploads.hand_over(crops)
                yield known_batch(batch.images, crops)
                uploads.wait()


@dataclass(frozen=True, slots=True)
class DeviceCrops:
    """Crops of the ``pil`` pipeline, resized on the device: the processor only decodes.

    Args:
        decode: an encoded image to its pixels, uint8 (height, width, 3).
        device: one on which :func:`~r2convert.imagenet.device_resize.resamples_exactly`.
        workers: decode threads.
        cache: crops that are known already; new ones are kept in it.
    """

    decode: Callable[[bytes], Pixels]
    device: torch.device
    workers: int
    cache: CropCache | None = None

    def batches(self, images: Sequence[ValidationImage], batch_size: int) -> Generator[DeviceBatch, None, None]:
        """See :class:`CropSource`."""
        buffers = _ring(min(batch_size, len(images)), SOURCE_SIDE, self.device)
        uploads, read = Uploads(self.device), self._source_reader()
        with (
            ThreadPoolExecutor(_DIGEST_THREADS, thread_name_prefix="digest") as digesters,
            closing(load_ahead(images, read, buffers, workers=self.workers)) as batches,
        ):
            for sources, buffer in batches:
                with uploads.beside_the_networks():
                    uploaded = uploads.upload(buffer)
                    crops = resample(uploaded, [source.geometry for source in sources])
                uploads.hand_over(crops)
                with uploads.beside_the_networks():
                    come_back = uploads.fetch(crops)
                found = digesters.submit(self._digest, sources, come_back)
                problems = tuple(source.problem for source in sources)
                yield DeviceBatch(tuple(source.image for source in sources), problems, crops, found.result)
                uploads.wait()

    def _source_reader(self) -> Callable[[ValidationImage, Pixels], _Source]:
        reader, blank = SourceReader(), np.zeros((CROP_SIDE, CROP_SIDE, 3), np.uint8)

        def read(image: ValidationImage, target: Pixels) -> _Source:
            source = _Source(image, reader.put_crop(blank, target))

            def put() -> None:
                kept = None if self.cache is None else self.cache.get(image)
                source.is_new = kept is None
                source.geometry = (
                    reader.put(self.decode(read_bytes(image)), target)
                    if kept is None
                    else reader.put_crop(kept, target)
                )

            source.problem = fill(target, image, put)
            return source

        return read

    def _digest(self, sources: Sequence[_Source], come_back: Callable[[], torch.Tensor]) -> tuple[LoadedImage, ...]:
        crops: Pixels = come_back().numpy()
        loaded = []
        for source, crop in zip(sources, crops, strict=True):
            digest = NO_CROP if source.problem else hashlib.sha256(crop.data).digest()
            if self.cache is not None and source.problem is None and source.is_new:
                self.cache.keep(source.image, crop, digest)
            loaded.append(LoadedImage(source.image, digest, source.problem))
        return tuple(loaded)


@dataclass(slots=True)
class _Source:
    """A picture in a buffer, and whether its crop is one that no cache had."""

    image: ValidationImage
    geometry: Geometry
    problem: str | None = None
    is_new: bool = False


def _ring(batch_size: int, side: int, device: torch.device) -> list[Pixels]:
    # Pinned memory is what lets a copy to the device run at full speed and beside everything else.
    shape = (max(1, batch_size), side, side, 3)
    pinned = device.type == "cuda"
    return [torch.empty(shape, dtype=torch.uint8, pin_memory=pinned).numpy() for _ in range(_BUFFERS)]
