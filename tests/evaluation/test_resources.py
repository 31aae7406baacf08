"""Time and memory that a measurement takes."""

import resource

import numpy as np
import torch

from r2convert.evaluation.resources import Stopwatch, keeping_freed_memory


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def take_and_free() -> int:
    """Page faults of taking 64 MiB five times."""
    before = page_faults()
    for _ in range(5):
        torch.empty(16 * 2**20).fill_(1)
    return page_faults() - before


def test_memory_that_a_layer_frees_is_there_for_the_next_one() -> None:
    with keeping_freed_memory():
        kept = [take_and_free() for _ in range(4)][-1]  # once the heap is as large as it has to be
    afterwards = take_and_free()
    assert kept < afterwards / 5


def test_each_network_has_a_peak_of_its_own() -> None:
    peaks = []
    for size in (256, 1):
        watch = Stopwatch(torch.device("cpu"))
        with watch.running():
            np.ones(size * 2**20, np.uint8)
            watch.add(3, 0.0, 8)
        speed = watch.speed()
        assert speed is not None
        assert (speed.images, speed.batch_size) == (3, 8)
        peaks.append(speed.peak_bytes)
    assert peaks[0] - peaks[1] > 200 * 2**20
