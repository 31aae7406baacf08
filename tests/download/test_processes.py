"""Processes that fetch the same files, and processes that die at any moment."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from r2convert.download.cache import Cache
from tests.download import server as faults
from tests.download.children import Job, start
from tests.download.server import LoopbackServer, wait_until
from tests.download.support import Messages, fetch, prefixed, remains, sample, sha256

DATA = sample(4 << 20)
PACE = 60e6
"""Bytes a second: slow enough that a kill meets the transfer, fast enough for a hundred of them."""


@pytest.mark.slow
def test_a_hundred_killed_fetches_all_end_well_when_run_once_more(server: LoopbackServer, tmp_path: Path) -> None:
    """Killed after a random number of bytes, including before the first and after the last."""
    chance = random.Random(5)
    resumed = 0
    for index in range(100):
        path, folder = f"f{index}", tmp_path / str(index)
        source = prefixed(DATA, server.put(path, DATA, bytes_per_second=PACE))
        child = start(Job([source], folder))
        moment = chance.randrange(len(DATA) + 1)
        wait_until(lambda path=path, moment=moment: server.shelves[path].sent >= moment)  # type: ignore[misc]
        child.kill()
        resumed += check_after_kill(server, path, Cache(folder))
    assert resumed >= 50


def check_after_kill(server: LoopbackServer, path: str, cache: Cache) -> bool:
    """Hold what must be true after a kill, fetch once more, and tell whether that went on from a partial file."""
    source = prefixed(DATA, server.url(path))
    final = cache.path_of(source)
    if final.exists():
        assert final.read_bytes() == DATA
    partial = cache.partial_folder / f"{source.file_name}.part"
    there = partial.stat().st_size if partial.exists() else 0
    assert not there or DATA.startswith(partial.read_bytes())
    server.requests.clear()
    server.shelves[path].bytes_per_second = None
    assert fetch(source, cache).path.read_bytes() == DATA
    assert set(remains(cache)) <= {"file", "leftover"}
    asked = server.ranges(path)
    if 0 < there < len(DATA):
        assert asked == [f"bytes={there}-"]
    return there > 0


def test_a_killed_holder_of_the_lock_blocks_nobody(server: LoopbackServer, cache: Cache, messages: Messages) -> None:
    source = prefixed(DATA, server.put("f", DATA, faults.stall_after(1 << 20), etag='"v1"'))
    child = start(Job([source], cache.folder))
    wait_until(lambda: server.shelves["f"].sent >= 1 << 20)
    child.kill()
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert "waiting" not in messages.all


def test_the_second_process_waits_says_so_and_uses_the_result(server: LoopbackServer, cache: Cache) -> None:
    """The server finishes the first one's transfer only when the second one has said that it waits."""
    waits = threading.Event()

    class Listening(Messages):
        def message(self, text: str) -> None:
            super().message(text)
            waits.set()

    messages = Listening()
    source = prefixed(DATA, server.put("f", DATA, faults.held_half_way(waits)))
    child = start(Job([source], cache.folder))
    wait_until(lambda: server.shelves["f"].sent > 0)
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert messages.texts == [f"{source.file_name}: another process is working on it: waiting"]
    assert child.result().hashes == (sha256(DATA),)
    assert len(server.requests) == 1


def test_two_runs_of_five_processes_share_the_work_on_three_files(server: LoopbackServer, cache: Cache) -> None:
    files = [sample(1 << 20, seed=seed) for seed in range(3)]
    sources = [prefixed(data, server.put(f"f{index}", data, bytes_per_second=10e6)) for index, data in enumerate(files)]
    orders = [sources, sources[::-1], sources[1:] + sources[:1]]
    children = [start(Job(orders[index % 3], cache.folder)) for index in range(10)]
    for index, child in enumerate(children):
        expected = {source.file_name: sha256(data) for source, data in zip(sources, files, strict=True)}
        result = child.result()
        assert result.error == "", result.text
        assert result.hashes == tuple(expected[source.file_name] for source in orders[index % 3])
    assert sorted(request.path for request in server.requests) == ["f0", "f1", "f2"]
    assert remains(cache) == {"file": sorted(source.file_name for source in sources)}
    assert len(cache.pins.all()) == 3
