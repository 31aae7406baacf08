"""One request to a server that may misbehave in every way: the right file in the end, or a clear error and no file."""

from __future__ import annotations

import http.client
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from r2convert.download.addresses import shown
from r2convert.download.cache import Cache
from r2convert.download.transport import Patience, in_brief, parse_retry_after, reason_of
from r2convert.errors import (
    FetchError,
    MirrorsFailedError,
    RefusedAddressError,
    ServerRefusedError,
    UnreachableError,
    WrongFileError,
)
from tests.download import server as faults
from tests.download.server import Exchange, Fault, LoopbackServer
from tests.download.support import QUICK, Messages, fetch, pinned, prefixed, remains, sample, sha256, unhashed

DATA = sample()
SOON = 10.0
"""Seconds within which every fault has to be dealt with under the short patience of the tests."""

DRIPPING: dict[str, Fault] = {
    "a dripping status line": faults.dripping_status_line,
    "a dripping header": faults.dripping_header,
    "headers without end": faults.dripping_headers,
    "a dripping chunk size": faults.dripping_chunk_size,
    "a dripping chunk extension": faults.dripping_chunk_extension,
    "trailers without end": faults.dripping_trailer,
    "a flood of trailers": faults.flood_of_trailers,
    "100 without end": faults.dripping_continue,
    "a flood of 100": faults.flood_of_continue,
    "102 without end": faults.dripping_processing,
    "a flood of 102": faults.flood_of_processing,
}

SURVIVABLE: dict[str, Fault] = {
    **DRIPPING,
    "cut in the middle": faults.cut_after(70_000),
    "cut before the first byte": faults.cut_after(0),
    "dropped before the headers": faults.reset,
    "stalled in the middle": faults.stall_after(70_000),
    "silent after the request": faults.silent,
    "trickling": faults.trickle,
    "chunked": faults.chunked,
    "chunked and cut": faults.chunked_cut,
    "chunked, framing broken": faults.chunked_garbage,
    "without a length": faults.no_length,
    "no HTTP at all": faults.garbage,
    "500": faults.status(500),
    "503 at once": faults.status(503, retry_after="0"),
    "429 at once": faults.status(429, retry_after="0"),
    "403 with a wait": faults.status(403, retry_after="0"),
    "502": faults.status(502),
    "100, 102 and 103 before the answer": faults.interim_answers,
}

HARMLESS = ("chunked", "without a length", "100, 102 and 103 before the answer")

PERMANENT: dict[str, tuple[Fault, type[FetchError]]] = {
    "403": (faults.status(403), ServerRefusedError),
    "404": (faults.status(404), ServerRefusedError),
    "410": (faults.status(410), ServerRefusedError),
    "204": (faults.status(204), ServerRefusedError),
    "429 for an hour": (faults.status(429, retry_after="3600"), ServerRefusedError),
    "an error page": (faults.web_page, WrongFileError),
    "compressed on the way": (faults.gzipped, ServerRefusedError),
    "endless": (faults.endless, WrongFileError),
    "length of a petabyte": (faults.claims_length(1 << 50), WrongFileError),
    "redirect to a file": (faults.redirect("file:///etc/passwd"), RefusedAddressError),
    "redirect to ftp": (faults.redirect("ftp://127.0.0.1/x"), RefusedAddressError),
    "redirect to plain http elsewhere": (faults.redirect("http://example.com/x"), RefusedAddressError),
    "redirect to nonsense": (faults.redirect("https://[::1/x"), UnreachableError),
    "a range nobody asked for": (faults.careless_range, ServerRefusedError),
}


@pytest.mark.parametrize("name", SURVIVABLE)
def test_a_passing_fault_still_ends_with_the_right_file(name: str, server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA, SURVIVABLE[name]))
    began = time.monotonic()
    file = fetch(source, cache)
    assert time.monotonic() - began < SOON
    assert file.path.read_bytes() == DATA
    assert (file.sha256, file.size) == (sha256(DATA), len(DATA))
    assert remains(cache) == {"file": [source.file_name]}


@pytest.mark.parametrize("name", PERMANENT)
def test_a_lasting_fault_is_a_clear_error_and_no_file(name: str, server: LoopbackServer, cache: Cache) -> None:
    fault, kind = PERMANENT[name]
    source = prefixed(DATA, server.put("f", DATA, *[fault] * 20))
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        fetch(source, cache, largest_file=1 << 23)
    assert time.monotonic() - began < SOON
    assert caught.value.exit_code == 4
    assert "127.0.0.1" in (caught.value.where or "")
    assert "file" not in remains(cache)


@pytest.mark.parametrize("name", PERMANENT)
def test_a_lasting_fault_sends_the_run_to_the_next_mirror(
    name: str, server: LoopbackServer, second_server: LoopbackServer, cache: Cache
) -> None:
    bad = server.put("f", DATA, *[PERMANENT[name][0]] * 20)
    source = prefixed(DATA, bad, second_server.put("f", DATA))
    file = fetch(source, cache, largest_file=1 << 23)
    assert file.path.read_bytes() == DATA
    assert file.origin == second_server.url("f")


@pytest.mark.parametrize("name", [name for name in SURVIVABLE if name not in (*HARMLESS, *DRIPPING)])
def test_a_fault_that_never_ends_is_given_up(name: str, server: LoopbackServer, cache: Cache) -> None:
    """With nothing but faults and no ranges, no try gets further than the last one."""
    source = pinned(DATA, server.put("f", DATA, *[SURVIVABLE[name]] * 40, ranges=False))
    began = time.monotonic()
    with pytest.raises((UnreachableError, ServerRefusedError)):
        fetch(source, cache)
    assert time.monotonic() - began < SOON
    assert "file" not in remains(cache)


def test_every_address_that_failed_is_named_with_its_reason(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache
) -> None:
    source = prefixed(DATA, server.put("f", DATA, faults.status(404)), second_server.put("f", DATA, faults.status(410)))
    with pytest.raises(MirrorsFailedError) as caught:
        fetch(source, cache)
    text = str(caught.value)
    assert server.url("f") in text
    assert "404 Not Found" in text
    assert second_server.url("f") in text
    assert "410 Gone" in text


def test_nobody_listening_is_unreachable(cache: Cache) -> None:
    source = prefixed(DATA, f"http://127.0.0.1:{faults.free_port()}/f")
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        fetch(source, cache)
    assert "refused" in (caught.value.got or "")


def test_an_unknown_host_is_unreachable(cache: Cache) -> None:
    source = prefixed(DATA, "https://no-such-host.invalid/f")
    with pytest.raises(UnreachableError) as caught:
        fetch(source, cache)
    assert "resolve" in (caught.value.got or "").lower()


def test_an_untrusted_certificate_is_refused_without_a_retry(
    tls_server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    source = prefixed(DATA, tls_server.put("f", DATA))
    with pytest.raises(UnreachableError, match="certificate") as caught:
        fetch(source, cache, messages)
    assert "REQUESTS_CA_BUNDLE" in (caught.value.next_step or "")
    assert "again" not in messages.all
    assert tls_server.requests == []


def test_a_certificate_named_in_requests_ca_bundle_is_trusted(
    tls_server: LoopbackServer, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(faults.CERTIFICATE))
    source = prefixed(DATA, tls_server.put("f", DATA, faults.cut_after(50_000)))
    assert fetch(source, cache).path.read_bytes() == DATA


def test_a_redirect_from_https_to_http_is_refused(
    tls_server: LoopbackServer, server: LoopbackServer, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(faults.CERTIFICATE))
    plain = server.put("f", DATA)
    source = prefixed(DATA, tls_server.put("f", DATA, faults.redirect(plain)))
    with pytest.raises(RefusedAddressError, match="redirects") as caught:
        fetch(source, cache)
    assert "https to plain http" in (caught.value.got or "")
    assert server.requests == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_the_first_address_is_remembered(
    code: int, server: LoopbackServer, cache: Cache
) -> None:
    server.put("real", DATA)
    source = prefixed(DATA, server.put("f", DATA, faults.redirect("/real", code)))
    file = fetch(source, cache)
    assert file.path.read_bytes() == DATA
    assert file.origin == server.url("f")


def test_the_body_of_a_redirect_is_not_read(server: LoopbackServer, cache: Cache) -> None:
    server.put("real", DATA)
    began = time.monotonic()
    fetch(prefixed(DATA, server.put("f", DATA, faults.redirect_with_endless_body)), cache)
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/gr\u00f6\u00dfe".encode(), "gr%C3%B6%C3%9Fe"),
        (b"/gr\xf6\xdfe", "gr%F6%DFe"),
        (b"/a b", "a%20b"),
        (b"/a%20b", "a%20b"),
    ],
)
def test_bytes_in_a_redirect_that_no_address_may_have_are_escaped(
    location: bytes, path: str, server: LoopbackServer, cache: Cache
) -> None:
    server.put(path, DATA)
    source = prefixed(DATA, server.put("f", DATA, faults.redirect(location.decode("latin-1"))))
    assert fetch(source, cache).path.read_bytes() == DATA
    assert server.requests[-1].path == path


def test_what_a_redirect_was_signed_with_is_not_shown(server: LoopbackServer, cache: Cache) -> None:
    server.put("real?signature=secret", DATA, faults.status(404))
    source = prefixed(DATA, server.put("f", DATA, faults.redirect("/real?signature=secret")))
    with pytest.raises(ServerRefusedError) as caught:
        fetch(source, cache)
    assert caught.value.where == server.url("real?...")


def test_a_login_in_an_address_is_used_and_neither_stored_nor_shown(
    server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    server.put("f", DATA, faults.cut_after(70_000), faults.status(503), *[faults.cut_after(0)] * 9)
    mirror = server.url("").replace("//", "//me:s%65cret@").rstrip("/")
    source = replace(prefixed(DATA), file_name="f")
    with pytest.raises(UnreachableError) as caught:
        fetch(source, cache, messages, mirror=mirror)
    kept = "".join(path.read_text(errors="replace") for path in cache.folder.rglob("*") if path.is_file())
    server.shelves["f"].faults.clear()
    assert fetch(source, cache, messages, mirror=mirror).origin == server.url("f")
    assert {request.headers["authorization"] for request in server.requests} == {"Basic bWU6c2VjcmV0"}
    kept += "".join(path.read_text(errors="replace") for path in cache.folder.rglob("*") if path.is_file())
    for text in (str(caught.value), messages.all, kept):
        assert "cret" not in text
    assert server.url("f") in str(caught.value)


def test_a_login_does_not_follow_a_redirect_to_another_server(
    server: LoopbackServer, second_server: LoopbackServer, cache: Cache
) -> None:
    second_server.put("real", DATA)
    server.put("near", DATA, faults.redirect(second_server.url("real")))
    url = server.put("f", DATA, faults.redirect("/near"))
    fetch(prefixed(DATA, url.replace("//", "//me:secret@")), cache)
    assert ["authorization" in request.headers for request in server.requests] == [True, True]
    assert ["authorization" in request.headers for request in second_server.requests] == [False]


def test_a_circle_of_redirects_ends(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA, *[faults.redirect("/f")] * 50))
    with pytest.raises(RefusedAddressError, match="too many redirects"):
        fetch(source, cache)
    assert len(server.requests) <= 12


def test_a_proxy_is_used(server: LoopbackServer, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy gets the whole address of a server that does not exist, and has the file."""
    server.put("f", DATA)
    monkeypatch.setenv("http_proxy", server.url("").rstrip("/"))
    source = prefixed(DATA, f"http://127.0.0.1:{faults.free_port()}/f")
    assert fetch(source, cache).path.read_bytes() == DATA
    assert [request.path for request in server.requests] == ["f"]


def test_no_proxy_is_honoured(server: LoopbackServer, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{faults.free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = prefixed(DATA, server.put("f", DATA))
    assert fetch(source, cache).path.read_bytes() == DATA


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(as_date: bool, server: LoopbackServer, cache: Cache) -> None:
    """A date has a resolution of a second: two seconds ahead are more than one second."""
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    fault = faults.status(503, retry_after=when if as_date else "1")
    source = prefixed(DATA, server.put("f", DATA, fault))
    began = time.monotonic()
    fetch(source, cache)
    assert time.monotonic() - began >= 0.9


def test_a_wait_that_is_too_long_is_not_waited_for(server: LoopbackServer, cache: Cache, messages: Messages) -> None:
    source = prefixed(DATA, server.put("f", DATA, faults.status(429, retry_after="3600")))
    with pytest.raises(ServerRefusedError, match="did not send") as caught:
        fetch(source, cache, messages)
    assert "429" in (caught.value.got or "")
    assert "3,600 s" in messages.all


def test_the_number_of_tries_is_bounded(server: LoopbackServer, cache: Cache) -> None:
    source = prefixed(DATA, server.put("f", DATA, *[faults.status(500)] * 50))
    with pytest.raises(ServerRefusedError):
        fetch(source, cache)
    assert len(server.requests) == QUICK.attempts


def test_an_address_that_is_neither_https_nor_loopback_is_never_asked(cache: Cache) -> None:
    for url in ("http://example.com/f", "ftp://127.0.0.1/f", "https:///f", "http://127.0.0.1:port/f"):
        with pytest.raises(RefusedAddressError):
            fetch(prefixed(DATA, url), cache)


def test_a_body_without_an_end_is_no_file_when_no_hash_can_judge_it(server: LoopbackServer, cache: Cache) -> None:
    source = unhashed(server.put("f", DATA, faults.no_length))
    with pytest.raises(ServerRefusedError, match="how long"):
        fetch(source, cache)
    assert "file" not in remains(cache)


def test_an_error_page_is_called_one(server: LoopbackServer, cache: Cache) -> None:
    for source in (prefixed(DATA, server.url("f")), unhashed(server.url("f"))):
        server.put("f", DATA, faults.web_page)
        with pytest.raises(WrongFileError) as caught:
            fetch(source, cache)
        assert "HTML page" in (caught.value.got or "")


def test_a_pinned_size_is_compared_before_the_download(server: LoopbackServer, cache: Cache) -> None:
    other = sample(300_000, seed=1)
    source = pinned(DATA, server.put("f", other))
    with pytest.raises(WrongFileError, match="another size"):
        fetch(source, cache)
    assert remains(cache) == {}


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text())
def test_no_header_is_a_crash(header: str) -> None:
    wait = parse_retry_after(header, NOW)
    assert wait is None or wait >= 0


@given(st.integers(0, 10**6))
def test_a_date_means_the_time_until_then(seconds: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(header, NOW) == seconds


@given(st.integers(1, 2000))
def test_waits_double_up_to_a_cap_and_are_spread(failures: int) -> None:
    patience = Patience()
    ceiling = min(patience.first_wait * 2 ** min(failures - 1, 100), patience.longest_backoff)
    assert ceiling / 2 <= patience.backoff(failures) <= ceiling


@given(st.text())
def test_no_text_steers_a_terminal(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 203


def test_a_chain_is_followed_to_its_end() -> None:
    inner = http.client.IncompleteRead(b"", 5)
    assert reason_of(urllib3.exceptions.ProtocolError("Connection broken", inner)) == "the connection closed early"


def test_errors_in_brief() -> None:
    assert in_brief(FetchError("it failed", got="why")) == "it failed (why)"
    assert in_brief(FetchError("it failed")) == "it failed"


def _escapes_in_encoding(exchange: Exchange) -> None:
    exchange.head(200, Content_Encoding="\x1b[31mred", Content_Length=0)


def _escapes_in_redirect(exchange: Exchange) -> None:
    exchange.head(302, Location="ftp://127.0.0.1/\x1b]0;title\x07", Content_Length=0)


@pytest.mark.parametrize("fault", [faults.garbage, _escapes_in_encoding, _escapes_in_redirect])
def test_a_hostile_server_cannot_write_to_the_terminal(
    fault: faults.Fault, server: LoopbackServer, cache: Cache, messages: Messages
) -> None:
    source = prefixed(DATA, server.put("f", DATA, *[fault] * 9))
    with pytest.raises(FetchError) as caught:
        fetch(source, cache, messages)
    shown = str(caught.value) + messages.all
    assert shown.replace("\n", "").isprintable()
