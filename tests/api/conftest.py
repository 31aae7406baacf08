"""A cache that holds what the examples of the API load, and a folder of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2convert.mapping.tables import Tables
from tests.conftest import Standin
from tests.published import Published, publish_standins


@pytest.fixture(scope="session")
def published(tables: Tables, standin: Standin, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Stand-ins under the official files' names."""
    return publish_standins(tables, standin, tmp_path_factory.mktemp("published"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache folder, empty to begin with."""
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, published: Published, cache: Path, tmp_path: Path) -> None:
    for name, value in published.environment(cache).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
