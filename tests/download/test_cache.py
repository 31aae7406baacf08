"""Where the cache is, and that looking things up stays light."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from r2convert.download.cache import Cache
from r2convert.errors import CatalogError
from tests.download.server import LoopbackServer
from tests.download.support import fetch, prefixed, sample

LOOKUP = """
import sys
from r2convert.catalog.variant import Source
from r2convert.download.cache import Cache
source = Source("official", "official", "pth", "net.pth", (), sha256_prefix="00000000")
assert Cache.default().lookup(source) is None
heavy = {"requests", "urllib3", "numpy", "torch", "filelock", "rich", "ssl"} & set(sys.modules)
assert not heavy, heavy
"""


def test_looking_up_loads_nothing_heavy(tmp_path: Path) -> None:
    environment = {"R2CONVERT_CACHE": str(tmp_path), "PATH": "/usr/bin"}
    subprocess.run([sys.executable, "-c", LOOKUP], check=True, env=environment, timeout=30)


def test_the_folder_is_the_variables_or_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("R2CONVERT_CACHE", str(tmp_path / "mine"))
    assert Cache.default().folder == tmp_path / "mine"
    monkeypatch.setenv("R2CONVERT_CACHE", "~/weights")
    assert Cache.default().folder == Path.home() / "weights"
    monkeypatch.delenv("R2CONVERT_CACHE")
    assert Cache.default().folder == user_cache_path("r2convert", appauthor=False)


def test_asking_touches_nothing(cache: Cache) -> None:
    source = prefixed(sample())
    assert cache.lookup(source) is None
    assert cache.entries() == ()
    assert cache.path_of(source) == cache.folder / source.file_name
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    "name", ["pins.json", "pins.toml", "partial", "bad", "locks", "../x", "a/b", "a\\b", ".hidden", "", "a\nb", "/x"]
)
def test_no_file_gets_a_name_that_leads_elsewhere(name: str, cache: Cache) -> None:
    with pytest.raises(CatalogError):
        cache.lookup(replace(prefixed(sample()), file_name=name))


def test_a_file_called_pins_does_not_block_itself(server: LoopbackServer, cache: Cache) -> None:
    source = replace(prefixed(sample(), server.put("f", sample())), file_name="pins")
    assert fetch(source, cache).path.name == "pins"
