"""Work in the background gives its result or its error where it is asked for, and follows a growing file."""

from __future__ import annotations

import errno
import hashlib
import os
import queue
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2convert.checkpoint import background
from r2convert.checkpoint.background import Background, Progress, digest_behind, sync_behind


def test_a_result() -> None:
    assert Background(lambda: 7).result() == 7


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    def fail() -> int:
        raise KeyError("missing")

    work = Background(fail)
    work.wait()
    with pytest.raises(KeyError, match="missing"):
        work.result()


@given(pieces=st.lists(st.binary(max_size=40), max_size=20))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_digest_of_a_growing_file_is_that_of_the_whole(pieces: list[bytes], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, (tmp_path / "growing").open("w+b") as file:
        patch.setattr(background, "CHUNK_BYTES", 16)
        progress = Progress()
        digest = digest_behind(file.fileno(), progress)
        size = 0
        for piece in pieces:
            size += os.write(file.fileno(), piece)
            progress.advance(size)
        progress.finish()
        assert digest.result() == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_the_disk_is_told_to_start_before_the_end_and_once_more_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(background, "SYNC_BYTES", 16)
    monkeypatch.setattr(os, "fdatasync", lambda _: called.put("data"))
    monkeypatch.setattr(os, "fsync", lambda _: called.put("all"))
    with (tmp_path / "growing").open("w+b") as file:
        progress = Progress()
        synced = sync_behind(file.fileno(), progress)
        progress.advance(40)
        assert called.get(timeout=30) == "data"
        progress.advance(41)
        progress.finish()
        synced.result()
    assert [called.get_nowait()] == ["all"]
    assert called.empty()


def test_a_failing_disk_is_told_where_the_result_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    progress = Progress()
    with (tmp_path / "growing").open("w+b") as file:
        synced = sync_behind(file.fileno(), progress)
        progress.finish()
        with pytest.raises(OSError, match="Input/output"):
            synced.result()
