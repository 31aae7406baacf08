"""`r2convert selftest` shows one line a bad file, and notices a reader that lets one through."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from r2convert.cli.commands.selftest import command as selftest
from r2convert.errors import TruncatedCheckpointError
from r2convert.selftest import bad_files as catalogue
from r2convert.selftest.bad_torch_files import bad_legacy_files
from r2convert.selftest.specimens import torch_zip
from r2convert.selftest.trial import BadFile


def test_all_is_well() -> None:
    result = CliRunner().invoke(selftest)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines[:-1])
    assert lines[-1] == f"{len(catalogue.bad_files())} bad files, 0 not refused as expected"


def test_the_json_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "bad_files", lambda: bad_legacy_files()[:2])
    result = CliRunner().invoke(selftest, ["--json"])
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert [row["got"] for row in document["files"]] == ["CorruptCheckpointError"] * 2


def test_a_file_that_is_let_through_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = BadFile("nothing wrong", ".pth", TruncatedCheckpointError, torch_zip)
    monkeypatch.setattr(catalogue, "bad_files", lambda: (sound,))
    result = CliRunner().invoke(selftest)
    assert result.exit_code == 1
    assert "FAIL nothing wrong  expected TruncatedCheckpointError, got read" in result.stdout


def test_beside_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    legacy = {bad_file.name: bad_file for bad_file in bad_legacy_files()}
    chosen = (legacy["legacy: bytes after the last storage"], legacy["legacy: an unknown version"])
    monkeypatch.setattr(catalogue, "bad_files", lambda: chosen)
    result = CliRunner().invoke(selftest, ["--against", "torch"])
    assert result.exit_code == 0
    assert [line.partition("; torch: ")[2] for line in result.stdout.splitlines()[:-1]] == ["loads", "RuntimeError"]
