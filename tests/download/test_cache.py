"""Where the cache is, that looking things up stays light, and verified copies of what is in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from platformdirs import user_cache_path

from r2convert.download.cache import Cache, CachedFile, copy_to
from r2convert.errors import AccessError, CatalogError, OutputExistsError
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
    assert cache.entries() == []
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
