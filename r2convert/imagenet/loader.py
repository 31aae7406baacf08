"""Decodes and crops images on threads, ahead of the networks, and hands them to the device in batches.

Decoding and resizing release the GIL, so threads are as good as processes here and share memory. They
fill a ring of buffers. On a GPU the buffers are pinned, and a stream of its own uploads and resizes the next batch
while the network still computes on the last one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from r2convert.catalog.protocol import Protocol
from r2convert.errors import UnreadableImageError
from r2convert.imagenet.device_resize import Geometry, SourceReader, resample, resamples_exactly
from r2convert.imagenet.preprocessing import STANDARD, Crop, Pixels, crop_function, pixel_function
from r2convert.imagenet.validation_set import NO_CROP, ValidationImage

if TYPE_CHECKING:
    from r2convert.imagenet.crop_store import CropStore

Digests = npt.NDArray[np.uint8]

# Batches that decode threads may be ahead of the network: one shown, one ready, one being filled.
_BUFFERS = 3
# For crops fetched from a device; SHA-256 releases the GIL.
_DIGEST_THREADS = 2


@dataclass(frozen=True, slots=True)
class CropBatch:
    """Images on the device.

    Args:
        places: their positions in the set, in ascending order.
        problems: of each, why it has no crop; ``None`` if it has one.
        crops: uint8, shape (images or more, crop, crop, 3), on the device: the crops in order, zeros where there is
            none and in any rows after them. On a CPU the memory is reused once the next batch is requested.
        digests: waits for the SHA-256 of each crop, uint8, shape (images, 32), zeros where there is no crop; or
            ``None`` if the images have been loaded before.
    """

    places: tuple[int, ...]
    problems: tuple[str | None, ...]
    crops: torch.Tensor
    digests: Callable[[], Digests] | None


@dataclass(slots=True)
class _LoadedImage:
    """What a thread has put into a row of a buffer: a crop, or pixels to be resized on the device.

    Args:
        geometry: how the device makes the crop; ``None`` if it is one already.
        digest: of the crop, as far as it is known.
        problem: why there is no crop.
    """

    geometry: Geometry | None = None
    digest: bytes = NO_CROP
    problem: str | None = None


class Loader:
    """Crops of a set of images, in batches on a device.

    Where the device resizes to the last bit as Pillow does, the processor only decodes; crops that a store holds
    travel as they are.

    Args:
        images: the set.
        protocol: how crops are made.
        device: where they go.
        workers: decode threads.
        store: crops that are known already; new ones are kept in it.

    Raises:
        UsageError: a package that the protocol's pipeline needs is not installed.
    """

    def __init__(
        self,
        images: Sequence[ValidationImage],
        protocol: Protocol = STANDARD,
        device: torch.device | None = None,
        *,
        workers: int = 1,
        store: CropStore | None = None,
        resize_on_device: bool | None = None,
    ) -> None:
        self.images = images
        self.side = protocol.crop
        self.device = device or torch.device("cpu")
        self._workers, self._store = workers, store
        self._crop = crop_function(protocol)
        self._decode = pixel_function()
        self._sources = SourceReader(protocol)
        if resize_on_device is None:
            resize_on_device = (
                self.device.type != "cpu" and protocol.pipeline == "pil" and resamples_exactly(self.device, protocol)
            )
        self._resize_on_device = resize_on_device

    def batches(self, places: Sequence[int], batch_size: int) -> Generator[CropBatch, None, None]:
        """Loads images in the order of their places; close the generator (``contextlib.closing``) to stop early.

        Args:
            places: positions in the set.
            batch_size: images per batch; the last one may be smaller.
        """
        batch_size = min(batch_size, max(1, len(places)))
        side = self._sources.side if self._resize_on_device else self.side
        ring = deque(_buffer(batch_size, side, self.device) for _ in range(_BUFFERS))
        starts = iter(range(0, len(places), batch_size))
        transfers = Transfers(self.device)
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        digesters = ThreadPoolExecutor(_DIGEST_THREADS, thread_name_prefix="digest")
        pending: deque[_Filling] = deque()
        try:
            while True:
                while ring and (start := next(starts, None)) is not None:
                    some = tuple(places[start : start + batch_size])
                    pending.append(self._fill(pool, some, ring.popleft(), batch_size))
                if not pending:
                    return
                filling = pending.popleft()
                yield self._hand_over(filling, transfers, digesters)
                transfers.wait()
                ring.append(filling.buffer)
        finally:
            pool.shutdown(cancel_futures=True)
            digesters.shutdown()

    def _fill(self, pool: ThreadPoolExecutor, places: tuple[int, ...], buffer: Pixels, batch_size: int) -> _Filling:
        images = [self.images[place] for place in places]
        stored = self._store is not None and all(map(self._store.has, images))
        resize = self._resize_on_device and not stored
        side = self._sources.side if resize else self.side
        rows = buffer[: batch_size * side * side * 3].reshape(batch_size, side, side, 3)
        load = self._load_source if resize else self._load_crop
        futures = [pool.submit(_load_or_explain, load, image, row) for image, row in zip(images, rows, strict=False)]
        return _Filling(places, buffer, rows, futures, resize)

    def _load_crop(self, image: ValidationImage, target: Pixels) -> _LoadedImage:
        known = None if self._store is None else self._store.get(image)
        if known is not None:
            target[...], digest = known
            return _LoadedImage(digest=digest)
        crop = self._crop(read_bytes(image))
        target[...] = crop
        digest = hashlib.sha256(target.data).digest()
        if self._store is not None:
            self._store.keep(image, crop, digest)
        return _LoadedImage(digest=digest)

    def _load_source(self, image: ValidationImage, target: Pixels) -> _LoadedImage:
        known = None if self._store is None else self._store.get(image)
        if known is not None:
            return _LoadedImage(self._sources.put_crop(known[0], target), known[1])
        return _LoadedImage(self._sources.put(self._decode(read_bytes(image)), target))

    def _hand_over(self, filling: _Filling, transfers: Transfers, digesters: ThreadPoolExecutor) -> CropBatch:
        loaded = [future.result() for future in filling.futures]
        problems = tuple(each.problem for each in loaded)
        filling.rows[len(loaded) :] = 0
        with transfers.beside_the_network():
            crops = transfers.upload(filling.rows)
            if filling.resize:
                unchanged = self._sources.unchanged()
                crops = resample(crops, [each.geometry or unchanged for each in loaded], self.side)
        transfers.hand_over(crops)
        if not filling.resize:
            digests = np.frombuffer(b"".join(each.digest for each in loaded), np.uint8).reshape(-1, len(NO_CROP))
            return CropBatch(filling.places, problems, crops, lambda: digests)
        with transfers.beside_the_network():
            come_back = transfers.fetch(crops)
        found = digesters.submit(self._digest, filling.places, loaded, come_back)
        return CropBatch(filling.places, problems, crops, found.result)

    def _digest(
        self, places: Sequence[int], loaded: Sequence[_LoadedImage], come_back: Callable[[], torch.Tensor]
    ) -> Digests:
        crops: Pixels = come_back().numpy()
        digests = np.zeros((len(loaded), len(NO_CROP)), np.uint8)
        for row, (place, each) in enumerate(zip(places, loaded, strict=True)):
            if each.problem is not None:
                continue
            digest = each.digest
            if digest == NO_CROP:
                digest = hashlib.sha256(crops[row].data).digest()
                if self._store is not None:
                    self._store.keep(self.images[place], crops[row], digest)
            digests[row] = np.frombuffer(digest, np.uint8)
        return digests


@dataclass(frozen=True, slots=True)
class _Filling:
    """A buffer that threads are filling.

    Args:
        places: of the images.
        buffer: flat memory.
        rows: the same, one row per image, at the uploaded size.
        futures: the result of each image.
        resize: whether the device has to make crops of it.
    """

    places: tuple[int, ...]
    buffer: Pixels
    rows: Pixels
    futures: list[Future[_LoadedImage]]
    resize: bool


def read_bytes(image: ValidationImage) -> bytes:
    """The encoded image.

    Raises:
        UnreadableImageError: the set should have it but does not.
        OSError: it cannot be read.
    """
    if image.location is None:
        raise UnreadableImageError("the image is missing", where=image.id, got="missing")
    return image.location.read()


def _load_or_explain(
    load: Callable[[ValidationImage, Pixels], _LoadedImage], image: ValidationImage, target: Pixels
) -> _LoadedImage:
    """Loads an image into its row; if that fails the row is blank."""
    try:
        return load(image, target)
    except UnreadableImageError as error:
        problem = error.got or "unreadable"
    except OSError as error:
        problem = str(error) or "unreadable"
    target[...] = 0
    return _LoadedImage(problem=problem)


def _buffer(batch_size: int, side: int, device: torch.device) -> Pixels:
    # Only from pinned memory does a copy to the device run at full speed and asynchronously.
    size = batch_size * side * side * 3
    buffer: Crop = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda").numpy()
    return buffer


class Transfers:
    """Copies to a device and back while the network computes there; on a CPU nothing is copied.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device) -> None:
        cuda: Any = torch.cuda  # whose streams and events have no type hints
        self._device = device
        # First in line: the little there is to do for a batch must not wait for all of the network's kernels.
        self._stream = cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._uploaded = cuda.Event() if device.type == "cuda" else None

    @contextmanager
    def beside_the_network(self) -> Iterator[None]:
        """Run what is called in this context on a stream of its own, independent of the network's."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def upload(self, pixels: npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """Pixels on the device; the buffer may be filled again after :meth:`wait`."""
        source = torch.from_numpy(pixels) if isinstance(pixels, np.ndarray) else pixels
        uploaded = source.to(self._device, non_blocking=self._stream is not None)
        if self._uploaded is not None:
            self._uploaded.record(self._stream)
        return uploaded

    def hand_over(self, crops: torch.Tensor) -> None:
        """Makes the network wait for crops, and keeps their memory until it is done with them."""
        if self._stream is None:
            return
        network: Any = torch.cuda.current_stream(self._device)
        network.wait_event(self._stream.record_event())
        crops.record_stream(network)

    def fetch(self, crops: torch.Tensor) -> Callable[[], torch.Tensor]:
        """A function that waits for the crops in CPU memory and returns them."""
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
        """Wait until the last upload no longer needs its buffer."""
        if self._uploaded is not None:
            self._uploaded.synchronize()
