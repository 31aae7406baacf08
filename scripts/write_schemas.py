"""Writes docs/reference/schemas/ from the types in r2convert/results: run it when a document gains a field."""

from __future__ import annotations

import json
from pathlib import Path

from r2convert.results.reading import DOCUMENTS, schema_of

FOLDER = Path(__file__).parent.parent / "docs" / "reference" / "schemas"
COMMANDS = {"predictions": "compare"}
"""Which command prints a document, where it is not the one of that name."""


def schema_text(name: str) -> str:
    """The schema of one document as the file has it."""
    schema = schema_of(DOCUMENTS[name], f"r2convert {COMMANDS.get(name, name)} --json")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in DOCUMENTS:
        (FOLDER / f"{name}.schema.json").write_text(schema_text(name), encoding="utf-8")
