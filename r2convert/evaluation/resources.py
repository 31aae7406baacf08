"""The resources of a measurement: time, cores and memory."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import torch

from r2convert.results.verification import Speed


class Stopwatch:
    """The time and memory that a network has used so far.

    Args:
        device: where it runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before, self._started = 0.0, 0.0
        self.images, self._batch_size, self._peak_bytes = 0, 0, 0
        self._batches: list[float] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time spent in this context."""
        _forget_peak(self._device)
        self._started = time.perf_counter()
        try:
            yield
        finally:
            self._before, self._started = self.seconds, 0.0
            self._peak_bytes = max(self._peak_bytes, _peak_bytes(self._device))

    @property
    def seconds(self) -> float:
        """Seconds it has run, from waiting for the first batch to recording the last one."""
        return self._before + (time.perf_counter() - self._started if self._started else 0.0)

    def add(self, images: int, seconds: float, batch_size: int) -> None:
        """Record a finished batch.

        Args:
            images: how many of its images count; those rechecked do not.
            seconds: how long the device worked on it.
            batch_size: images per batch.
        """
        self.images += images
        self._batches.append(seconds)
        self._batch_size = batch_size

    def speed(self) -> Speed | None:
        """How fast the network was; ``None`` if it ran on no images."""
        if not self._batches:
            return None
        seconds = self.seconds
        return Speed(
            images=self.images,
            seconds=seconds,
            images_per_second=self.images / seconds,
            batch_size=self._batch_size,
            batch_milliseconds=1000 * median(self._batches),
            busy=min(1.0, sum(self._batches) / seconds),
            peak_bytes=self._peak_bytes,
        )


def joint_speed(speeds: Iterable[Speed | None]) -> Speed | None:
    """The joint speed of processes that shared the images of one set."""
    found = [speed for speed in speeds if speed is not None]
    if not found:
        return None
    images, seconds = sum(each.images for each in found), max(each.seconds for each in found)
    return Speed(
        images=images,
        seconds=seconds,
        images_per_second=images / seconds,
        batch_size=max(each.batch_size for each in found),
        batch_milliseconds=median(each.batch_milliseconds for each in found),
        busy=sum(each.busy for each in found) / len(found),
        peak_bytes=max(each.peak_bytes for each in found),
    )


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # see proc_pid_clear_refs(5): resets the peak of the resident set


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS, the only system that gets here


def default_batch_size(device: torch.device) -> int:
    """The default batch size: small on a CPU, where larger batches do not fit its caches and run slower."""
    return min(64, max(8, 4 * torch.get_num_threads())) if device.type == "cpu" else 256


def core_count() -> int:
    """Cores for this process: those it may run on, or its share of them if several processes share the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


# Parameters of glibc's mallopt(3): while networks run, and what glibc adapts to in a process with large blocks.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_KEEPING = {_M_TRIM_THRESHOLD: 2**31 - 1, _M_MMAP_MAX: 0}
_USUAL = {_M_TRIM_THRESHOLD: 64 * 2**20, _M_MMAP_THRESHOLD: 32 * 2**20, _M_MMAP_MAX: 65_536}


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Keep the CPU memory that a network frees for its next layer; it is returned to the system at the end.

    By default glibc returns large blocks as soon as they are free. The next layer requests as much again, and the
    kernel provides it page by page, zeroed. Other allocators are left as they are.
    """
    if os.name != "posix" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        yield
        return
    _set_allocator(library, _KEEPING)
    try:
        yield
    finally:
        _set_allocator(library, _USUAL)
        library.malloc_trim(0)


def _set_allocator(library: ctypes.CDLL, parameters: Mapping[int, int]) -> None:
    for parameter, value in parameters.items():
        library.mallopt(parameter, value)
