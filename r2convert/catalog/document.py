"""Reading a TOML data file with every problem placed at a file and line.

:class:`Document` parses the file and collects problems; :class:`Section` is one table of it, read field by
field with the type each must have. Nothing is raised before the whole file has been looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from r2convert.errors import CatalogError
from r2convert.files import parse_toml

Key = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\"-]+)\s*\]\]?")
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z0-9_.-]+)\s*=")


class Document:
    """One TOML file and the problems found in it.

    Args:
        path: the file.

    Raises:
        CatalogError: the file cannot be read or is not TOML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self._lines: dict[Key, int] | None = None
        try:
            self.text = path.read_text(encoding="utf-8")
            self.root = Section(self, parse_toml(self.text), ())
        except OSError as error:
            raise CatalogError("cannot read a mapping file", where=str(path), got=str(error)) from error
        except ValueError as error:
            raise CatalogError("a mapping file is not valid TOML", where=str(path), got=str(error)) from error

    def problem(self, key: Key, message: str) -> None:
        """Record a problem at a key, such as ``("sources", 0, "urls")``."""
        self.problems.append(f"{self.path}:{self.line_of(key)}: {message}")

    def line_of(self, key: Key) -> int:
        """The 1-based line of a key, or of the nearest table around it."""
        if self._lines is None:
            self._lines = _line_index(self.text)
        while key and key not in self._lines:
            key = key[:-1]
        return self._lines.get(key, 1)

    def finish(self) -> None:
        """Report everything found wrong, if anything was.

        Raises:
            CatalogError: with one line per problem.
        """
        if self.problems:
            raise CatalogError(
                "a mapping file is damaged",
                where="\n            ".join(self.problems),
                next_step="correct the lines named above; docs/how-to/mapping-files.md describes every field",
            )


class Section:
    """One table of a document, read field by field; :meth:`close` reports the fields that were never read."""

    def __init__(self, document: Document, values: dict[str, Any], key: Key) -> None:
        self.document = document
        self.values = values
        self.key = key
        self._read: set[str] = set()
        self._damaged: set[str] = set()

    def problem(self, message: str, name: str | None = None) -> None:
        """Record a problem with this table, or with one of its fields, for which only the first is kept."""
        if name is not None:
            if name in self._damaged:
                return
            self._damaged.add(name)
        self.document.problem(self.key if name is None else (*self.key, name), message)

    def has(self, name: str) -> bool:
        """Whether the table has the field."""
        return name in self.values

    def text(self, name: str, default: str | None = None) -> str:
        """A non-empty string; without a default it is required."""
        value = self._value(name, str, "a string", default)
        if value == "" and default is None:
            self.problem(f"{name!r} is missing or empty: expected a string", name)
        return str(value)

    def optional_text(self, name: str) -> str | None:
        """A non-empty string, or ``None`` if the field is absent."""
        return self.text(name) if self.has(name) else None

    def number(self, name: str, default: int | None = None, *, most: int | None = None) -> int:
        """A positive integer; without a default it is required."""
        value = self._value(name, int, "a positive integer", default)
        if type(value) is not int or value < 1:
            self.problem(f"{name!r} must be a positive integer, not {value!r}", name)
            return 1
        return self._at_most(name, (value,), most)[0]

    def flag(self, name: str) -> bool:
        """A required boolean."""
        return bool(self._value(name, bool, "true or false", None))

    def choice(self, name: str, allowed: Sequence[str], default: str | None = None) -> str:
        """A string out of a fixed set; without a default it is required."""
        value = self.text(name, default)
        if value and value not in allowed:
            self.problem(f"{name!r} is {value!r}: expected one of {', '.join(allowed)}", name)
        return value

    def texts(self, name: str, *, required: bool = True) -> tuple[str, ...]:
        """A list of strings."""
        value = self._value(name, list, "a list of strings", None if required else [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self.problem(f"{name!r} must be a list of strings", name)
            return ()
        return tuple(value)

    def numbers(self, name: str, count: int, *, most: int | None = None) -> tuple[int, ...]:
        """A list of exactly ``count`` positive integers."""
        value = self._value(name, list, f"a list of {count} positive integers", None)
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(type(item) is int and item > 0 for item in value)
        ):
            self.problem(f"{name!r} must be a list of {count} positive integers, not {value!r}", name)
            return (1,) * count
        return self._at_most(name, tuple(value), most)

    def fractions(self, name: str, count: int, default: tuple[float, ...]) -> tuple[float, ...]:
        """A list of exactly ``count`` positive numbers, or the default if the field is absent."""
        value = self._value(name, list, f"a list of {count} positive numbers", list(default))
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(type(item) in (int, float) and item > 0 for item in value)
        ):
            self.problem(f"{name!r} must be a list of {count} positive numbers, not {value!r}", name)
            return default
        return tuple(map(float, value))

    def cells(self, name: str, count: int) -> Iterator[tuple[str, ...]]:
        """The rows of a list of lists of ``count`` strings; an empty tuple stands in for a damaged row."""
        value = self._value(name, list, "a list of rows", None)
        for index, row in enumerate(value if isinstance(value, list) else []):
            sound = isinstance(row, list) and len(row) == count and all(isinstance(cell, str) for cell in row)
            if not sound:
                self.document.problem((*self.key, name, index), f"a row must be a list of {count} strings, not {row!r}")
            yield tuple(row) if sound else ()

    def section(self, name: str, *, required: bool = True) -> Section:
        """A sub-table; an empty one stands in for an absent one."""
        value = self._value(name, dict, "a table", None if required else {})
        return Section(self.document, value if isinstance(value, dict) else {}, (*self.key, name))

    def sections(self, name: str, *, required: bool = True) -> Iterator[Section]:
        """The tables of an array of tables."""
        value = self._value(name, list, "an array of tables", None if required else [])
        for index, item in enumerate(value if isinstance(value, list) else []):
            if isinstance(item, dict):
                yield Section(self.document, item, (*self.key, name, index))
            else:
                self.document.problem((*self.key, name, index), f"{name!r} must hold tables only")

    def close(self) -> None:
        """Report the fields that were never read: a misspelt field must not be ignored silently."""
        for name in self.values:
            if name not in self._read:
                self.problem(f"unknown field {name!r}; known here: {', '.join(sorted(self._read))}", name)

    def _at_most(self, name: str, values: tuple[int, ...], most: int | None) -> tuple[int, ...]:
        if most is not None and max(values) > most:
            self.problem(f"{name!r} is {max(values)}: more than {most}, the most that makes sense", name)
            return (1,) * len(values)
        return values

    def _value(self, name: str, kind: type, wanted: str, default: object) -> Any:
        self._read.add(name)
        if name not in self.values:
            if default is not None:
                return default
            self.problem(f"{name!r} is missing: expected {wanted}", name)
            return kind()
        value = self.values[name]
        if type(value) is not kind:
            self.problem(f"{name!r} must be {wanted}, not {value!r}", name)
            return kind()
        return value


def _line_index(text: str) -> dict[Key, int]:
    """Key -> line, good enough for the files of this project.

    They have bare keys, ``[table]`` and ``[[array]]`` headers, and arrays with one value per line.
    """
    found: dict[Key, int] = {}
    table: Key = ()
    array: Key | None = None
    items = 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if array is not None:
            if stripped.startswith("]"):
                array = None
            else:
                found[(*array, items)] = number
                items += 1
        elif header := _HEADER.match(line):
            table = _table_key(header, found)
            found[table] = number
        elif assignment := _ASSIGNMENT.match(line):
            key = (*table, *assignment.group(1).split("."))
            found[key] = number
            if stripped.endswith("["):
                array, items = key, 0
    return found


def _table_key(header: re.Match[str], found: dict[Key, int]) -> Key:
    key: Key = tuple(part.strip('"') for part in header.group(2).split("."))
    if header.group(1) == "[":
        return key
    index = 0
    while (*key, index) in found:
        index += 1
    return (*key, index)
