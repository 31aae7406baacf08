"""Full disks, folders that cannot be written, and links where files should be."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from r2convert.download.cache import Cache
from r2convert.errors import CacheError, NoSpaceError
from tests.download import server as faults
from tests.download.children import Job, start
from tests.download.server import LoopbackServer, wait_until
from tests.download.support import Messages, fetch, prefixed, remains, sample, sha256

DATA = sample(400_000)


def test_a_disk_that_fills_up_keeps_what_it_holds_for_the_next_run(server: LoopbackServer, cache: Cache) -> None:
    """The kernel stops the write in the middle of a block, as a full disk does."""
    source = prefixed(DATA, server.put("f", DATA))
    result = start(Job([source], cache.folder, largest_write=100_001)).result()
    assert result.error == "NoSpaceError"
    assert "free some space" in result.text
    assert remains(cache) == {"partial": [f"{source.file_name}.part"]}
    assert fetch(source, cache).path.read_bytes() == DATA
    assert server.ranges("f") == [None, "bytes=100001-"]


def test_the_space_is_checked_before_the_first_byte(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA, faults.claims_length(1 << 55)))
    with pytest.raises(NoSpaceError, match="no room") as caught:
        fetch(source, cache, largest_file=1 << 60)
    assert caught.value.expected == f"{1 << 55:,} bytes free"
    assert remains(cache) == {}


def test_space_is_not_sought_at_other_mirrors(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache
) -> None:
    url = server.put("f", DATA, faults.claims_length(1 << 55))
    with pytest.raises(NoSpaceError):
        fetch(prefixed(DATA, url, second_server.put("f", DATA)), cache, largest_file=1 << 60)
    assert second_server.requests == []


@pytest.mark.parametrize("content", [b"precious", None])
def test_a_link_under_the_final_name_is_replaced_and_not_followed(
    content: bytes | None, server: LoopbackServer, cache: Cache, tmp_path: Path
) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    elsewhere = tmp_path / "elsewhere"
    if content is not None:
        elsewhere.write_bytes(content)
    cache.folder.mkdir()
    cache.path_of(source).symlink_to(elsewhere)
    assert fetch(source, cache).path.read_bytes() == DATA
    assert not cache.path_of(source).is_symlink()
    assert (elsewhere.read_bytes() if content is not None else elsewhere.exists()) == (content or False)


def test_a_link_to_the_right_file_is_used(server: LoopbackServer, cache: Cache, tmp_path: Path) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    (tmp_path / "shared").write_bytes(DATA)
    cache.folder.mkdir()
    cache.path_of(source).symlink_to(tmp_path / "shared")
    assert fetch(source, cache).sha256 == sha256(DATA)
    assert server.requests == []


@pytest.mark.parametrize("suffix", ["part", "json"])
def test_links_among_the_partial_files_are_not_written_through(
    suffix: str, server: LoopbackServer, cache: Cache, tmp_path: Path
) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    cache.prepare()
    (cache.partial_folder / f"{source.file_name}.{suffix}").symlink_to(precious)
    assert fetch(source, cache).path.read_bytes() == DATA
    assert precious.read_bytes() == b"precious"


def test_a_folder_in_place_of_the_file_is_a_clear_error(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA))
    cache.path_of(source).mkdir(parents=True)
    with pytest.raises(CacheError) as caught:
        fetch(source, cache)
    assert str(cache.path_of(source)) in (caught.value.where or "")


@pytest.mark.parametrize("obstacle", ["", "partial", "bad", "locks"])
def test_a_cache_that_cannot_be_made_is_a_clear_error(obstacle: str, server: LoopbackServer, cache: Cache) -> None:
    place = cache.folder / obstacle
    place.parent.mkdir(exist_ok=True)
    place.write_text("a file where a folder should be")
    with pytest.raises(CacheError) as caught:
        fetch(prefixed(DATA, server.put("f", DATA)), cache)
    assert caught.value.exit_code == 4
    assert "R2CONVERT_CACHE" in (caught.value.next_step or "")


@pytest.mark.parametrize("gone", ["the file", "its folder", "the cache"])
def test_a_download_that_is_removed_while_it_runs_is_a_clear_error(
    gone: str, server: LoopbackServer, cache: Cache
) -> None:
    partial = cache.partial_folder / prefixed(DATA).file_name
    partial = partial.with_name(f"{partial.name}.part")

    def remove() -> None:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 0)
        if gone == "the file":
            partial.unlink()
        else:
            shutil.rmtree(cache.partial_folder if gone == "its folder" else cache.folder)

    source = prefixed(DATA, server.put("f", DATA, faults.interrupted_by(remove)))
    with pytest.raises(CacheError, match="removed while it was in use") as caught:
        fetch(source, cache)
    assert "again" in (caught.value.next_step or "")
    assert not cache.path_of(source).exists()
    assert fetch(source, cache).path.read_bytes() == DATA


@pytest.mark.parametrize("other", [sample(400_000, seed=7), DATA[:1000]])
def test_bytes_that_another_wrote_in_our_place_are_never_taken_for_ours(
    other: bytes, server: LoopbackServer, cache: Cache
) -> None:
    """The lock of a cache that was emptied guards nothing: another process may have begun anew."""
    partial = cache.partial_folder / f"{prefixed(DATA).file_name}.part"

    def replace() -> None:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 0)
        partial.unlink()
        partial.write_bytes(other)

    source = prefixed(DATA, server.put("f", DATA, faults.interrupted_by(replace)))
    with pytest.raises(CacheError, match="replaced while"):
        fetch(source, cache)
    assert not cache.path_of(source).exists()


def test_a_cut_partial_file_is_not_taken_for_whole(server: LoopbackServer, cache: Cache) -> None:
    partial = cache.partial_folder / f"{prefixed(DATA).file_name}.part"

    def cut() -> None:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 10)
        os.truncate(partial, 10)

    source = prefixed(DATA, server.put("f", DATA, faults.interrupted_by(cut)))
    with pytest.raises(CacheError, match="replaced while"):
        fetch(source, cache)
    assert not cache.path_of(source).exists()


@pytest.fixture
def read_only_cache(server: LoopbackServer) -> Iterator[Cache]:
    """A cache with one file, that every user may read and this test's children may not write."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        cache = Cache(Path(place) / "cache")
        fetch(prefixed(DATA, server.put("f", DATA)), cache)
        folders = [cache.folder, cache.partial_folder, cache.bad_folder, cache.lock_folder]
        for folder in folders:
            folder.chmod(0o555)
        yield cache
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.parametrize("touched", [False, True])
def test_a_read_only_cache_is_good_for_reading(touched: bool, server: LoopbackServer, read_only_cache: Cache) -> None:
    source = prefixed(DATA, server.url("f"))
    if touched:
        os.utime(read_only_cache.path_of(source), ns=(1, 1))
    server.requests.clear()
    result = start(Job([source], read_only_cache.folder, as_nobody=True)).result()
    assert (result.error, result.hashes) == ("", (sha256(DATA),))
    assert server.requests == []


def test_a_read_only_cache_says_so_when_something_has_to_be_written(
    server: LoopbackServer, read_only_cache: Cache
) -> None:
    other = sample(seed=9)
    result = start(Job([prefixed(other, server.put("g", other))], read_only_cache.folder, as_nobody=True)).result()
    assert result.error == "CacheError"
    assert "Permission denied" in result.text
    assert "R2CONVERT_CACHE" in result.text


def test_files_are_readable_by_whom_the_umask_allows(server: LoopbackServer, cache: Cache, messages: Messages) -> None:
    before = os.umask(0o022)
    try:
        file = fetch(prefixed(DATA, server.put("f", DATA)), cache, messages)
    finally:
        os.umask(before)
    assert file.path.stat().st_mode & 0o777 == 0o644
    assert (cache.folder / "pins.json").stat().st_mode & 0o777 == 0o644
