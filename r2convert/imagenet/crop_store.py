"""Keeps crops, so that no image is decoded twice: in memory within a run, on disk for later runs.

On disk a set has two plain files: ``<key>.crops``, uint8 (images, crop, crop, 3), which can be memory-mapped by
anything, and ``<key>.digests``, the SHA-256 of each crop, 32 zero bytes where there is none yet. A crop is used only if
its digest matches, so a run that was killed, a full disk or two runs at once can cost time but never a wrong pixel.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from r2convert.catalog.protocol import Protocol
from r2convert.errors import AccessError
from r2convert.imagenet.device_resize import is_out_of_memory, on_device
from r2convert.imagenet.loader import CropBatch, Loader, Transfers
from r2convert.imagenet.preprocessing import Crop
from r2convert.imagenet.validation_set import NO_CROP, ValidationImage, ValidationSet

# Of the memory that is free, for crops; the rest is for networks and the page cache.
_SHARE_OF_MEMORY = 0.5
_CGROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)


class CropStore:
    """The crops of one validation set in a folder.

    The key depends on names, sizes and modification times of the image files, and on the protocol: changed images
    get new files.

    Args:
        folder: where to keep crops; created if needed.
        images: the set.
        protocol: how its crops are made.

    Raises:
        AccessError: the folder cannot be written.
    """

    def __init__(self, folder: Path, images: ValidationSet, protocol: Protocol) -> None:
        key = _key(images, protocol)
        self.crops_path, self.digests_path = folder / f"{key}.crops", folder / f"{key}.digests"
        self._rows = {image: row for row, image in enumerate(images.images)}
        count = len(images.images)
        shape = (count, protocol.crop, protocol.crop, 3)
        self._crop_bytes = protocol.crop * protocol.crop * 3
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _extend(self.crops_path, count * self._crop_bytes)
            _extend(self.digests_path, count * len(NO_CROP))
        except OSError as error:
            raise _cannot_keep(folder, error) from error
        self._crops = np.memmap(self.crops_path, np.uint8, "r", shape=shape)
        self._digests = np.memmap(self.digests_path, np.uint8, "r", shape=(count, len(NO_CROP)))

    def has(self, image: ValidationImage) -> bool:
        """Whether a crop of this image of the set is kept, sound or not."""
        return bool(self._digests[self._rows[image]].any())

    def get(self, image: ValidationImage) -> tuple[Crop, bytes] | None:
        """The crop of an image of the set and its SHA-256, if it is kept and sound."""
        row = self._rows[image]
        digest = self._digests[row].tobytes()
        if digest == NO_CROP or hashlib.sha256(self._crops[row].data).digest() != digest:
            return None
        return self._crops[row], digest

    def keep(self, image: ValidationImage, crop: Crop, digest: bytes) -> None:
        """Keeps the crop of an image of the set.

        Args:
            image: the image.
            crop: uint8, shape (crop, crop, 3).
            digest: SHA-256 of its bytes.

        Raises:
            AccessError: it cannot be written.
        """
        row = self._rows[image]
        # Written, not stored through the map: then a full disk is an error, not a crash.
        try:
            _write_at(self.crops_path, row * self._crop_bytes, crop.tobytes())
            _write_at(self.digests_path, row * len(NO_CROP), digest)
        except OSError as error:
            raise _cannot_keep(self.crops_path.parent, error) from error


class ResidentCrops:
    """Crops of some images of a set in memory: loaded once, used as often as needed.

    Args:
        loader: where crops come from the first time.
        memory: uint8, shape (images, crop, crop, 3), see :func:`memory_for`.
        places: positions in the set of the images it is for, in ascending order.
    """

    def __init__(self, loader: Loader, memory: torch.Tensor, places: Sequence[int]) -> None:
        self._loader = loader
        self._memory = memory
        self._rows = {place: row for row, place in enumerate(places)}
        self._problems: dict[int, str | None] = {}

    def batches(self, places: Sequence[int], batch_size: int) -> Generator[CropBatch, None, None]:
        """As :meth:`~r2convert.imagenet.loader.Loader.batches`; from memory, once all of them are there."""
        if all(place in self._problems for place in places):
            yield from self._known_batches(places, batch_size)
            return
        with closing(self._loader.batches(places, batch_size)) as batches:
            for batch in batches:
                self._keep(batch)
                self._problems.update(zip(batch.places, batch.problems, strict=True))
                yield batch

    def _keep(self, batch: CropBatch) -> None:
        rows = [self._rows[place] for place in batch.places]
        crops = batch.crops[: len(rows)]
        if rows[-1] - rows[0] == len(rows) - 1:
            # To pinned memory without waiting: the stream is done with it before anybody asks for these crops.
            self._memory[rows[0] : rows[-1] + 1].copy_(crops, non_blocking=True)
            return
        where = on_device(torch.tensor(rows), self._memory.device)
        self._memory.index_copy_(0, where, crops.to(self._memory.device))

    def _known_batches(self, places: Sequence[int], batch_size: int) -> Iterator[CropBatch]:
        transfers = Transfers(self._loader.device)
        for start in range(0, len(places), batch_size):
            some = tuple(places[start : start + batch_size])
            rows = [self._rows[place] for place in some]
            if rows[-1] - rows[0] == len(rows) - 1:
                crops = self._memory[rows[0] : rows[-1] + 1]
            else:
                crops = self._memory.index_select(0, on_device(torch.tensor(rows), self._memory.device))
            if crops.device != self._loader.device:
                with transfers.beside_the_network():
                    crops = transfers.upload(crops)
                transfers.hand_over(crops)
            yield CropBatch(some, tuple(self._problems[place] for place in some), crops, None)
            transfers.wait()


def memory_for(count: int, side: int, device: torch.device, most_bytes: int | None = None) -> torch.Tensor:
    """Memory for crops: on the device if all of them fit there, else in pinned memory of the processor.

    Args:
        count: how many crops.
        side: pixels of one, each way.
        device: where the networks run.
        most_bytes: memory to take at most; by default half of what is free.

    Returns:
        uint8, shape (as many crops as there is room for, side, side, 3).
    """
    size = side * side * 3
    room = int(free_memory(device) * _SHARE_OF_MEMORY) if most_bytes is None else most_bytes
    if device.type != "cpu" and count * size <= room:
        try:
            return torch.empty((count, side, side, 3), dtype=torch.uint8, device=device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    if most_bytes is None:
        room = int(free_memory(torch.device("cpu")) * _SHARE_OF_MEMORY) // _processes_here()
    pinned = device.type == "cuda"
    if pinned:
        room = 1 << room.bit_length() >> 1  # torch takes pinned memory in powers of two
    count = max(1, min(count, room // size))
    return torch.empty((count, side, side, 3), dtype=torch.uint8, pin_memory=pinned)


def free_memory(device: torch.device) -> int:
    """Bytes that are free where a device keeps its tensors; 0 where nothing tells.

    Of the processor's: what the kernel calls available (free, or held by caches that it gives back), but no more
    than a container's limit leaves.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    if device.type != "cpu":
        return 0
    available = _available_memory(Path("/proc/meminfo"))
    limits = [
        _left_in_cgroup(Path(limit), Path(used), Path(statistics), reclaimable)
        for limit, used, statistics, reclaimable in _CGROUP_LIMITS
    ]
    return max(0, min([available, *(limit for limit in limits if limit is not None)]))


def _available_memory(meminfo: Path) -> int:
    try:
        for line in meminfo.read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def _left_in_cgroup(limit: Path, used: Path, statistics: Path, reclaimable: str) -> int | None:
    """Bytes a container may still take; ``None`` if nothing limits it."""
    try:
        most, taken = limit.read_text("ascii").strip(), int(used.read_text("ascii"))
        if most == "max":
            return None
        fields = dict(line.split()[:2] for line in statistics.read_text("ascii").splitlines() if line.strip())
        return int(most) - taken + int(fields.get(reclaimable, 0))
    except (OSError, ValueError):
        return None


def _processes_here() -> int:
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _key(images: ValidationSet, protocol: Protocol) -> str:
    digest = hashlib.sha256(f"{protocol}\n".encode())
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
