"""Decodes and crops images on threads, ahead of the networks, and hands them to the device in batches.

Decoding and resizing release the interpreter's lock, so threads are as good as processes here and share memory. They
fill a ring of buffers. On a GPU the buffers are pinned, and a stream of its own uploads and resizes the next batch
while the networks still compute on the last one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from r2convert.errors import UnreadableImageError
from r2convert.imagenet.device_resize import SOURCE_SIDE, Geometry, SourceReader, resample
from r2convert.imagenet.preprocessing import CROP_SIDE, Crop, Pixels
from r2convert.imagenet.validation_set import NO_CROP, LoadedImage, ValidationImage

if TYPE_CHECKING:
    from r2convert.imagenet.crop_store import CropCache

ReadCrop = Callable[[ValidationImage], Crop]
Loaded = TypeVar("Loaded")


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


class Uploads:
    """Copies to a device and back beside what the networks compute there; on a CPU nothing is copied.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device) -> None:
        cuda: Any = torch.cuda  # whose streams and events have no type hints
        self._device = device
        # First in line: the little there is to do for a batch must not wait for all of the networks' kernels.
        self._stream = cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._uploaded = cuda.Event() if device.type == "cuda" else None

    @contextmanager
    def beside_the_networks(self) -> Iterator[None]:
        """What is called in here waits for nothing that the networks were given."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def upload(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Pixels on the device; the buffer may be filled again after :meth:`wait`."""
        uploaded = torch.from_numpy(pixels).to(self._device, non_blocking=self._stream is not None)
        if self._uploaded is not None:
            self._uploaded.record(self._stream)
        return uploaded

    def hand_over(self, crops: torch.Tensor) -> None:
        """Lets the networks wait for crops, and their memory for the networks."""
        if self._stream is None:
            return
        networks: Any = torch.cuda.current_stream(self._device)
        networks.wait_event(self._stream.record_event())
        crops.record_stream(networks)

    def fetch(self, crops: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Crops in the processor's memory, once they have arrived there."""
        if self._stream is None:
            fetched = crops.cpu()
            return lambda: fetched
        fetched = crops.to("cpu", non_blocking=True)
        arrived = self._stream.record_event()

        def wait() -> torch.Tensor:
            arrived.synchronize()
            return fetched

        return wait

    def wait(self) -> None:
        """Until the last upload has left its buffer."""
        if self._uploaded is not None:
            self._uploaded.synchronize()


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
