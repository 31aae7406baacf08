"""Documents written, read back and described: all three follow from the types.

A results file may come from anybody: its size is bounded, whatever could control a terminal or a page is escaped, and
what does not fit the types is refused with a message.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from r2convert.errors import AccessError, InputError, UsageError
from r2convert.files import printable
from r2convert.results.diagnosis import Diagnosis
from r2convert.results.documents import (
    Comparison,
    ConversionSummary,
    Inspection,
    LearnedLayout,
    PredictionsComparison,
)
from r2convert.results.verification import CheckpointResult, Verification

STDIN = "-"
DOCUMENTS: dict[str, type[Struct]] = {
    "inspect": Inspection,
    "layout": LearnedLayout,
    "map": ConversionSummary,
    "compare": Comparison,
    "predictions": PredictionsComparison,
    "verify": Verification,
    "doctor": Diagnosis,
}
"""What `--json` prints, by the name of its schema."""

_SCHEMA = "r2convert.verify/1"
_LARGEST_FILE = 256 * 2**20
Document = TypeVar("Document", bound=Struct)
_NOT_DESCRIBED = ("$defs", "default", "title", "maximum", "maxItems", "maxProperties")
"""What only readers need: bounds, and defaults for older documents."""
_INDENT = 8
"""Indentation of a field in a docstring; deeper lines continue it."""
_PATH = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]")


class Run(Struct, frozen=True):
    """One results file.

    Args:
        name: the file's name
        sha256: its digest
        verification: what it says
    """

    name: str
    sha256: str
    verification: Verification

    @property
    def results(self) -> tuple[CheckpointResult, ...]:
        """One result per checkpoint."""
        return self.verification.results


def plain(document: Struct) -> dict[str, Any]:
    """A document as JSON's own values; NaN and infinities, which JSON lacks, become ``None``."""
    values: dict[str, Any] = _without_nan(msgspec.to_builtins(document))
    return values


def to_json(document: Struct) -> str:
    """A document as JSON text with a final newline."""
    return json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_run(path: str) -> Run:
    """Read a results file.

    Args:
        path: the file, or ``-`` for standard input.

    Raises:
        AccessError: it cannot be read.
        InputError: it is not a results file, or it is damaged.
    """
    data = _read_bytes(path)
    where = "standard input" if path == STDIN else path
    document = _parse(data, where)
    if document.get("schema") != _SCHEMA:
        raise _refusal(f"{where}: schema", _SCHEMA, document.get("schema"))
    name = where if path == STDIN else Path(path).name
    return Run(name, hashlib.sha256(data).hexdigest(), convert(document, Verification, where))


def convert(values: dict[str, Any], kind: type[Document], where: str) -> Document:
    """JSON's own values as a document.

    Args:
        values: what was parsed.
        kind: what it must be.
        where: the file, for messages.

    Raises:
        InputError: it is something else; the message says where, what was expected, and what is there.
    """
    safe = _printable_everywhere(values)
    try:
        return msgspec.convert(safe, kind)
    except msgspec.ValidationError as error:
        expected, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`").removeprefix(".")
        raise _refusal(f"{where}: {place}" if place else where, expected, _at(safe, place)) from error
    except UsageError as error:  # a protocol that no image can be prepared by
        raise _refusal(where, error.expected or error.what, error.got) from error


def schema_of(kind: type[Struct], title: str) -> dict[str, Any]:
    """The JSON Schema of what this version writes, every type in its place.

    Args:
        kind: the document.
        title: what prints it.

    Returns:
        A schema that requires every field that is always written, with descriptions from the docstrings.
    """
    schema = msgspec.json.schema(kind)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_inlined(schema, schema.get("$defs", {})),
    }


def _read_bytes(path: str) -> bytes:
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(_LARGEST_FILE + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        got = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AccessError("the results cannot be read", where=path, got=got) from error
    if len(data) > _LARGEST_FILE:
        raise InputError("this file is too large for results", where=path, expected=f"at most {_LARGEST_FILE:,} bytes")
    return data


def _parse(data: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
        got = "JSON that is not an object"
    except json.JSONDecodeError as error:
        document, got = None, f"line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeDecodeError:
        document, got = None, "bytes that are not UTF-8"
    except (ValueError, RecursionError) as error:
        document, got = None, str(error)
    if isinstance(document, dict):
        return document
    raise InputError(
        "this is not a results file",
        where=where,
        expected=f'a JSON document with "schema": "{_SCHEMA}"',
        got="an empty file" if not data.strip() else got,
        next_step="`r2convert verify CHECKPOINT --json FILE` writes one; a truncated file must be written again",
    )


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant}, which JSON does not have")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return value


def _printable_everywhere(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable_everywhere(each) for each in value]
    if isinstance(value, dict):
        return {printable(name): _printable_everywhere(each) for name, each in value.items()}
    return value


def _refusal(where: str, expected: str, got: object) -> InputError:
    shown = json.dumps(got, ensure_ascii=False)
    return InputError(
        "these results cannot be used",
        where=where,
        expected=expected.removeprefix("Expected "),
        got=shown if len(shown) <= 100 else shown[:97] + "...",
        next_step="give a file as `r2convert verify --json FILE` wrote it, unchanged",
    )


def _at(values: Any, place: str) -> object:
    """What lies at a place like ``results[0].checks[1].unit``; the object around it where the field is missing."""
    for name, index in _PATH.findall(f".{place}" if place and not place.startswith("[") else place):
        try:
            values = values[int(index)] if index else values[name]
        except (KeyError, IndexError, TypeError):
            break
    return values


def _inlined(schema: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """A schema without references and without the defaults that only readers of older documents need."""
    if "$ref" in schema:
        return _inlined(shared[schema["$ref"].rpartition("/")[2]], shared)
    if "anyOf" in schema:
        return _or_null(schema, shared)
    found = {name: value for name, value in schema.items() if name not in _NOT_DESCRIBED}
    if found.get("minimum") != 0:
        found.pop("minimum", None)
    if "enum" in schema:
        found = {"const": schema["enum"][0]} if len(schema["enum"]) == 1 else {"type": "string", **found}
    if "properties" in schema:
        said, _, fields = schema.get("description", "").partition("Args:")
        found["description"] = " ".join(said.split())
        # What has neither a default nor is required is left out where there is nothing to say.
        required = schema.get("required", [])
        found["required"] = [
            name for name, each in schema["properties"].items() if name in required or "default" in each
        ]
        meanings = _meanings(fields)
        found["properties"] = {
            name: {**_inlined(each, shared), "description": meanings[name]}
            for name, each in schema["properties"].items()
        }
    if "prefixItems" in schema:
        found["prefixItems"] = [_inlined(each, shared) for each in schema["prefixItems"]]
    if isinstance(schema.get("items"), dict):
        found["items"] = _inlined(schema["items"], shared)
    if isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _inlined(schema["additionalProperties"], shared)
    return found


def _or_null(schema: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Something that may be null, as one type with another name beside it."""
    kinds = [_inlined(each, shared) for each in schema["anyOf"] if each.get("type") != "null"]
    (kind,) = kinds
    if "enum" in kind:
        kind["enum"] = [*kind["enum"], None]
    if "type" in kind:
        kind["type"] = [kind["type"], "null"]
    return kind


def _meanings(fields: str) -> dict[str, str]:
    """The fields of a docstring's ``Args:`` and what they mean."""
    found: dict[str, str] = {}
    for line in fields.splitlines():
        name, colon, meaning = line.strip().partition(": ")
        indent = len(line) - len(line.lstrip())
        if indent == _INDENT and colon:
            found[name] = meaning
        elif line.strip() and found:
            last = next(reversed(found))
            found[last] += f" {line.strip()}"
    return found
