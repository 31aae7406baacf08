"""Interrupted downloads go on where they stopped, and two different files are never mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2convert.catalog.variant import Source
from r2convert.download.cache import Cache
from r2convert.download.partial import Origin, PartialFile
from r2convert.download.pins import Expectation
from r2convert.download.transfer import ResumePlan, plan_resume
from r2convert.errors import FetchError, UnreachableError
from tests.download import server as faults
from tests.download.server import Fault, LoopbackServer
from tests.download.support import Messages, fetch, pinned, prefixed, remains, sample, sha256, unhashed

DATA = sample(400_000)
OTHER = sample(400_000, seed=1)
"""Another file of the same length, as retrained weights are."""

FIRST = 150_000


def interrupt(server: LoopbackServer, cache: Cache, *, known: str = "prefix", **how: object) -> None:
    """Leave the first bytes of DATA, from ``server``, in the cache: one try, cut short."""
    url = server.put("f", DATA, *[faults.cut_after(FIRST), *[faults.status(404)] * 9], **how)
    with pytest.raises(FetchError):
        fetch(make(known, url), cache)
    assert remains(cache) == {"partial": [f"{make(known, url).file_name}.part"]}
    server.shelves["f"].faults.clear()
    server.requests.clear()


def make(known: str, *urls: str) -> Source:
    return {"prefix": prefixed, "pinned": pinned}[known](DATA, *urls) if known != "nothing" else unhashed(*urls)


def test_a_later_run_continues_where_the_last_one_stopped(
    server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    interrupt(server, cache)
    file = fetch(prefixed(DATA, server.url("f")), cache, messages)
    assert file.path.read_bytes() == DATA
    assert server.ranges("f") == [f"bytes={FIRST}-"]
    assert server.requests[0].headers["if-range"] == '"v1"'
    assert messages.starts == [(file.path.name, len(DATA), FIRST)]
    assert messages.bytes == len(DATA) - FIRST
    assert remains(cache) == {"file": [file.path.name]}


def test_a_run_continues_by_itself_however_often_it_is_cut(server: LoopbackServer, cache: Cache) -> None:
    data = sample(8 << 20)
    cuts = [faults.cut_after(3 << 19)] * 4
    file = fetch(prefixed(data, server.put("f", data, *cuts)), cache)
    assert file.path.read_bytes() == data
    assert server.ranges("f") == [None] + [f"bytes={(3 << 19) * count}-" for count in range(1, 5)]


@pytest.mark.parametrize("known", ["prefix", "pinned", "nothing"])
def test_an_entity_tag_is_enough_to_continue(known: str, server: LoopbackServer, cache: Cache) -> None:
    interrupt(server, cache, known=known)
    assert fetch(make(known, server.url("f")), cache).path.read_bytes() == DATA
    assert server.ranges("f") == [f"bytes={FIRST}-"]


@pytest.mark.parametrize("known", ["prefix", "pinned"])
def test_without_a_tag_the_length_is_enough_where_a_hash_decides_in_the_end(
    known: str, server: LoopbackServer, cache: Cache
) -> None:
    interrupt(server, cache, known=known, etag=None)
    assert fetch(make(known, server.url("f")), cache).path.read_bytes() == DATA
    assert server.ranges("f") == [f"bytes={FIRST}-"]
    assert "if-range" not in server.requests[0].headers


def test_a_date_stands_in_for_a_tag(server: LoopbackServer, cache: Cache) -> None:
    date = "Tue, 10 Sep 2019 08:00:00 GMT"
    interrupt(server, cache, etag=None, last_modified=date)
    assert fetch(make("prefix", server.url("f")), cache).path.read_bytes() == DATA
    assert server.requests[0].headers["if-range"] == date


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_tag_and_without_a_hash_the_download_starts_over_and_says_so(
    etag: str | None, server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    interrupt(server, cache, known="nothing", etag=etag)
    assert fetch(make("nothing", server.url("f")), cache, messages).path.read_bytes() == DATA
    assert server.ranges("f") == [None]
    assert "starting over: neither the server nor a published hash" in messages.all


def test_another_mirror_of_the_same_pinned_file_continues(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    interrupt(server, cache, known="pinned")
    server.put("f", DATA, *[faults.status(404)] * 9)
    source = pinned(DATA, server.url("f"), second_server.put("f", DATA, etag='"another tag"'))
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert second_server.ranges("f") == [f"bytes={FIRST}-"]
    assert "starting over" not in messages.all


def test_the_next_mirror_continues_within_one_run(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache
) -> None:
    broken = server.put("f", DATA, faults.cut_after(FIRST), *[faults.status(404)] * 9)
    source = pinned(DATA, broken, second_server.put("f", DATA))
    assert fetch(source, cache).path.read_bytes() == DATA
    assert second_server.ranges("f") == [f"bytes={FIRST}-"]


def test_another_mirror_starts_over_where_only_a_prefix_is_known(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    interrupt(server, cache)
    source = prefixed(DATA, second_server.put("f", DATA))
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert second_server.ranges("f") == [None]
    assert "starting over: it came from another address" in messages.all


def test_a_mirror_that_lacks_the_file_does_not_cost_the_bytes_of_another(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache
) -> None:
    interrupt(server, cache)
    source = prefixed(DATA, server.url("f"))
    assert fetch(source, cache, mirror=second_server.url("")).path.read_bytes() == DATA
    assert server.ranges("f") == [f"bytes={FIRST}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_mirror_with_a_file_of_another_length_does_not_cost_the_bytes_of_another(
    ranges: bool, server: LoopbackServer, second_server: LoopbackServer, cache: Cache
) -> None:
    interrupt(server, cache, known="pinned")
    source = pinned(DATA, second_server.put("f", sample(500_000), ranges=ranges), server.url("f"))
    assert fetch(source, cache).path.read_bytes() == DATA
    assert server.ranges("f") == [f"bytes={FIRST}-"]


def test_a_mirror_with_other_bytes_of_the_same_length_cannot_spoil_a_pinned_file(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    interrupt(server, cache, known="pinned")
    source = pinned(DATA, second_server.put("f", OTHER), server.url("f"))
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert "the parts do not add up" in messages.all
    assert remains(cache)["bad"] == [source.file_name]
    assert (cache.bad_folder / source.file_name).read_bytes() == OTHER


def test_a_file_that_changed_on_the_server_is_fetched_from_its_beginning(
    server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    """If-Range makes a good server send all of the new file."""
    interrupt(server, cache, known="nothing")
    server.put("f", OTHER, etag='"v2"')
    assert fetch(make("nothing", server.url("f")), cache, messages).path.read_bytes() == OTHER
    assert "starting over: the server sends the whole file again" in messages.all


def test_a_changed_tag_is_noticed_even_if_the_server_ignores_if_range(
    server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    interrupt(server, cache, known="nothing")
    server.put("f", OTHER, faults.careless_range, etag='"v2"')
    assert fetch(make("nothing", server.url("f")), cache, messages).path.read_bytes() == OTHER
    assert "starting over: the file on the server has changed" in messages.all
    assert server.ranges("f") == [f"bytes={FIRST}-", None]


def test_mixed_parts_are_noticed_by_the_hash_when_nothing_else_shows_the_change(
    server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    interrupt(server, cache, etag=None)
    (cache.partial_folder / f"{make('prefix').file_name}.part").write_bytes(OTHER[:FIRST])
    assert fetch(make("prefix", server.url("f")), cache, messages).path.read_bytes() == DATA
    assert "the parts do not add up" in messages.all
    assert remains(cache) == {"file": [make("prefix").file_name]}


RANGE_FAULTS: dict[str, tuple[Fault, str]] = {
    "206 from the beginning": (faults.wrong_range, "another range"),
    "206 of another length": (faults.shifted_range, "bytes instead of"),
    "206 without a readable range": (faults.unreadable_range, "another range"),
    "200 to a range": (faults.whole_file, "whole file"),
    "416 in the middle": (faults.not_satisfiable(FIRST - 1), "shorter"),
    "416 without a length": (faults.not_satisfiable(0), "shorter"),
}


@pytest.mark.parametrize("known", ["prefix", "pinned", "nothing"])
@pytest.mark.parametrize("name", RANGE_FAULTS)
def test_a_wrong_answer_to_a_range_leads_to_a_clean_start(
    name: str, known: str, server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    fault, why = RANGE_FAULTS[name]
    interrupt(server, cache, known=known)
    server.shelves["f"].faults.append(fault)
    file = fetch(make(known, server.url("f")), cache, messages)
    assert file.path.read_bytes() == DATA
    assert "starting over: " in messages.all
    assert why in messages.all


def test_half_of_the_range_is_taken_and_the_rest_asked_for(server: LoopbackServer, cache: Cache) -> None:
    interrupt(server, cache)
    server.shelves["f"].faults.append(faults.half_range)
    assert fetch(make("prefix", server.url("f")), cache).path.read_bytes() == DATA
    assert server.ranges("f") == [f"bytes={FIRST}-", f"bytes={FIRST + (len(DATA) - FIRST) // 2}-"]


def test_416_at_the_exact_size_means_that_nothing_is_missing(server: LoopbackServer, cache: Cache) -> None:
    """The length was never announced, so a complete partial file looks like any other."""
    source = make("prefix", server.put("f", DATA))
    leave_partial(cache, source.file_name, DATA, Origin(server.url("f"), etag='"v1"'))
    assert fetch(source, cache).path.read_bytes() == DATA
    assert server.ranges("f") == [f"bytes={len(DATA)}-"]


def test_a_complete_partial_file_needs_no_request(server: LoopbackServer, cache: Cache) -> None:
    """The process was killed between the last byte and the new name."""
    source = make("prefix", server.put("f", DATA))
    leave_partial(cache, source.file_name, DATA, Origin(server.url("f"), total=len(DATA)))
    file = fetch(source, cache)
    assert file.path.read_bytes() == DATA
    assert file.origin == server.url("f")
    assert server.requests == []


def test_a_complete_partial_file_with_the_wrong_hash_is_fetched_again(
    server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    """What a power cut can leave: the right length, zeros where the last blocks should be."""
    source = make("prefix", server.put("f", DATA))
    torn = DATA[:-4096] + bytes(4096)
    leave_partial(cache, source.file_name, torn, Origin(server.url("f"), etag='"v1"', total=len(DATA)))
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert "starting over" in messages.all


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b'{"url": 1}', b'{"url": "x", "total": "9"}', b'{"address": "x"}', b"\xff\xfe"]
)
def test_bytes_whose_origin_is_unreadable_do_not_count(note: bytes, server: LoopbackServer, cache: Cache) -> None:
    source = make("prefix", server.put("f", DATA))
    leave_partial(cache, source.file_name, OTHER[:FIRST], Origin(server.url("f")))
    (cache.partial_folder / f"{source.file_name}.json").write_bytes(note)
    assert fetch(source, cache).path.read_bytes() == DATA
    assert server.ranges("f") == [None]


def test_more_bytes_than_the_file_has_do_not_count(server: LoopbackServer, cache: Cache, messages: Messages) -> None:
    source = make("pinned", server.put("f", DATA))
    leave_partial(cache, source.file_name, OTHER + b"more", Origin(server.url("f"), etag='"v1"'))
    assert fetch(source, cache, messages).path.read_bytes() == DATA
    assert "starting over" in messages.all


def test_a_refused_disconnection_keeps_the_bytes(server: LoopbackServer, cache: Cache) -> None:
    """When every try fails, what has arrived stays for the next run."""
    url = server.put("f", DATA, *[faults.cut_after(1_000)] * 9)
    with pytest.raises(UnreachableError):
        fetch(make("prefix", url), cache)
    assert cache.entries()[0].size == 3_000


def leave_partial(cache: Cache, file_name: str, data: bytes, origin: Origin) -> None:
    """Leave a partial download behind, as a killed process does."""
    cache.prepare()
    with PartialFile(cache.partial_folder, file_name) as partial:
        partial.begin(origin)
        partial.write(data)


def test_the_origin_is_on_disk_before_the_first_byte(tmp_path: Path) -> None:
    with PartialFile(tmp_path, "f") as partial:
        partial.begin(Origin("https://example.com/f", etag='"v1"', total=10))
        assert json.loads((tmp_path / "f.json").read_text())["etag"] == '"v1"'
        assert (tmp_path / "f.part").read_bytes() == b""


HASHES = st.sampled_from([sha256(DATA), sha256(OTHER)])
ORIGINS = st.builds(
    Origin,
    url=st.sampled_from(["https://a/f", "https://b/f"]),
    etag=st.none() | st.just('"v1"'),
    last_modified=st.none() | st.just("Tue, 10 Sep 2019 08:00:00 GMT"),
    total=st.none() | st.integers(0, 100),
)
EXPECTATIONS = st.builds(
    Expectation,
    file_name=st.just("f"),
    pinned_sha256=st.none() | HASHES,
    seen_sha256=st.none() | HASHES,
    sha256_prefix=st.none() | HASHES.map(lambda text: text[:8]),
    size=st.none() | st.integers(1, 100),
)


@given(ORIGINS, st.integers(0, 120), EXPECTATIONS)
def test_bytes_are_kept_only_where_something_speaks_for_it(origin: Origin, have: int, wanted: Expectation) -> None:
    plan = plan_resume(origin, have, "https://a/f", wanted)
    assert plan.offset in (0, have)
    if plan.offset and not plan.complete:
        assert wanted.sha256 is not None or origin.url == "https://a/f"
        assert wanted.hash_decides or plan.if_range == '"v1"'
        assert have < (wanted.size or origin.total or have + 1)
    if have and not plan.offset:
        assert plan.why_not
    if not have:
        assert plan == ResumePlan()
