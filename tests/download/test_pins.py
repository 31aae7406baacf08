"""The record of hashes survives any file name and any damage is named."""

from __future__ import annotations

import contextlib
import json
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
    path = tmp_path_factory.getbasetemp() / "pins.json"
    path.write_text(format_pins(pins), encoding="utf-8")
    assert read_pins(path) == pins


def test_a_path_that_is_no_unicode_can_be_recorded(tmp_path: Path) -> None:
    book = PinBook(tmp_path / "pins.json", tmp_path / "locks" / "pins.lock")
    book.record("f", Pin(HASH, 1, 1, "/media/\udcff.pth", "2026-01-01"))
    assert book.all()["f"].origin == "/media/?.pth"


@given(st.binary(max_size=200), st.sampled_from([".json", ".toml"]))
def test_any_other_file_is_an_error_of_the_tree(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(data)
    with contextlib.suppress(CacheError):
        assert read_pins(path) == {}


def entry(**changes: object) -> dict[str, object]:
    return {"sha256": HASH, "size": 1, "modified_ns": 1, "origin": "", "first_seen": "", **changes}


@pytest.mark.parametrize(
    "document",
    [
        {"files": 3},
        {"files": {"a": 1}},
        {"files": {"a": {"sha256": HASH}}},
        {"files": {"a": entry(size="1")}},
        {"files": {"a": entry(size=True)}},
        {"files": {"a": entry(sha256="short")}},
        {"files": {"a": entry(origin=None)}},
        {"files": {"a": entry(more=1)}},
        {},
        [],
    ],
)
def test_entries_of_another_shape_are_refused(document: object, tmp_path: Path) -> None:
    path = tmp_path / "pins.json"
    path.write_text(json.dumps(document))
    with pytest.raises(CacheError, match="cannot be read"):
        read_pins(path)


OLD_RECORD = f"""\
# Written by r2convert: the SHA-256 each file had when it was first seen here.

[files."net.pth"]
sha256 = "{HASH}"
size = 7
modified_ns = 1568102400000000000
origin = "https://me:secret@example.com/net.pth"
first_seen = "2019-09-10"
"""


def test_the_record_of_an_earlier_version_is_read_and_moves_with_the_next_change(tmp_path: Path) -> None:
    """Its file outlives it otherwise: a hash that was seen stays known. The login in it does not."""
    (tmp_path / "pins.toml").write_text(OLD_RECORD)
    book = PinBook(tmp_path / "pins.json", tmp_path / "locks" / "pins.lock")
    old = Pin(HASH, 7, 1568102400000000000, "https://example.com/net.pth", "2019-09-10")
    assert book.all() == {"net.pth": old}
    assert not (tmp_path / "pins.json").exists()
    book.record("other.pth", Pin(HASH, 1, 1, "", "2026-01-01"))
    assert book.get("net.pth") == old
    assert not (tmp_path / "pins.toml").exists()
    assert "secret" not in (tmp_path / "pins.json").read_text()
    book.forget("net.pth")
    assert sorted(book.all()) == ["other.pth"]


def test_the_first_sight_keeps_its_date_while_the_hash_stays(tmp_path: Path) -> None:
    book = PinBook(tmp_path / "pins.json", tmp_path / "pins.lock")
    book.record("f", Pin(HASH, 1, 1, "a", "2020-01-01"))
    book.record("f", Pin(HASH, 1, 2, "b", "2026-01-01"))
    assert book.get("f") == Pin(HASH, 1, 2, "b", "2020-01-01")
    book.record("f", Pin(HASH[::-1], 1, 2, "b", "2026-01-01"))
    assert book.all()["f"].first_seen == "2026-01-01"


def test_writers_do_not_lose_each_others_entries(tmp_path: Path) -> None:
    def write(name: str) -> None:
        PinBook(tmp_path / "pins.json", tmp_path / "pins.lock").record(name, Pin(HASH, 1, 1, name, "2026-01-01"))

    threads = [threading.Thread(target=write, args=(f"f{index}",)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_pins(tmp_path / "pins.json")) == sorted(f"f{index}" for index in range(20))
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_reader_sees_what_another_process_wrote(tmp_path: Path) -> None:
    first = PinBook(tmp_path / "pins.json", tmp_path / "pins.lock")
    second = PinBook(tmp_path / "pins.json", tmp_path / "pins.lock")
    assert first.all() == {}
    second.record("f", Pin(HASH, 1, 1, "a", "2026-01-01"))
    assert first.get("f") is not None
    second.forget("f")
    assert first.all() == {}
