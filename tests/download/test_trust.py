"""What makes a file trusted: the catalogue's hash, the published prefix, the record of the first sight."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from r2convert.catalog.variant import Source
from r2convert.download.cache import FOUND_HERE, Cache, CachedFile, DamagedFile
from r2convert.download.download import fetch_variant
from r2convert.errors import CacheError, FetchError, MirrorsFailedError, OfflineError, UsageError, WrongFileError
from tests.download.server import LoopbackServer
from tests.download.support import Messages, fetch, pinned, prefixed, remains, sample, sha256, unhashed

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
    assert [entry.kind for entry in cache.entries()] == ["bad"]


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
        fetch_variant(variant, cache, publisher="paddle")
    assert "official" in (caught.value.expected or "")


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
