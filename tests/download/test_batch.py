"""Several files at once."""

from __future__ import annotations

import threading

import pytest

from r2convert.download.cache import Cache
from r2convert.download.download import FetchSettings, fetch_sources
from r2convert.errors import UnreachableError, WrongFileError
from tests.download import server as faults
from tests.download.server import LoopbackServer
from tests.download.support import QUICK, Messages, prefixed, remains, sample

FILES = [sample(100_000, seed=seed) for seed in range(8)]
SETTINGS = FetchSettings(patience=QUICK)


def test_outcomes_come_in_the_order_of_the_sources(server: LoopbackServer, cache: Cache, messages: Messages) -> None:
    sources = [
        prefixed(data, server.put(f"f{index}", data, faults.slowly(0.2 if index == 0 else 0.0)))
        for index, data in enumerate(FILES)
    ]
    outcomes = fetch_sources(sources, cache, progress=messages, settings=SETTINGS)
    assert [outcome.file.path.read_bytes() for outcome in outcomes if outcome.file] == FILES
    assert sorted(messages.ended) == sorted(source.file_name for source in sources)
    assert messages.bytes == sum(map(len, FILES))


def test_four_are_fetched_at_once(server: LoopbackServer, cache: Cache) -> None:
    """No answer comes before all four requests are there."""
    fault = faults.together(threading.Barrier(4))
    sources = [prefixed(data, server.put(f"f{index}", data, fault)) for index, data in enumerate(FILES[:4])]
    outcomes = fetch_sources(sources, cache, settings=FetchSettings())
    assert [outcome.error for outcome in outcomes] == [None] * 4


def test_one_that_fails_does_not_stop_the_others(server: LoopbackServer, cache: Cache) -> None:
    sources = [prefixed(data, server.put(f"f{index}", data)) for index, data in enumerate(FILES)]
    server.put("f3", FILES[4])
    outcomes = fetch_sources(sources, cache, settings=SETTINGS)
    assert [index for index, outcome in enumerate(outcomes) if outcome.error] == [3]
    assert isinstance(outcomes[3].error, WrongFileError)
    assert len(remains(cache)["file"]) == 7


def test_a_dead_host_is_remembered_for_the_rest_of_the_run(
    server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    dead = f"http://127.0.0.1:{faults.free_port()}"
    sources = [prefixed(data, f"{dead}/f", server.put(f"f{index}", data)) for index, data in enumerate(FILES)]
    outcomes = fetch_sources(sources, cache, at_once=1, progress=messages, settings=FetchSettings(patience=QUICK))
    assert all(outcome.file for outcome in outcomes)
    assert sum("trying the next address" in text for text in messages.texts) == 1


def test_a_dead_host_is_asked_again_when_nothing_else_is_left(cache: Cache, messages: Messages) -> None:
    """Once for each file, not with all the patience the first one had."""
    dead = f"http://127.0.0.1:{faults.free_port()}"
    sources = [prefixed(data, f"{dead}/f") for data in FILES[:3]]
    outcomes = fetch_sources(sources, cache, at_once=1, progress=messages, settings=FetchSettings(patience=QUICK))
    assert all(isinstance(outcome.error, UnreachableError) for outcome in outcomes)
    assert sum("trying again" in text for text in messages.texts) == QUICK.attempts - 1


def test_the_same_source_twice_is_fetched_once(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(FILES[0], server.put("f", FILES[0], faults.slowly(0.2)))
    outcomes = fetch_sources([source] * 4, cache, settings=SETTINGS)
    assert all(outcome.file for outcome in outcomes)
    assert len(server.requests) == 1


def test_no_sources_are_no_work(cache: Cache) -> None:
    assert fetch_sources([], cache) == []


def test_a_mistake_in_a_thread_reaches_the_caller(server: LoopbackServer, cache: Cache) -> None:
    class Broken(Messages):
        def started(self, name: str, total: int | None, done: int) -> None:
            raise RuntimeError("the display is broken")

    source = prefixed(FILES[0], server.put("f", FILES[0]))
    with pytest.raises(RuntimeError, match="display"):
        fetch_sources([source], cache, progress=Broken(), settings=FetchSettings(patience=QUICK))


def test_a_stopped_run_keeps_what_has_arrived(server: LoopbackServer, cache: Cache) -> None:
    """The display stops the run from its own thread, as a caller may from any."""
    settings = FetchSettings(patience=QUICK)

    class Impatient(Messages):
        def advanced(self, name: str, amount: int) -> None:
            settings.cancelled.set()

    data = sample(8 << 20)
    source = prefixed(data, server.put("f", data, bytes_per_second=20e6))
    outcomes = fetch_sources([source], cache, progress=Impatient(), settings=settings)
    assert isinstance(outcomes[0].error, UnreachableError)
    assert list(remains(cache)) == ["partial"]
