"""`r2convert cache` as users and scripts see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.loopback_lab import Lab
from tests.download.support import sample, sha256

DATA = sample()


@pytest.fixture
def cached(lab: Lab) -> Path:
    """A file in the laboratory's cache."""
    path = lab.publish("lab-net", DATA)
    assert lab.run("fetch", "lab-net").returncode == 0
    return path


def test_an_empty_cache_is_shown_and_not_made(lab: Lab) -> None:
    lab.publish("lab-net", DATA)
    result = lab.run("cache")
    assert (result.returncode, result.stdout) == (0, f"{lab.cache}\n(empty)\n")
    assert not lab.cache.exists()


def test_a_cache_that_is_no_folder_is_said_to_be_that_and_not_a_damaged_record(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    lab.environment["R2CONVERT_CACHE"] = str(tmp_path / "file")
    result = lab.run("cache")
    assert result.returncode == 4
    assert "the cache cannot be used" in result.stderr
    assert "Not a directory\n" in result.stderr
    assert "set R2CONVERT_CACHE" in result.stderr


def test_files_are_shown_with_size_and_trust(lab: Lab, cached: Path) -> None:
    lab.publish("lab-open", sample(seed=1), hashed=False)
    lab.run("fetch", "lab-open")
    shown = lab.run("cache").stdout
    assert str(lab.cache) in shown
    assert f"{len(DATA):,}" in shown
    assert cached.name in shown
    assert "127.0.0.1" in shown
    assert "seen" in shown
    assert "unknown" in shown


def test_json_has_every_file(lab: Lab, cached: Path) -> None:
    (lab.cache / "partial" / "x.part").write_bytes(b"12345")
    document = json.loads(lab.run("cache", "--json").stdout)
    assert document["folder"] == str(lab.cache)
    file, partial = document["files"]
    assert file == {
        "name": cached.name,
        "path": str(cached),
        "size": len(DATA),
        "state": "file",
        "trust": "seen",
        "sha256": sha256(DATA),
        "origin": lab.server.url(cached.name),
    }
    assert (partial["name"], partial["state"], partial["size"]) == ("x.part", "partial", 5)


def test_verify_is_content_with_sound_files(lab: Lab, cached: Path) -> None:
    result = lab.run("cache", "--verify")
    assert (result.returncode, result.stdout) == (0, f"sound    {cached}\n1 file, 0 damaged\n")


def test_verify_puts_damaged_files_aside_and_exits_1(lab: Lab, cached: Path) -> None:
    damaged = DATA[:-1] + bytes([DATA[-1] ^ 1])
    cached.write_bytes(damaged)
    result = lab.run("cache", "--verify")
    assert result.returncode == 1
    assert sha256(damaged) in result.stdout
    assert not cached.exists()
    assert (lab.cache / "bad" / cached.name).read_bytes() == damaged
    assert lab.run("cache", "--verify", "--json").returncode == 0


def test_verify_as_json_names_the_reason(lab: Lab, cached: Path) -> None:
    cached.write_bytes(b"")
    result = lab.run("cache", "--verify", "--json")
    (row,) = json.loads(result.stdout)["files"]
    assert (result.returncode, row["sound"], row["sha256"]) == (1, False, None)
    assert "hash" in row["reason"]


def test_clean_removes_partial_and_bad_files_only(lab: Lab, cached: Path) -> None:
    (lab.cache / "partial" / "x.part").write_bytes(b"12345")
    (lab.cache / "bad" / "y").write_bytes(b"123")
    result = lab.run("cache", "--clean")
    assert result.returncode == 0
    assert result.stdout.split() == [str(lab.cache / "partial" / "x.part"), str(lab.cache / "bad" / "y")]
    assert "8 bytes freed" in result.stderr
    assert cached.read_bytes() == DATA


def test_a_forgotten_hash_lets_another_file_in(lab: Lab) -> None:
    path = lab.publish("lab-open", DATA, hashed=False)
    lab.run("fetch", "lab-open")
    path.unlink()
    lab.publish("lab-open", sample(seed=1), hashed=False, etag='"v2"')
    refused = lab.run("fetch", "lab-open")
    assert refused.returncode == 4
    assert sha256(DATA) in refused.stderr
    assert sha256(sample(seed=1)) in refused.stderr
    assert "--forget" in refused.stderr
    forgotten = lab.run("cache", "--forget", path.name)
    assert (forgotten.returncode, forgotten.stdout) == (0, f"{path.name}: {sha256(DATA)} forgotten\n")
    assert lab.run("fetch", "lab-open").stdout == f"{path}\n"


@pytest.mark.parametrize("arguments", [["--verify", "--clean"], ["--forget", "nothing"]])
def test_jobs_that_make_no_sense_are_usage_errors(arguments: list[str], lab: Lab) -> None:
    lab.publish("lab-net", DATA)
    assert lab.run("cache", *arguments).returncode == 2


def test_a_damaged_record_is_exit_4_and_no_traceback(lab: Lab, cached: Path) -> None:
    (cached.parent / "pins.json").write_text("nonsense")
    result = lab.run("cache")
    assert result.returncode == 4
    assert "delete it" in result.stderr
    assert "Traceback" not in result.stderr
