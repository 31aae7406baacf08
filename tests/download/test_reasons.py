"""What foreign servers and libraries say is shown as one harmless line."""

from __future__ import annotations

import http.client

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from r2convert.download.addresses import shown
from r2convert.download.cache import Cache
from r2convert.download.transport import in_brief, reason_of
from r2convert.errors import FetchError
from tests.download import server as faults
from tests.download.server import Exchange, LoopbackServer
from tests.download.support import Messages, fetch, prefixed, sample

DATA = sample()


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
