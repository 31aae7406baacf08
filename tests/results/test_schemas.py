"""The published schemas are those of the types."""

from __future__ import annotations

import pytest

from r2convert.results.reading import DOCUMENTS
from scripts.write_schemas import FOLDER, schema_text


@pytest.mark.parametrize("name", [*DOCUMENTS])
def test_a_published_schema_is_that_of_the_types(name: str) -> None:
    text = (FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")
    assert text == schema_text(name), "run scripts/write_schemas.py"


def test_every_published_schema_has_its_type() -> None:
    assert {path.name.partition(".")[0] for path in FOLDER.iterdir()} == set(DOCUMENTS)
