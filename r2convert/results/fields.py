"""Typed access to a JSON object that nobody has vouched for: every refusal says where and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from r2convert.errors import InputError
from r2convert.files import printable

_LARGEST_COUNT = 2**63
_LARGEST_NUMBER = 1e300
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one object.

    Args:
        values: the object.
        where: the file, and the place in it, for messages.
    """

    values: Mapping[str, Any]
    where: str

    def text(self, name: str) -> str:
        """A string, with whatever cannot be printed spelled out.

        Raises:
            InputError: it is missing, or no string; all the other methods raise the same.
        """
        value = self._require(name)
        if not isinstance(value, str):
            raise self.refusal(name, "a string", value)
        return printable(value)

    def text_or_none(self, name: str) -> str | None:
        """A string, or ``None`` where it is ``null`` or missing."""
        return None if self.values.get(name) is None else self.text(name)

    def one_of(self, name: str, choices: tuple[str, ...]) -> Any:
        """One of several words."""
        value = self.text(name)
        if value not in choices:
            raise self.refusal(name, "one of " + ", ".join(choices), value)
        return value

    def count(self, name: str) -> int:
        """A whole number, zero or more."""
        return self._count(name, self._require(name))

    def count_or_none(self, name: str) -> int | None:
        """A whole number, or ``None`` where it is ``null`` or missing."""
        value = self.values.get(name)
        return None if value is None else self._count(name, value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._require(name)
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false", value)
        return value

    def number_or_none(self, name: str) -> float | None:
        """A number; ``null`` stands for what was no number when it was measured."""
        value = self._require(name, may_be_null=True)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_NUMBER:
            raise self.refusal(name, "a number", value)
        return float(value)

    def object_or_none(self, name: str) -> Fields | None:
        """An object, or ``None`` where it is ``null`` or missing."""
        value = self.values.get(name)
        return None if value is None else self._object(name, value)

    def mapping(self, name: str) -> Fields:
        """An object, empty where it is missing."""
        value = self.values.get(name)
        return self._object(name, {} if value is None else value)

    def each(
        self, name: str, make: Callable[[Fields], _Made], *, most: int, optional: bool = False
    ) -> tuple[_Made, ...]:
        """A list of objects, each turned into a value.

        Args:
            name: the field.
            make: what to make of one.
            most: how many there may be.
            optional: whether it may be missing or ``null``, which makes it empty.
        """
        value = self._require(name, may_be_null=optional, may_be_missing=optional)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most:
            raise self.refusal(name, f"a list of at most {most:,}", value)
        return tuple(make(self._object(f"{name}[{index}]", item)) for index, item in enumerate(value))

    def words(self, name: str, *, most: int) -> tuple[str, ...]:
        """A list of strings, empty where it is ``null`` or missing."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most or not all(isinstance(word, str) for word in value):
            raise self.refusal(name, f"a list of at most {most:,} strings", value)
        return tuple(printable(word) for word in value)

    def refusal(self, name: str, expected: str, got: object) -> InputError:
        """Why the document cannot be used."""
        return InputError(
            "these results cannot be used",
            where=f"{self.where}.{printable(name)[:100]}",
            expected=expected,
            got=_shown(got),
            next_step="give a file that `r2convert verify --json FILE` has written, as it has written it",
        )

    def _require(self, name: str, *, may_be_null: bool = False, may_be_missing: bool = False) -> Any:
        if name not in self.values and not may_be_missing:
            raise self.refusal(name, "this field", "nothing of that name")
        value = self.values.get(name)
        if value is None and not may_be_null:
            raise self.refusal(name, "a value", None)
        return value

    def _count(self, name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST_COUNT:
            raise self.refusal(name, "a whole number, zero or more", value)
        return value

    def _object(self, name: str, value: object) -> Fields:
        if not isinstance(value, dict):
            raise self.refusal(name, "an object", value)
        return Fields(value, f"{self.where}.{name}")


def _shown(value: object) -> str:
    if isinstance(value, float) and not isfinite(value):
        return "no number"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    return "null" if value is None else printable(str(value)[:80]) or "an empty string"
