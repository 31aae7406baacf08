"""Every file that the catalogue names is fetched as planned: by its digest or its container, from its addresses."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from msgspec.structs import replace

from r2convert.catalog import load_catalog
from r2convert.catalog.variant import FileFormat, Source
from r2convert.download.cache import Cache
from r2convert.errors import FetchError
from r2convert.selftest.specimens import lod_tensor, tar
from tests.download.server import LoopbackServer
from tests.download.support import fetch, sample, sha256

SOURCES = {source.file_name: source for variant in load_catalog({}).variants.values() for source in variant.sources}


def _torch_zip() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, file)
    return file.getvalue()


FILES: dict[FileFormat, bytes] = {
    "pth": _torch_zip(),
    "safetensors": sample(1000),
    "pdparams": (Path(__file__).parents[1] / "checkpoint" / "data" / "paddle-3.3.1-protocol4.pdparams").read_bytes(),
    "ckpt": (Path(__file__).parents[1] / "checkpoint" / "data" / "mindspore-2.10.0.ckpt").read_bytes(),
    "pkl": (Path(__file__).parents[1] / "corpus" / "jittor" / "model.pkl").read_bytes(),
    "tar": tar({"fc_weights": lod_tensor()}),
}


def served(source: Source, data: bytes, server: LoopbackServer) -> Source:
    """The source as it would be if these bytes were published under its addresses, which this server has."""
    digest = sha256(data)
    urls = [server.put(urlsplit(url).path.lstrip("/"), data) for url in source.urls]
    return replace(
        source,
        urls=tuple(urls),
        sha256=digest if source.sha256 else None,
        sha256_prefix=digest[:8] if source.sha256_prefix else None,
        size=len(data) if source.size else None,
    )


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_published_file_is_fetched(name: str, server: LoopbackServer, cache: Cache) -> None:
    source = SOURCES[name]
    data = FILES[source.format]
    found = fetch(served(source, data, server), cache)
    assert found.path.name == name
    assert found.path.read_bytes() == data
    assert found.trust == ("pinned" if source.sha256 else "seen" if source.sha256_prefix else "unknown")


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_another_file_in_its_place_is_refused(name: str, server: LoopbackServer, cache: Cache) -> None:
    source = SOURCES[name]
    other = FILES["tar" if source.format != "tar" else "safetensors"]
    known = served(source, FILES[source.format], server)
    for url in known.urls:
        server.put(urlsplit(url).path.lstrip("/"), other)
    with pytest.raises(FetchError) as caught:
        fetch(known, cache)
    assert name in str(caught.value)
    assert cache.lookup(known) is None
