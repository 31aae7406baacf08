"""What the tests of the documentation share."""

from __future__ import annotations

import pytest

from r2convert.mapping.tables import Tables
from tests.conftest import Standin
from tests.published import Published, publish_standins


@pytest.fixture(scope="session")
def published(tables: Tables, standin: Standin, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Stand-ins under the official files' names."""
    return publish_standins(tables, standin, tmp_path_factory.mktemp("published"))
