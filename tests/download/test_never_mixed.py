"""Whatever a server does in whatever order: the right file, a whole one, or an error."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.download.cache import Cache
from r2convert.errors import FetchError
from tests.download import server as faults
from tests.download.server import Exchange, Fault, LoopbackServer
from tests.download.support import fetch, pinned, prefixed, remains, sample, unhashed

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
    "gzip cut": faults.gzipped_cut,
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
