"""The few kinds of value the symbolic pickle machine builds besides Python's own plain ones."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from r2convert.errors import CorruptCheckpointError

#: Larger integers can be chosen so that they all fall into one slot of a dictionary, which takes quadratic time.
LARGEST_KEY: Final = (1 << 60) - 1


@dataclass(frozen=True, slots=True)
class PickledBytes:
    """A byte string, or a text too long to keep, left in the file.

    Attributes:
        offset: where its payload starts in the file, in bytes.
        length: how many bytes it has there.
        is_text: whether the pickle says that these bytes are UTF-8 text.
    """

    offset: int
    length: int
    is_text: bool = False


class PickledText(str):
    """A short text together with where it stands in the file: NumPy data may be pickled as text."""

    __slots__ = ("length", "offset")

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Constructor:
    """A callable a pickle may name; calling it runs our own code only.

    Attributes:
        name: its dotted name, for messages.
        build: makes the described value from the pickled arguments; raises :class:`CheckpointError`.
    """

    name: str
    build: Callable[[tuple[object, ...]], object]


class Buildable(abc.ABC):
    """A described value that takes its state in a second step (pickle's BUILD).

    A base class and no protocol: a protocol would match anything that has a ``build``, a constructor included.
    """

    @abc.abstractmethod
    def build(self, state: object) -> None:
        """Take the pickled state; raises :class:`CheckpointError` if it is not what it should be."""


#: What a format lets its pickles name: a :class:`Constructor`, or a constant that stands for itself.
Allowlist = Mapping[tuple[str, str], object]


def bad_arguments(name: str, arguments: object) -> CorruptCheckpointError:
    """Return the error for a known callable with arguments it never gets from its own library."""
    return CorruptCheckpointError(
        f"{name} is called with arguments it never has",
        got=describe_briefly(arguments),
        expected="what its library writes",
    )


def describe_briefly(value: object) -> str:
    """Name a pickled value's kind without walking into it."""
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (bool, int, float)) or value is None:
        return repr(value)[:40]
    if isinstance(value, str):
        return repr(str(value[:60]))
    if isinstance(value, Constructor):
        return value.name
    return type(value).__name__


def make_ordered_dictionary(arguments: tuple[object, ...]) -> dict[object, object]:
    """Build what ``collections.OrderedDict`` describes: empty, or Python 2's list of pairs."""
    entries: dict[object, object] = {}
    if arguments == ():
        return entries
    if len(arguments) != 1 or not isinstance(arguments[0], (list, tuple)):
        raise bad_arguments("collections.OrderedDict", arguments)
    for pair in arguments[0]:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise bad_arguments("collections.OrderedDict", pair)
        add_entry(entries, pair[0], pair[1])
    return entries


def add_entry(entries: dict[object, object], key: object, value: object) -> None:
    """Put one entry into a dictionary, where Python would let the last of two equal keys win in silence.

    Raises:
        CorruptCheckpointError: the key is there already, or is not a plain value.
    """
    is_plain = isinstance(key, (str, float)) or key is None or (isinstance(key, int) and abs(key) <= LARGEST_KEY)
    if not is_plain:
        raise CorruptCheckpointError(
            "A dictionary key is not a plain value", expected="a name or a number", got=describe_briefly(key)
        )
    if key in entries:
        raise CorruptCheckpointError("A dictionary has the same key twice", got=describe_briefly(key))
    entries[key] = value
