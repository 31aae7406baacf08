"""The maintainers' script pins what two independent mirrors agree on, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from r2convert.catalog.loading import load_weights
from tests.download import server as faults
from tests.download.server import CERTIFICATE, LoopbackServer
from tests.download.support import sample, sha256

SCRIPT = Path(__file__).parents[2] / "scripts" / "pin_sources.py"
DATA = sample()
OTHER = sample(seed=1)

WEIGHTS = """\
# A comment that has to stay.
id = "lab.official"
publisher = "official"

[[files]]
layout = "official"
format = "safetensors"
file_name = "lab.safetensors"  # of 2019
{known}
urls = [{urls}]

[[files]]
layout = "timm"
format = "safetensors"
file_name = "other.safetensors"
urls = [{gone}]
"""


@pytest.fixture
def variant(tmp_path: Path, tls_server: LoopbackServer) -> Path:
    """A variant whose first file has two mirrors, one server under two names."""
    return write(tmp_path, tls_server, "")


def write(folder: Path, server: LoopbackServer, known: str) -> Path:
    first, second = server.url("a"), server.url("b").replace("127.0.0.1", "localhost")
    (folder / "weights").mkdir(exist_ok=True)
    path = folder / "weights" / "lab.official.toml"
    path.write_text(WEIGHTS.format(known=known, urls=f'"{first}", "{second}"', gone=f'"{server.url("gone")}"'))
    return path


def pin(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "lab.official", "--mappings", str(path.parent.parent), *options]
    environment = {"PATH": os.environ["PATH"], "REQUESTS_CA_BUNDLE": str(CERTIFICATE), "R2CONVERT_MIRROR": "/nowhere"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_two_mirrors_that_agree_are_a_pin(variant: Path, tls_server: LoopbackServer) -> None:
    tls_server.put("a", DATA)
    tls_server.put("b", DATA)
    before = variant.read_text()
    result = pin(variant)
    assert result.returncode == 0, result.stderr
    assert "pinned    lab.safetensors: 127.0.0.1 and localhost" in result.stdout
    assert "skipped   other.safetensors: 0 of the 2" in result.stdout
    first, second = load_weights(variant).sources
    assert (first.sha256, first.size) == (sha256(DATA), len(DATA))
    assert (second.sha256, second.size) == (None, None)
    added = [line for line in variant.read_text().splitlines() if line not in before.splitlines()]
    assert added == [f'sha256 = "{sha256(DATA)}"', f"size = {len(DATA)}"]
    assert set(before.splitlines()) <= set(variant.read_text().splitlines())


def test_a_dry_run_writes_nothing(variant: Path, tls_server: LoopbackServer) -> None:
    tls_server.put("a", DATA)
    tls_server.put("b", DATA)
    before = variant.read_text()
    assert "pinned" in pin(variant, "--dry-run").stdout
    assert variant.read_text() == before


def test_mirrors_that_disagree_are_reported_and_not_written(variant: Path, tls_server: LoopbackServer) -> None:
    tls_server.put("a", DATA)
    tls_server.put("b", OTHER)
    before = variant.read_text()
    result = pin(variant)
    assert result.returncode == 1
    assert "CONFLICT" in result.stdout
    assert sha256(DATA) in result.stdout
    assert sha256(OTHER) in result.stdout
    assert variant.read_text() == before


def test_one_mirror_is_not_enough(variant: Path, tls_server: LoopbackServer) -> None:
    tls_server.put("a", DATA)
    tls_server.put("b", DATA, *[faults.status(404)] * 9)
    before = variant.read_text()
    result = pin(variant)
    assert result.returncode == 0
    assert "skipped   lab.safetensors: 1 of the 2" in result.stdout
    assert "404" in result.stdout
    assert variant.read_text() == before


def test_a_file_that_does_not_begin_as_published_does_not_count(tmp_path: Path, tls_server: LoopbackServer) -> None:
    path = write(tmp_path, tls_server, f'sha256_prefix = "{sha256(OTHER)[:8]}"')
    tls_server.put("a", DATA)
    tls_server.put("b", DATA)
    assert "skipped   lab.safetensors: 0 of the 2" in pin(path).stdout
    assert "sha256" not in tomllib.loads(path.read_text())["files"][0]


def test_an_existing_pin_is_confirmed_or_contradicted(tmp_path: Path, tls_server: LoopbackServer) -> None:
    tls_server.put("a", DATA)
    tls_server.put("b", DATA)
    path = write(tmp_path, tls_server, f'sha256 = "{sha256(DATA)}"')
    assert "confirmed" in pin(path).stdout
    assert load_weights(path).sources[0].size == len(DATA)
    path = write(tmp_path, tls_server, f'sha256 = "{sha256(OTHER)}"')
    result = pin(path)
    assert (result.returncode, "CONFLICT" in result.stdout) == (1, True)
    assert load_weights(path).sources[0].sha256 == sha256(OTHER)
