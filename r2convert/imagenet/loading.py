"""Reads and crops images on threads, ahead of whoever consumes them, one batch after the other.

Decoding and resizing release the interpreter's lock, so threads are as good as processes here and share memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from r2convert.errors import UnreadableImageError
from r2convert.imagenet.pipeline import Crop
from r2convert.imagenet.validation_set import ValidationImage

NO_CROP = bytes(hashlib.sha256().digest_size)

ReadCrop = Callable[[ValidationImage], Crop]
Pixels = npt.NDArray[np.uint8]
Loaded = TypeVar("Loaded")


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


def reader(crop_image: Callable[[bytes], Crop]) -> ReadCrop:
    """Reads an image's bytes and crops them."""

    def read(image: ValidationImage) -> Crop:
        return crop_image(read_bytes(image))

    return read


def read_bytes(image: ValidationImage) -> bytes:
    """The encoded image.

    Raises:
        UnreadableImageError: the set ought to have it and does not.
        OSError: it cannot be read.
    """
    if image.location is None:
        raise UnreadableImageError("the image is missing", where=image.id)
    return image.location.read()


def load_batches(
    images: Sequence[ValidationImage], read_crop: ReadCrop, buffers: Sequence[Crop], *, workers: int
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

    def load(image: ValidationImage, target: Crop) -> LoadedImage:
        def put() -> None:
            target[...] = read_crop(image)

        problem = fill(target, image, put)
        digest = NO_CROP if problem else hashlib.sha256(target.data).digest()
        return LoadedImage(image, digest, problem)

    with closing(load_ahead(images, load, buffers, workers=workers)) as batches:
        start = 0
        for loaded, buffer in batches:
            buffer[len(loaded) :] = 0
            yield CropBatch(start, loaded, buffer)
            start += len(loaded)


def load_ahead(
    images: Sequence[ValidationImage],
    load: Callable[[ValidationImage, Pixels], Loaded],
    buffers: Sequence[Pixels],
    *,
    workers: int,
) -> Generator[tuple[tuple[Loaded, ...], Pixels], None, None]:
    """Loads images on threads into a ring of buffers, one buffer after the other.

    Args:
        images: what to load.
        load: puts an image into one row of a buffer, and says something about it.
        buffers: at least two arrays, a row an image.
        workers: number of threads.

    Yields:
        What was said of each image of a buffer, in order, and the buffer: it is filled again once the next one has
        been asked for.
    """
    batch_size = len(buffers[0])
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    free = deque(buffers)
    pending: deque[tuple[Pixels, list[Future[Loaded]]]] = deque()
    starts = iter(range(0, len(images), batch_size))
    try:
        while True:
            while free and (start := next(starts, None)) is not None:
                buffer = free.popleft()
                wanted = images[start : start + batch_size]
                pending.append((buffer, [pool.submit(load, image, buffer[row]) for row, image in enumerate(wanted)]))
            if not pending:
                return
            buffer, futures = pending.popleft()
            yield tuple(future.result() for future in futures), buffer
            free.append(buffer)
    finally:
        pool.shutdown(cancel_futures=True)


def fill(target: Pixels, image: ValidationImage, read: Callable[[], object]) -> str | None:
    """Reads an image into its place; if that fails the place is blank.

    Args:
        target: its place.
        image: the image.
        read: reads it into its place; raises ``UnreadableImageError`` or ``OSError``.

    Returns:
        Why there is no crop, in words; ``None`` if there is one.
    """
    problem: str | None = "missing"
    if image.location is not None:
        try:
            read()
        except (UnreadableImageError, OSError) as error:
            problem = (error.got if isinstance(error, UnreadableImageError) else str(error)) or "unreadable"
        else:
            return None
    target[...] = 0
    return problem
