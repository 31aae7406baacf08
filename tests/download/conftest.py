"""Fixtures of the fetch room: servers on the loopback, files whose hash is known, a cache, a short patience."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from r2convert.download.cache import Cache
from tests.download.server import LoopbackServer
from tests.download.support import Messages


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the machine of the person who runs the tests may have set."""
    for name in ("R2CONVERT_CACHE", "R2CONVERT_MIRROR", "R2CONVERT_MAPPINGS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A file server on the loopback."""
    with LoopbackServer() as running:
        yield running


@pytest.fixture
def second_server() -> Iterator[LoopbackServer]:
    """Another one: a mirror."""
    with LoopbackServer() as running:
        yield running


@pytest.fixture
def tls_server() -> Iterator[LoopbackServer]:
    """A file server that speaks https with a certificate nobody trusts by default."""
    with LoopbackServer(tls=True) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache in a folder that does not exist yet."""
    return Cache(tmp_path / "cache")


@pytest.fixture
def messages() -> Messages:
    """Collects what the room reports."""
    return Messages()
