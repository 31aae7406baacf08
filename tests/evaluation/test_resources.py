"""Time and memory that a measurement takes."""

import resource

import numpy as np
import torch

from r2convert.evaluation.resources import Stopwatch, joint_speed, keeping_freed_memory
from r2convert.results.verification import Speed


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


def test_processes_beside_each_other_are_as_fast_as_the_slowest_lets_them() -> None:
    slow, fast = Speed(30, 10.0, 3.0, 8, 2000.0, 1.0, 5), Speed(30, 6.0, 5.0, 4, 1000.0, 0.5, 9)
    assert joint_speed([slow, None, fast]) == Speed(60, 10.0, 6.0, 8, 1500.0, 0.75, 9)
    assert joint_speed([None, None]) is None
