"""Verified copies of cached files."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2convert.download.cache import Cache, CachedFile, copy_to
from r2convert.errors import AccessError, OutputExistsError
from tests.download.server import LoopbackServer
from tests.download.support import fetch, prefixed, sample

DATA = sample()


@pytest.fixture
def file(server: LoopbackServer, cache: Cache) -> CachedFile:
    return fetch(prefixed(DATA, server.put("f", DATA)), cache)


def test_a_copy_is_equal_and_alone(file: CachedFile, tmp_path: Path) -> None:
    copy = copy_to(file, tmp_path / "a" / "b")
    assert copy == tmp_path / "a" / "b" / file.path.name
    assert copy.read_bytes() == DATA
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_an_equal_copy_is_kept(file: CachedFile, tmp_path: Path) -> None:
    copy = copy_to(file, tmp_path)
    before = copy.stat()
    assert copy_to(file, tmp_path) == copy
    assert copy.stat() == before


def test_a_different_file_is_never_overwritten(file: CachedFile, tmp_path: Path) -> None:
    target = tmp_path / file.path.name
    target.write_bytes(b"mine")
    with pytest.raises(OutputExistsError) as caught:
        copy_to(file, tmp_path)
    assert caught.value.exit_code == 4
    assert target.read_bytes() == b"mine"


def test_a_dangling_link_is_replaced_and_not_followed(file: CachedFile, tmp_path: Path) -> None:
    target = tmp_path / file.path.name
    target.symlink_to(tmp_path / "elsewhere")
    assert copy_to(file, tmp_path).read_bytes() == DATA
    assert not target.is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_changed_since_it_was_checked_is_not_delivered(file: CachedFile, tmp_path: Path) -> None:
    file.path.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(AccessError, match="changed"):
        copy_to(file, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_clear_error(file: CachedFile, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(AccessError, match="cannot be written") as caught:
        copy_to(file, tmp_path / "blocked")
    assert "--dest" in (caught.value.next_step or "")
