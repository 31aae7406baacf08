"""Documents of the first version still read, and what is written now says all that they said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from r2convert.results.reading import DOCUMENTS, convert, plain, read_run, schema_of

RECORDED = Path(__file__).parents[1] / "data" / "first-version"
NAMES = sorted(path.stem for path in RECORDED.glob("*.json"))


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def within(older: Any, newer: Any) -> bool:
    """Whether everything in the older document is in the newer one; fields may have been added."""
    if isinstance(older, dict):
        return isinstance(newer, dict) and all(name in newer and within(older[name], newer[name]) for name in older)
    if isinstance(older, list):
        return len(older) == len(newer) and all(map(within, older, newer))
    return bool(older == newer)


@pytest.mark.parametrize("name", NAMES)
def test_a_document_of_the_first_version_reads_and_is_written_again_as_it_was(name: str) -> None:
    document = recorded(name)
    kind = DOCUMENTS[name.partition("-")[0]]
    assert within(document, json.loads(json.dumps(plain(convert(document, kind, name)))))


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("verify")])
def test_a_results_file_of_the_first_version_reads(name: str) -> None:
    run = read_run(str(RECORDED / f"{name}.json"))
    assert [result.verdict for result in run.results] == [each["verdict"] for each in recorded(name)["results"]]


@pytest.mark.parametrize("name", [*DOCUMENTS])
def test_every_kind_of_document_was_recorded(name: str) -> None:
    assert any(each.partition("-")[0] == name for each in NAMES)


@pytest.mark.parametrize("name", [*DOCUMENTS])
def test_a_schema_describes_every_field_in_words(name: str) -> None:
    schema = schema_of(DOCUMENTS[name], name)
    Draft202012Validator.check_schema(schema)

    def described(node: Any) -> bool:
        fields = node.get("properties", {}).values()
        inner = [node[each] for each in ("items", "additionalProperties") if isinstance(node.get(each), dict)]
        return all(field.get("description") for field in fields) and all(map(described, [*fields, *inner]))

    assert described(schema)
