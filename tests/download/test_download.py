"""What makes a file trusted, that two files are never mixed, and several files at once."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from r2convert.catalog.variant import Source
from r2convert.download.cache import FOUND_HERE, Cache, CachedFile, DamagedFile
from r2convert.download.download import fetch_sources
from r2convert.download.listing import choose_source
from r2convert.download.transfer import FetchSettings
from r2convert.errors import (
    CacheError,
    FetchError,
    MirrorsFailedError,
    OfflineError,
    UnreachableError,
    UsageError,
    WrongFileError,
)
from tests.download import server as faults
from tests.download.server import Exchange, Fault, LoopbackServer
from tests.download.support import QUICK, Messages, fetch, pinned, prefixed, remains, sample, sha256, unhashed

DATA = sample()
OTHER = sample(seed=1)


def test_trust_says_what_is_known_of_the_hash(server: LoopbackServer, cache: Cache) -> None:
    url = server.put("f", DATA)
    assert fetch(prefixed(DATA, url), cache).trust == "seen"
    assert fetch(pinned(DATA, url), cache).trust == "pinned"
    assert fetch(unhashed(url), cache).trust == "unknown"


def test_the_full_hash_is_recorded_at_first_sight(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    fetch(source, cache)
    pin = cache.pins.get(source.file_name)
    assert pin is not None
    assert (pin.sha256, pin.size, pin.origin) == (sha256(DATA), len(DATA), server.url("f"))


@pytest.mark.parametrize("make", [prefixed, pinned])
def test_a_wrong_file_is_kept_aside_and_mentioned(
    make: Callable[..., Source], server: LoopbackServer, cache: Cache
) -> None:
    source = make(DATA, server.put("f", OTHER))
    with pytest.raises(WrongFileError) as caught:
        fetch(source, cache)
    aside = cache.bad_folder / source.file_name
    assert aside.read_bytes() == OTHER
    text = str(caught.value)
    assert str(aside) in text
    assert sha256(OTHER) in text
    assert (source.sha256 or source.sha256_prefix or "?") in text
    assert remains(cache) == {"bad": [source.file_name]}


def test_only_the_last_wrong_file_is_kept(server: LoopbackServer, cache: Cache) -> None:
    for bad in (OTHER, sample(seed=2)):
        with pytest.raises(WrongFileError):
            fetch(prefixed(DATA, server.put("f", bad)), cache)
    assert [entry.state for entry in cache.entries()] == ["bad"]


def test_a_different_file_with_the_same_prefix_is_refused_with_both_hashes(
    server: LoopbackServer, cache: Cache
) -> None:
    """The prefix is cut to one digit, so that a second file that fits it is found at once."""
    twin = next(data for data in (sample(seed=seed) for seed in range(1, 500)) if _digit(data) == _digit(DATA))
    source = prefixed(DATA, server.put("f", DATA), digits=1)
    first = fetch(source, cache)
    first.path.unlink()
    server.put("f", twin, etag='"v2"')
    with pytest.raises(WrongFileError, match="first seen") as caught:
        fetch(source, cache)
    assert caught.value.expected == sha256(DATA)
    assert sha256(twin) in (caught.value.got or "")
    assert not first.path.exists()
    cache.pins.forget(source.file_name)
    assert fetch(source, cache).sha256 == sha256(twin)


def _digit(data: bytes) -> str:
    return sha256(data)[0]


def test_a_file_of_which_nothing_is_published_is_held_to_its_first_sight(server: LoopbackServer, cache: Cache) -> None:
    source = unhashed(server.put("f", DATA))
    fetch(source, cache).path.unlink()
    server.put("f", OTHER, etag='"v2"')
    with pytest.raises(WrongFileError, match="first seen"):
        fetch(source, cache)


def test_the_catalogue_outranks_the_record(server: LoopbackServer, cache: Cache) -> None:
    """A maintainer pins the hash of the file that the publisher really has."""
    source = unhashed(server.put("f", OTHER))
    fetch(source, cache)
    server.put("f", DATA)
    file = fetch(replace(source, sha256=sha256(DATA), size=len(DATA)), cache)
    assert (file.trust, file.sha256) == ("pinned", sha256(DATA))
    assert (cache.bad_folder / source.file_name).read_bytes() == OTHER


def test_a_good_mirror_after_a_bad_one_wins_and_the_bad_one_is_mentioned(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    source = prefixed(DATA, server.put("f", OTHER), second_server.put("f", DATA))
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert str(cache.bad_folder / source.file_name) in messages.all


def test_a_cached_file_is_used_without_a_request(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    first = fetch(source, cache)
    server.requests.clear()
    assert fetch(source, cache) == first
    assert fetch(source, cache, offline=True) == first
    assert server.requests == []


@pytest.mark.parametrize("change", ["content", "length", "emptied"])
def test_a_damaged_cached_file_is_noticed_put_aside_and_fetched_again(
    change: str, server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    file = fetch(source, cache)
    damaged = {"content": DATA[:-1] + b"?", "length": DATA + b"?", "emptied": b""}[change]
    file.path.write_bytes(damaged)
    assert cache.lookup(source) is None
    assert isinstance(cache.examine(source), DamagedFile)
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert (cache.bad_folder / source.file_name).read_bytes() == damaged
    assert "damaged" in messages.all


def test_a_touched_file_is_hashed_again_and_stays(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    file = fetch(source, cache)
    os.utime(file.path, ns=(1, 1))
    assert cache.lookup(source) == file
    pin = cache.pins.get(source.file_name)
    assert pin is not None
    assert pin.modified_ns == 1


def test_a_damaged_file_offline_is_not_used(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    fetch(source, cache).path.write_bytes(OTHER)
    with pytest.raises(OfflineError):
        fetch(source, cache, offline=True)
    assert not cache.path_of(source).exists()


def test_a_file_put_there_by_hand_is_taken_if_it_fits(cache: Cache) -> None:
    source = prefixed(DATA)
    cache.folder.mkdir()
    cache.path_of(source).write_bytes(DATA)
    file = cache.lookup(source)
    assert file == CachedFile(cache.path_of(source), len(DATA), sha256(DATA), "seen", FOUND_HERE)
    cache.path_of(source).write_bytes(OTHER)
    assert cache.lookup(source) is None


def test_offline_without_the_file_says_what_can_be_done(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    with pytest.raises(OfflineError) as caught:
        fetch(source, cache, offline=True)
    assert "--import" in (caught.value.next_step or "")
    assert server.requests == []


@pytest.mark.parametrize("offline", [False, True])
def test_a_folder_can_be_the_mirror(
    offline: bool, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = prefixed(DATA, "https://no-such-host.invalid/f")
    (tmp_path / source.file_name).write_bytes(DATA)
    monkeypatch.setenv("R2CONVERT_MIRROR", str(tmp_path))
    file = fetch(source, cache, offline=offline)
    assert file.path.read_bytes() == DATA
    assert file.origin == str(tmp_path / source.file_name)


@pytest.mark.parametrize("content", [OTHER, b"", None])
def test_a_mirror_folder_without_the_right_file_is_passed_over(
    content: bytes | None, tmp_path: Path, server: LoopbackServer, cache: Cache
) -> None:
    source = pinned(DATA, server.put("f", DATA))
    if content is not None:
        (tmp_path / source.file_name).write_bytes(content)
    file = fetch(source, cache, mirror=str(tmp_path))
    assert (file.path.read_bytes(), file.origin) == (DATA, server.url("f"))


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_what_is_no_regular_file_in_a_mirror_folder_is_passed_over(
    kind: str, server: LoopbackServer, cache: Cache, messages: Messages, tmp_path: Path
) -> None:
    """A pipe would be waited for, a device read for ever."""
    source = prefixed(DATA, server.put("f", DATA))
    place = tmp_path / source.file_name
    if kind == "a pipe":
        os.mkfifo(place)
    elif kind == "a device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    assert fetch(source, cache, messages, mirror=str(tmp_path)).origin == server.url("f")
    assert "mirror folder does not give the file" in messages.all


def test_a_file_in_a_mirror_folder_that_grows_is_not_taken(cache: Cache, tmp_path: Path) -> None:
    """It is complete by its hash when the first byte is read, and somebody goes on writing."""
    source = prefixed(DATA)
    place = tmp_path / source.file_name
    place.write_bytes(DATA)

    class Growing(Messages):
        def started(self, name: str, total: int | None, done: int) -> None:
            with place.open("ab") as file:
                file.write(bytes(1 << 21))

    with pytest.raises(FetchError) as caught:
        fetch(source, cache, Growing(), mirror=str(tmp_path))
    assert "size changes" in (caught.value.got or "")
    assert remains(cache) == {}


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_what_is_no_regular_file_in_the_cache_is_a_clear_error(kind: str, cache: Cache) -> None:
    source = prefixed(DATA)
    cache.folder.mkdir()
    if kind == "a pipe":
        os.mkfifo(cache.path_of(source))
    else:
        cache.path_of(source).symlink_to("/dev/zero")
    with pytest.raises(CacheError) as caught:
        cache.lookup(source)
    assert "not a regular file" in (caught.value.got or "")


def test_the_mirror_url_comes_first(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    second_server.put(f"weights/{source.file_name}", DATA)
    monkeypatch.setenv("R2CONVERT_MIRROR", second_server.url("weights/"))
    assert fetch(source, cache).origin == second_server.url(f"weights/{source.file_name}")
    assert server.requests == []


def test_a_source_without_addresses_needs_another_way_in(cache: Cache) -> None:
    with pytest.raises(FetchError):
        fetch(prefixed(DATA), cache)


def test_a_publisher_that_lacks_a_variant_is_a_usage_error(cache: Cache) -> None:
    from r2convert.catalog import load_catalog

    variant = load_catalog().find("res2net50_v1b_w26_s4")
    with pytest.raises(UsageError, match="not published by paddle") as caught:
        choose_source(variant, "paddle")
    assert "official" in (caught.value.expected or "")


def test_weights_that_only_a_page_offers_are_said_to_be_there() -> None:
    from r2convert.catalog import load_catalog

    variant = load_catalog().find("res2net152_v1b_w26_s4")
    with pytest.raises(UsageError, match="no file of Res2Net-v1b-152 can be fetched") as caught:
        choose_source(variant)
    assert variant.weights[0].page in (caught.value.next_step or "")


def test_all_mirrors_with_wrong_files_are_one_readable_error(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache
) -> None:
    source = prefixed(DATA, server.put("f", OTHER), second_server.put("f", OTHER))
    with pytest.raises(MirrorsFailedError) as caught:
        fetch(source, cache)
    assert str(caught.value).count(sha256(OTHER)) == 2


def test_a_damaged_record_is_an_error_that_says_what_to_do(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    fetch(source, cache)
    (cache.folder / "pins.json").write_text("files = 3")
    with pytest.raises(CacheError, match="record") as caught:
        fetch(source, cache)
    assert "delete it" in (caught.value.next_step or "")


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


OLD = sample(50_000)
NEW = sample(50_000, seed=1)
MOST_RUNS = 4


def replaced(exchange: Exchange) -> None:
    """The publisher replaces the file, with a new tag, and the answer is already the new one's."""
    exchange.shelf.data, exchange.shelf.etag = NEW, '"v2"'
    faults.serve(exchange)


def replaced_carelessly(exchange: Exchange) -> None:
    """The same, by a server that does not know If-Range."""
    exchange.shelf.data, exchange.shelf.etag = NEW, '"v2"'
    (faults.careless_range if exchange.offset else faults.serve)(exchange)


FAULTS: dict[str, Fault] = {
    "serve": faults.serve,
    "cut 10000": faults.cut_after(10_000),
    "cut 0": faults.cut_after(0),
    "cut 49999": faults.cut_after(49_999),
    "reset": faults.reset,
    "whole file": faults.whole_file,
    "wrong range": faults.wrong_range,
    "shifted range": faults.shifted_range,
    "unreadable range": faults.unreadable_range,
    "half range": faults.half_range,
    "416": faults.not_satisfiable(10_000),
    "416 at the end": faults.not_satisfiable(len(OLD)),
    "gzip": faults.gzipped,
    "chunked": faults.chunked,
    "chunked cut": faults.chunked_cut,
    "no length": faults.no_length,
    "page": faults.web_page,
    "500": faults.status(500),
    "404": faults.status(404),
    "replaced": replaced,
    "replaced carelessly": replaced_carelessly,
}


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(["prefix", "pinned", "nothing"]), st.lists(st.sampled_from(sorted(FAULTS)), max_size=8))
def test_a_file_is_whole_and_the_right_one_or_there_is_none(known: str, names: list[str]) -> None:
    with LoopbackServer() as server, tempfile.TemporaryDirectory() as folder:
        url = server.put("f", OLD, *[FAULTS[name] for name in names])
        source = {"prefix": prefixed(OLD, url), "pinned": pinned(OLD, url), "nothing": unhashed(url)}[known]
        cache = Cache(Path(folder) / "cache")
        for _ in range(MOST_RUNS):
            try:
                content = fetch(source, cache).path.read_bytes()
            except FetchError:
                assert "file" not in remains(cache)
            else:
                assert content == OLD or (known == "nothing" and content == NEW)
                break
