"""The record of hashes survives any file name and any damage is named."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2convert.download.pins import Pin, PinBook, format_pins, read_pins
from r2convert.errors import CacheError

HASH = "0123456789abcdef" * 4
PINS = st.builds(
    Pin,
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size=st.integers(0, 1 << 50),
    modified_ns=st.integers(-(1 << 62), 1 << 62),
    origin=st.text(st.characters(exclude_categories=["Cs"])),
    first_seen=st.text(st.characters(exclude_categories=["Cs"])),
)


@given(pins=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), PINS, max_size=4))
def test_what_is_written_is_read_back(pins: dict[str, Pin], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "pins.toml"
    path.write_text(format_pins(pins), encoding="utf-8")
    assert read_pins(path) == pins


def test_a_path_that_is_no_unicode_can_be_recorded(tmp_path: Path) -> None:
    book = PinBook(tmp_path / "pins.toml", tmp_path / "locks" / "pins.lock")
    book.record("f", Pin(HASH, 1, 1, "/media/\udcff.pth", "2026-01-01"))
    assert book.all()["f"].origin == "/media/?.pth"


@given(st.binary(max_size=200))
def test_any_other_file_is_an_error_of_the_tree(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.toml"
    path.write_bytes(data)
    with contextlib.suppress(CacheError):
        assert read_pins(path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "files = 3",
        "[files]\na = 1",
        "[files.a]\nsha256 = 'ab'",
        f"[files.a]\nsha256 = '{HASH}'\nsize = '1'\nmodified_ns = 1\norigin = ''\nfirst_seen = ''",
        f"[files.a]\nsha256 = '{HASH}'\nsize = 1\nmodified_ns = 1\norigin = ''\nfirst_seen = ''\nmore = 1",
        "[files.a]\nsha256 = 'short'\nsize = 1\nmodified_ns = 1\norigin = ''\nfirst_seen = ''",
    ],
)
def test_entries_of_another_shape_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pins.toml"
    path.write_text(text)
    with pytest.raises(CacheError, match="cannot be read"):
        read_pins(path)


def test_the_first_sight_keeps_its_date_while_the_hash_stays(tmp_path: Path) -> None:
    book = PinBook(tmp_path / "pins.toml", tmp_path / "pins.lock")
    book.record("f", Pin(HASH, 1, 1, "a", "2020-01-01"))
    book.record("f", Pin(HASH, 1, 2, "b", "2026-01-01"))
    assert book.get("f") == Pin(HASH, 1, 2, "b", "2020-01-01")
    book.record("f", Pin(HASH[::-1], 1, 2, "b", "2026-01-01"))
    assert book.all()["f"].first_seen == "2026-01-01"


def test_writers_do_not_lose_each_others_entries(tmp_path: Path) -> None:
    def write(name: str) -> None:
        PinBook(tmp_path / "pins.toml", tmp_path / "pins.lock").record(name, Pin(HASH, 1, 1, name, "2026-01-01"))

    threads = [threading.Thread(target=write, args=(f"f{index}",)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_pins(tmp_path / "pins.toml")) == sorted(f"f{index}" for index in range(20))
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_reader_sees_what_another_process_wrote(tmp_path: Path) -> None:
    first = PinBook(tmp_path / "pins.toml", tmp_path / "pins.lock")
    second = PinBook(tmp_path / "pins.toml", tmp_path / "pins.lock")
    assert first.all() == {}
    second.record("f", Pin(HASH, 1, 1, "a", "2026-01-01"))
    assert first.get("f") is not None
    second.forget("f")
    assert first.all() == {}
