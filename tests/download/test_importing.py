"""Files brought by hand are recognised by their hash, or by their content where nobody publishes one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from r2convert.catalog import Variant, load_catalog
from r2convert.catalog.variant import Source
from r2convert.download.cache import Cache
from r2convert.download.download import Imported, import_file
from r2convert.errors import AccessError, UnknownFileError, UsageError, WrongFileError
from tests.download.support import Messages, pinned, prefixed, sample, sha256, unhashed

DATA = sample()
OTHER = sample(seed=1)


def variant(*sources: Source, name: str = "net") -> Variant:
    known = next(iter(load_catalog().variants.values()))
    weights = replace(known.weights[0], id=f"{name}.lab", sources=sources)
    return replace(known, id=name, name=name, weights=(weights,))


def bring(path: Path, cache: Cache, *variants: Variant, fits: bool = True, **how: object) -> Imported:
    return import_file(path, variants, cache, fits=lambda *_: fits, **how)  # type: ignore[arg-type]


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A file under a name that says nothing."""
    path = tmp_path / "download (3)"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(("make", "trust"), [(prefixed, "seen"), (pinned, "pinned")])
def test_a_hash_is_recognised_under_any_name(make: type, trust: str, stick: Path, cache: Cache) -> None:
    source = make(DATA)
    taken = bring(stick, cache, variant(prefixed(OTHER)), variant(source, name="mine"), fits=False)
    assert (taken.variant.id, taken.source) == ("mine", source)
    assert taken.file.path == cache.path_of(source)
    assert taken.file.path.read_bytes() == DATA
    assert (taken.file.trust, taken.file.origin) == (trust, str(stick))
    assert taken.note == "recognised by its hash"
    assert stick.read_bytes() == DATA
    assert cache.lookup(source) == taken.file


def test_content_is_recognised_where_no_hash_is_published(stick: Path, cache: Cache) -> None:
    taken = bring(stick, cache, variant(prefixed(OTHER), unhashed()))
    assert taken.source == unhashed()
    assert taken.file.trust == "unknown"
    assert "nobody publishes a hash" in taken.note


def test_once_recorded_it_is_recognised_by_its_hash(stick: Path, cache: Cache) -> None:
    bring(stick, cache, variant(unhashed())).file.path.unlink()
    assert bring(stick, cache, variant(unhashed()), fits=False).note == "recognised by its hash"


def test_content_does_not_count_against_a_published_hash(stick: Path, cache: Cache) -> None:
    """A re-saved copy of the official file is not the official file."""
    with pytest.raises(UnknownFileError) as caught:
        bring(stick, cache, variant(prefixed(OTHER)))
    assert caught.value.exit_code == 3
    assert sha256(DATA) in (caught.value.got or "")
    assert "map --src" in (caught.value.next_step or "")
    assert cache.entries() == []


def test_content_of_another_format_does_not_count(stick: Path, cache: Cache) -> None:
    with pytest.raises(UnknownFileError):
        bring(stick, cache, variant(replace(unhashed(), format="pth")))


def test_content_that_fits_several_files_is_not_guessed(stick: Path, cache: Cache) -> None:
    second = replace(unhashed(), file_name="second.safetensors", publisher="paddle")
    with pytest.raises(UsageError, match="several") as caught:
        bring(stick, cache, variant(unhashed()), variant(second))
    assert "second.safetensors" in (caught.value.expected or "")
    assert bring(stick, cache, variant(unhashed()), variant(second), publisher="paddle").source == second


def test_the_name_that_was_published_tells_two_trainings_apart(stick: Path, cache: Cache) -> None:
    second = replace(unhashed(), file_name="second.safetensors")
    path = stick.rename(stick.with_name("second.safetensors"))
    assert bring(path, cache, variant(unhashed(), second)).source == second


def test_another_file_than_the_recorded_one_is_refused_with_both_hashes(stick: Path, cache: Cache) -> None:
    source = replace(prefixed(DATA), sha256_prefix=sha256(DATA)[:1])
    twin = next(data for data in (sample(seed=seed) for seed in range(1, 500)) if sha256(data)[0] == sha256(DATA)[0])
    bring(stick, cache, variant(source)).file.path.unlink()
    stick.write_bytes(twin)
    with pytest.raises(WrongFileError) as caught:
        bring(stick, cache, variant(source))
    assert (caught.value.expected, caught.value.got) == (sha256(DATA), sha256(twin))
    assert f"--forget {source.file_name}" in (caught.value.next_step or "")


def test_a_different_file_in_the_cache_stays_and_is_said_to(stick: Path, cache: Cache, tmp_path: Path) -> None:
    bring(stick, cache, variant(unhashed()))
    cache.pins.forget(unhashed().file_name)
    second = tmp_path / "second"
    second.write_bytes(OTHER)
    taken = bring(second, cache, variant(unhashed()))
    assert "not imported" in taken.note
    assert taken.file.path.read_bytes() == DATA


def test_an_unreadable_file_is_an_error_of_access(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "missing"
    with pytest.raises(AccessError) as caught:
        bring(path, cache, variant(unhashed()))
    assert caught.value.where == str(path)


def test_what_is_no_regular_file_is_none_of_the_published_ones(tmp_path: Path, cache: Cache) -> None:
    """It is said before anything is read: a device may go on for ever, a pipe never begin."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UnknownFileError, match="not a regular file") as caught:
            bring(path, cache, variant(unhashed()))
        assert caught.value.where == str(path)


def test_a_partial_download_gives_way(stick: Path, cache: Cache, messages: Messages) -> None:
    source = prefixed(DATA)
    cache.prepare()
    (cache.partial_folder / f"{source.file_name}.part").write_bytes(b"something")
    bring(stick, cache, variant(source), progress=messages)
    assert [entry.state for entry in cache.entries()] == ["file"]
    assert messages.bytes == len(DATA)
