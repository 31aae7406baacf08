"""The published JSON Schemas, for tests that hold real output against them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[1] / "docs" / "reference" / "schemas"


def schema(name: str) -> dict[str, Any]:
    """A schema that also refuses what it does not describe: a field may be added, but not behind the reader's back."""
    document: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    result: dict[str, Any] = closed(document)
    return result


def closed(node: Any) -> Any:
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    result = {name: closed(value) for name, value in node.items()}
    if "properties" in result and isinstance(result["properties"], dict) and "type" in result:
        result.setdefault("additionalProperties", False)
    return result


def problems(name: str, document: Any) -> list[str]:
    found = Draft202012Validator(schema(name)).iter_errors(document)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]
