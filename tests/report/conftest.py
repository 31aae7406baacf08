"""Results files to report on, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2convert.mapping.tables import Tables
from r2convert.results.reading import Run, read_run
from tests.report.made import made_document

Read = Callable[[Any], Run]


@pytest.fixture(scope="session")
def document(tables: Tables) -> Any:
    """Two files, one of them broken, with everything that can be measured; not to be changed."""
    return made_document(tables, "res2net50_w14_s8", "res2net50_w26_s8", broken="res2net50_w26_s8")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a document as if somebody had sent it."""

    def read_document(document: Any) -> Run:
        path = tmp_path / "results.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return read_run(str(path))

    return read_document
