"""Reads and crops images on threads, ahead of whoever consumes them, one batch after the other.

Decoding and resizing release the interpreter's lock, so threads are as good as processes here and share memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from r2convert.errors import UnreadableImageError
from r2convert.imagenet.pipeline import Crop
from r2convert.imagenet.validation_set import ValidationImage

NO_CROP = bytes(hashlib.sha256().digest_size)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """What became of one image.

    Args:
        image: the image.
        crop_digest: SHA-256 of its crop's bytes (height, width, channel order); 32 zero bytes if there is none.
        problem: why there is no crop, in words; ``None`` if there is one.
    """

    image: ValidationImage
    crop_digest: bytes
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class CropBatch:
    """Consecutive images of a set.

    Args:
        start: position of the first one in the sequence that is read.
        images: what became of each.
        crops: uint8, shape (batch size, 224, 224, 3): the crops in order; zeros where there is none, and in the
            rest of the last batch. The memory is used again once the next batch has been asked for.
    """

    start: int
    images: tuple[LoadedImage, ...]
    crops: Crop


def reader(crop_image: Callable[[bytes], Crop]) -> Callable[[ValidationImage], Crop]:
    """Reads an image's bytes and crops them."""

    def read(image: ValidationImage) -> Crop:
        if image.location is None:
            raise UnreadableImageError("the image is missing", where=image.id)
        return crop_image(image.location.read())

    return read


def load_batches(
    images: Sequence[ValidationImage],
    read_crop: Callable[[ValidationImage], Crop],
    buffers: Sequence[Crop],
    *,
    workers: int,
) -> Generator[CropBatch, None, None]:
    """Crops of all images, in order, in batches.

    Args:
        images: what to read.
        read_crop: an image that is there to its crop; raises ``UnreadableImageError`` or ``OSError``.
        buffers: at least two arrays of shape (batch size, 224, 224, 3) to be filled in turn; how many there are
            decides how far the threads run ahead.
        workers: number of threads.

    Yields:
        Every image exactly once, unreadable and missing ones included. Close the generator (``contextlib.closing``)
        to stop early: the threads end then.
    """
    batch_size = len(buffers[0])
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    free = deque(buffers)
    pending: deque[tuple[int, Crop, list[Future[LoadedImage]]]] = deque()
    starts = iter(range(0, len(images), batch_size))
    try:
        while True:
            while free and (start := next(starts, None)) is not None:
                buffer = free.popleft()
                buffer[len(images) - start :] = 0
                wanted = images[start : start + batch_size]
                futures = [pool.submit(_load, image, read_crop, buffer[row]) for row, image in enumerate(wanted)]
                pending.append((start, buffer, futures))
            if not pending:
                return
            start, buffer, futures = pending.popleft()
            yield CropBatch(start, tuple(future.result() for future in futures), buffer)
            free.append(buffer)
    finally:
        pool.shutdown(cancel_futures=True)


def _load(image: ValidationImage, read_crop: Callable[[ValidationImage], Crop], target: Crop) -> LoadedImage:
    if image.location is None:
        target[...] = 0
        return LoadedImage(image, NO_CROP, "missing")
    try:
        crop = read_crop(image)
    except (UnreadableImageError, OSError) as error:
        target[...] = 0
        reason = error.got if isinstance(error, UnreadableImageError) else str(error)
        return LoadedImage(image, NO_CROP, reason or "unreadable")
    target[...] = crop
    return LoadedImage(image, hashlib.sha256(target.data).digest())
