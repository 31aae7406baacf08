"""The few kinds of value the symbolic pickle machine builds besides Python's own plain ones."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from r2convert.checkpoint import limits
from r2convert.checkpoint.pickles.dangerous import is_dangerous
from r2convert.errors import CorruptCheckpointError, UnsafeCheckpointError

#: Larger integers can be chosen so that they all fall into one slot of a dictionary, which takes quadratic time.
LARGEST_KEY: Final = (1 << 60) - 1


class PickledBytes(Struct, frozen=True):
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


class PickledSet(list[object]):
    """The members of a set, in file order; nothing is hashed."""


class Opaque(Struct, eq=False):
    """A class, a function or an object that is described by its name and not looked into.

    What a pickle does with it (call it, give it state, entries or items) is noted and never done.

    Attributes:
        name: the dotted name of the class or function.
        arguments: what it is called with; ``None`` while it is only named.
        state: the inner state given to the object.
        entries: what is set in it like in a dictionary.
        items: what is appended to it like to a list.
    """

    name: str
    arguments: object = None
    state: object = None
    entries: dict[object, object] = {}
    items: list[object] = []

    @property
    def attributes(self) -> Mapping[object, object]:
        """The object's attributes by name, as far as its state is the usual dictionary of them."""
        state = self.state[0] if isinstance(self.state, tuple) and len(self.state) == 2 else self.state
        return state if isinstance(state, dict) else {}


class OpaqueKey(Struct, eq=False):
    """A dictionary key that is neither a name nor a number: told apart by identity, never hashed by its value."""

    kind: str

    def __str__(self) -> str:
        return f"<{self.kind}>"


class UnreadTensor(Struct, frozen=True):
    """A tensor of a kind whose elements are not given out.

    Attributes:
        kind: what it is, for messages: ``"complex64"``, ``"sparse"``, ``"quantized"``.
        shape: its lengths, where they are known.
    """

    kind: str
    shape: tuple[int, ...] | None = None


class Constructor(Struct, frozen=True):
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


#: What the machine knows by name: a :class:`Constructor`, or a constant that stands for itself.
KnownNames = Mapping[tuple[str, str], object]


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
        return f"a {'set' if isinstance(value, PickledSet) else type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST_KEY:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (bool, int, float)) or value is None:
        return repr(value)[:40]
    if isinstance(value, str):
        return repr(str(value[:60]))
    return value.name if isinstance(value, (Constructor, Opaque)) else type(value).__name__


def add_entry(entries: dict[object, object], key: object, value: object) -> None:
    """Put one entry into a dictionary, where Python would let the last of two equal keys win in silence.

    Raises:
        CorruptCheckpointError: the key is there already.
    """
    is_plain = isinstance(key, (str, float)) or key is None or (isinstance(key, int) and abs(key) <= LARGEST_KEY)
    if not is_plain:
        key = OpaqueKey(describe_briefly(key).removeprefix("a "))
    elif key in entries:
        raise CorruptCheckpointError("a dictionary has the same key twice", got=describe_briefly(key))
    entries[key] = value


# -- what Python's own pickles name ------------------------------------------------------------------------


def _ordered_dictionary(arguments: tuple[object, ...]) -> dict[object, object]:
    """Describe ``collections.OrderedDict``: empty, Python 2's list of pairs, or another dictionary."""
    entries: dict[object, object] = {}
    if arguments == ():
        return entries
    given = arguments[0]
    if len(arguments) != 1 or not isinstance(given, (list, tuple, dict)):
        raise bad_arguments("collections.OrderedDict", arguments)
    for pair in given.items() if isinstance(given, dict) else given:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise bad_arguments("collections.OrderedDict", pair)
        add_entry(entries, pair[0], pair[1])
    return entries


def _default_dictionary(arguments: tuple[object, ...]) -> dict[object, object]:
    return _ordered_dictionary(arguments[1:])


def _set(arguments: tuple[object, ...]) -> object:
    members = arguments[0] if arguments else []
    return PickledSet(members) if isinstance(members, (list, tuple)) else Opaque("builtins.set", arguments)


def _complex(arguments: tuple[object, ...]) -> object:
    parts = [part for part in arguments if isinstance(part, (int, float)) and abs(part) <= LARGEST_KEY]
    return complex(*parts) if len(parts) == len(arguments) in (1, 2) else Opaque("builtins.complex", arguments)


def _old_object(arguments: tuple[object, ...]) -> object:
    """Describe ``copyreg._reconstructor(class, base, state)``, protocol 2's ``object.__reduce__``."""
    made = arguments[0] if arguments else None
    return Opaque(made.name if isinstance(made, Opaque) else "builtins.object", arguments)


def _attribute(arguments: tuple[object, ...]) -> Opaque:
    """Describe ``getattr(class, name)``, as protocols below 4 spell a method: no danger if the class is none."""
    made, name = arguments if len(arguments) == 2 else (None, None)
    named = f"{made.name}.{name}" if isinstance(made, Opaque) and made.arguments is None else ""
    is_method = isinstance(name, str) and name.isidentifier() and 0 < len(named) <= limits.METADATA_TEXT
    if not is_method or is_dangerous(*named.rsplit(".", 1)):
        raise UnsafeCheckpointError(
            "the pickle calls builtins.getattr, which reaches into what it names",
            expected="a method of a harmless class",
            got=f"getattr({describe_briefly(made)}, {describe_briefly(name)})",
            next_step="do not load this file with another program: it may run code",
        )
    return Opaque(named)


PYTHON_NAMES: Final[KnownNames] = {
    (module, name): Constructor(f"{module}.{name}", build)
    for modules, name, build in (
        (("collections",), "OrderedDict", _ordered_dictionary),
        (("collections",), "Counter", _ordered_dictionary),
        (("collections",), "defaultdict", _default_dictionary),
        (("builtins", "__builtin__"), "set", _set),
        (("builtins", "__builtin__"), "frozenset", _set),
        (("builtins", "__builtin__"), "complex", _complex),
        (("builtins", "__builtin__"), "getattr", _attribute),
        (("copyreg", "copy_reg"), "_reconstructor", _old_object),
    )
    for module in modules
}
