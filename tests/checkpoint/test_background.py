"""Work in the background gives its result or its error where it is asked for, and follows a growing file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2convert.checkpoint import background
from r2convert.checkpoint.background import Background, FollowingDigest


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
        digest = FollowingDigest(file.fileno())
        size = 0
        for piece in pieces:
            size += os.write(file.fileno(), piece)
            digest.advance(size)
        assert digest.hexdigest() == hashlib.sha256(b"".join(pieces)).hexdigest()
