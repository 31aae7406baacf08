"""Hashing the cache again, and clearing away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from r2convert.download.cache import Cache, clean_cache, verify_cache
from tests.download import server as faults
from tests.download.children import Job, start
from tests.download.server import LoopbackServer, wait_until
from tests.download.support import fetch, prefixed, remains, sample, sha256

DATA = sample()
OTHER = sample(seed=1)


def test_a_sound_cache_verifies(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    fetch(source, cache)
    (result,) = verify_cache(cache, [source])
    assert (result.path, result.sha256, result.objection) == (cache.path_of(source), sha256(DATA), None)


def test_damage_that_changes_neither_size_nor_time_is_found(server: LoopbackServer, cache: Cache) -> None:
    """A flipped bit on the disk: only reading everything shows it."""
    source = prefixed(DATA, server.put("f", DATA))
    file = fetch(source, cache)
    before = file.path.stat()
    flipped = bytes([DATA[0] ^ 1]) + DATA[1:]
    file.path.write_bytes(flipped)
    os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (result,) = verify_cache(cache, [source])
    assert result.objection is not None
    assert result.objection.got == sha256(flipped)
    assert result.path == cache.bad_folder / source.file_name
    assert cache.lookup(source) is None


def test_files_that_the_catalogue_does_not_name_are_held_to_the_record(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    file = fetch(source, cache)
    (cache.folder / "stray.bin").write_bytes(OTHER)
    sound, stray = verify_cache(cache, [])
    assert (sound.objection, sound.known) == (None, True)
    assert (stray.sha256, stray.known) == (sha256(OTHER), False)
    file.path.write_bytes(OTHER)
    assert verify_cache(cache, [])[0].objection is not None


@pytest.mark.parametrize("known", [True, False])
def test_a_dangling_link_is_no_sound_file(known: bool, cache: Cache) -> None:
    source = prefixed(DATA)
    cache.prepare()
    cache.path_of(source).symlink_to("nowhere")
    (result,) = verify_cache(cache, [source] if known else [])
    assert result.objection is not None


def test_an_empty_or_missing_cache_is_well(cache: Cache) -> None:
    assert verify_cache(cache, []) == []
    assert clean_cache(cache) == ([], [])
    assert not cache.folder.exists()


def test_cleaning_removes_all_but_files_and_record(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    fetch(source, cache)
    leave_everything(cache)
    assert remains(cache) == {
        "file": [source.file_name],
        "partial": ["g.part"],
        "bad": ["h"],
        "leftover": [".pins.json.0123456789abcdef.part", ".g.json.0123456789abcdef.part", "orphan.json"],
    }
    removed, busy = clean_cache(cache)
    assert (len(removed), busy) == (5, [])
    assert remains(cache) == {"file": [source.file_name]}
    assert list(cache.partial_folder.iterdir()) == []
    assert cache.pins.get(source.file_name) is not None


def leave_everything(cache: Cache) -> None:
    for path in (
        cache.partial_folder / "g.part",
        cache.partial_folder / "g.json",
        cache.partial_folder / "orphan.json",
        cache.partial_folder / ".g.json.0123456789abcdef.part",
        cache.folder / ".pins.json.0123456789abcdef.part",
        cache.bad_folder / "h",
    ):
        path.write_bytes(b"x")


def test_a_download_in_progress_is_left_alone(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA, faults.stall_after(70_000)))
    child = start(Job([source], cache.folder))
    partial: Path = cache.partial_folder / f"{source.file_name}.part"
    wait_until(lambda: partial.exists() and partial.stat().st_size > 0)
    removed, busy = clean_cache(cache)
    assert (removed, [entry.path for entry in busy]) == ([], [partial])
    assert child.result().hashes == (sha256(DATA),)
