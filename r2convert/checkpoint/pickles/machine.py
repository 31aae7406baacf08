"""A pickle machine that describes what a pickle says and never does what it asks for.

It knows the opcodes of protocols 2 to 5, as Python 2 and 3 write them. A global is looked up by name when it is
named, before anything else happens: what torch, NumPy, Paddle and Python's own pickles need is built by our own
constructors, what is known to run code ends the reading, and anything else is kept as an opaque value that is
never looked into. Nothing is imported or called by a name from a file. Byte strings stay in the file: only their
place is recorded. All work is charged to the file's budget.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from typing import Final, NoReturn

from r2convert.checkpoint import limits
from r2convert.checkpoint.pickles.dangerous import is_dangerous
from r2convert.checkpoint.pickles.values import (
    Buildable,
    Constructor,
    KnownNames,
    Opaque,
    PickledBytes,
    PickledSet,
    PickledText,
    UnreadTensor,
    add_entry,
    describe_briefly,
)
from r2convert.checkpoint.storage import OpenFile
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)

_STOP: Final = ord(".")
#: Opcodes charged at a time.
_BLOCK: Final = 64
_DOUBLE: Final = struct.Struct(">d")
_SIGNED_INTEGER: Final = struct.Struct("<i")
#: No known callable has more arguments.
_ARGUMENTS: Final = 16
#: What things cost beside their opcodes: a dictionary or list, an object, a name that is new.
_CONTAINER: Final = 2
_OBJECT: Final = 4
_NAME: Final = 20


class PickleMachine:
    """Interprets one pickle.

    Args:
        data: where the pickle stands; afterwards its cursor is right after the STOP opcode.
        names: what is built or stands for itself, by module and name; everything else is opaque or dangerous.
        persistent: turns a persistent id into a value; ``None`` where the format has none.
    """

    def __init__(
        self, data: PickleBytes, names: KnownNames, persistent: Callable[[object], object] | None = None
    ) -> None:
        self._data = data
        self._names = names
        self._persistent = persistent
        self._charge = data.file.budget.charge
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._floor = 0  # how much of the stack lies below the last mark, out of reach
        self._memo: dict[int, object] = {}
        self._text_bytes = 0
        self._opaque: dict[tuple[str, str], str] = {}

    @property
    def opaque(self) -> tuple[str, ...]:
        """The dotted names met that are not looked into, in the order of their first mention."""
        return tuple(dict.fromkeys(self._opaque.values()))

    def load(self) -> object:
        """Interpret the pickle and return what it describes.

        Returns:
            Plain values, lists, tuples and dictionaries, the kinds of :mod:`r2convert.checkpoint.pickles.values`,
            and whatever constructors and ``persistent`` return. Plain containers form no cycles; their nesting is
            bounded.

        Raises:
            CheckpointError: with the file, the pickle and the byte it happened at.
        """
        data, stack = self._data, self._stack
        try:
            while True:
                self._charge(_BLOCK)
                # The hot loop of every reading: some 25 turns a tensor.
                for _ in range(_BLOCK):
                    opcode = data.opcode()
                    if opcode == _STOP:
                        return self._finish()
                    handler = _HANDLERS[opcode]
                    if handler is None:
                        self._reject_opcode(opcode)
                    handler(self)
                if len(stack) > limits.MAX_PICKLE_STACK:
                    raise LimitExceededError("the pickle piles up too many values")
        except CheckpointError as error:
            error.where = error.where or data.where(data.opcode_at)
            raise

    def _finish(self) -> object:
        if len(self._stack) != 1 or self._marks:
            raise CorruptCheckpointError("the pickle ends with values left over", got=f"{len(self._stack)} values")
        root = self._stack.pop()
        require_bounded_tree(root)
        return root

    def _reject_opcode(self, opcode: int) -> NoReturn:
        raise UnsupportedCheckpointError(
            "the pickle uses an opcode no checkpoint needs",
            got=f"opcode {opcode:#04x}",
            next_step="if this should be a checkpoint, download it again; do not load it with another program",
        )

    # -- the stack ---------------------------------------------------------------------------------------

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        if len(self._stack) <= self._floor:
            raise CorruptCheckpointError("the pickle takes a value from an empty stack")
        return self._stack.pop()

    def _top(self) -> object:
        if len(self._stack) <= self._floor:
            raise CorruptCheckpointError("the pickle takes a value from an empty stack")
        return self._stack[-1]

    def _pop_mark(self) -> list[object]:
        if not self._marks:
            raise CorruptCheckpointError("the pickle closes a group it never opened")
        start = self._marks.pop()
        self._floor = self._marks[-1] if self._marks else 0
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self) -> None:
        if len(self._marks) >= limits.MAX_PICKLE_MARKS:
            raise LimitExceededError("the pickle nests too deeply")
        self._floor = len(self._stack)
        self._marks.append(self._floor)

    # -- plain values ------------------------------------------------------------------------------------

    def _protocol(self) -> None:
        version = self._data.unsigned(1)
        if not 2 <= version <= 5:
            raise UnsupportedCheckpointError("this pickle protocol is not read", expected="2 to 5", got=str(version))

    def _frame(self) -> None:
        length = self._data.unsigned(8)
        if length > self._data.remaining:
            raise self._data.file.truncated(
                self._data.position, f"a pickle frame of {length} bytes", f"{self._data.remaining} bytes"
            )

    def _integer(self) -> None:
        self._push(_SIGNED_INTEGER.unpack(self._data.read(4))[0])

    def _long(self, width: int) -> None:
        length = self._data.unsigned(width)
        if length > limits.MAX_INTEGER_BYTES:
            raise LimitExceededError("the pickle holds an enormous number", got=f"{length} bytes")
        self._push(int.from_bytes(self._data.read(length), "little", signed=True))

    def _float(self) -> None:
        self._push(_DOUBLE.unpack(self._data.read(8))[0])

    def _text(self, width: int) -> None:
        length = self._data.unsigned(width)
        if length > limits.MAX_TEXT_BYTES:
            self._push(PickledBytes(self._data.skip(length), length, is_text=True))
            return
        text = self._short_text(length)
        if text is None:
            raise CorruptCheckpointError("a text in the pickle is not UTF-8")
        self._push(text)

    def _old_string(self, width: int) -> None:
        """Python 2's ``str``: text where it is used as a name, bytes where it is data."""
        length = self._data.unsigned(width)
        if length > limits.MAX_TEXT_BYTES:
            self._push(PickledBytes(self._data.skip(length), length))
            return
        start = self._data.position
        text = self._short_text(length)
        self._push(PickledBytes(start, length) if text is None else text)

    def _short_text(self, length: int) -> PickledText | None:
        start = self._data.position
        self._text_bytes += length
        self._charge(2)
        if self._text_bytes > limits.MAX_TOTAL_TEXT_BYTES:
            raise LimitExceededError("the pickle holds too much text", expected=f"{limits.MAX_TOTAL_TEXT_BYTES} bytes")
        try:
            text = PickledText(self._data.read(length), "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None
        text.offset, text.length = start, length
        return text

    def _bytes(self, width: int) -> None:
        length = self._data.unsigned(width)
        self._push(PickledBytes(self._data.skip(length), length))

    # -- containers --------------------------------------------------------------------------------------

    def _empty(self, made: type[dict[object, object]] | type[list[object]]) -> None:
        self._charge(_CONTAINER)
        self._stack.append(made())

    def _tuple_of(self, count: int) -> None:
        first = len(self._stack) - count
        if first < self._floor:
            raise CorruptCheckpointError("the pickle takes a value from an empty stack")
        self._stack[first:] = [tuple(self._stack[first:])]

    def _append(self) -> None:
        value = self._pop()
        self._list_on_top().append(value)

    def _appends(self) -> None:
        items = self._pop_mark()
        self._list_on_top().extend(items)

    def _list_on_top(self) -> list[object]:
        target = self._top()
        if isinstance(target, Opaque):
            return target.items
        if not isinstance(target, list):
            raise CorruptCheckpointError(
                "the pickle appends to something that is no list", got=describe_briefly(target)
            )
        return target

    def _add_items(self) -> None:
        items = self._pop_mark()
        target = self._top()
        if not isinstance(target, (PickledSet, Opaque)):
            raise CorruptCheckpointError("the pickle adds to something that is no set", got=describe_briefly(target))
        (target if isinstance(target, PickledSet) else target.items).extend(items)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        add_entry(self._dictionary_on_top(), key, value)

    def _set_items(self) -> None:
        items = self._pop_mark()
        target = self._dictionary_on_top()
        if len(items) % 2:
            raise CorruptCheckpointError("the pickle has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            add_entry(target, key, value)

    def _dictionary_on_top(self) -> dict[object, object]:
        target = self._top()
        if isinstance(target, Opaque):
            return target.entries
        if not isinstance(target, dict):
            raise CorruptCheckpointError(
                "the pickle sets an entry of something that is not a dictionary", got=describe_briefly(target)
            )
        return target

    # -- the memo ----------------------------------------------------------------------------------------

    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise CorruptCheckpointError("the pickle recalls a value it never stored", got=f"memo {index}")
        self._stack.append(self._memo[index])

    # -- names and calls ---------------------------------------------------------------------------------

    def _global(self) -> None:
        module, name = self._data.line(limits.METADATA_TEXT), self._data.line(limits.METADATA_TEXT)
        self._push(self._look_up(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise CorruptCheckpointError("the pickle names a global by something that is not text")
        self._push(self._look_up(str(module), str(name)))

    def _look_up(self, module: str, name: str) -> object:
        known = self._names.get((module, name))
        if known is not None:
            return known
        full = self._opaque.get((module, name))
        if full is not None:
            return self._object(full)
        full = ascii(f"{module}.{name}"[: limits.METADATA_TEXT])[1:-1]
        if is_dangerous(module, name):
            raise UnsafeCheckpointError(
                f"the pickle asks for {full}, which runs code or reaches outside the file when it is called",
                expected="tensors, plain values and objects of harmless classes",
                got=full,
                next_step="do not load this file with another program; get it from its publisher, "
                "or save only the state dict from the program that wrote it",
            )
        self._charge(_NAME)
        self._opaque[module, name] = full
        return self._object(full)

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if isinstance(function, Constructor) and isinstance(arguments, tuple):
            self._charge(_weight(arguments))
            self._push(function.build(arguments))
        elif isinstance(function, Opaque):
            self._push(self._object(function.name, arguments))
        else:
            raise CorruptCheckpointError(
                "the pickle calls something that cannot be called", got=describe_briefly(function)
            )

    def _new_object_with_keywords(self) -> None:
        keywords, arguments, made = self._pop(), self._pop(), self._pop()
        if not isinstance(made, Opaque):
            raise CorruptCheckpointError("the pickle makes an object of no class", got=describe_briefly(made))
        self._push(self._object(made.name, (arguments, keywords)))

    def _object(self, name: str, arguments: object = None) -> Opaque:
        self._charge(_OBJECT)
        return Opaque(name, arguments)

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Buildable):
            self._charge(_weight(state))
            target.build(state)
        elif isinstance(target, Opaque):
            target.state = state
        elif not (isinstance(target, UnreadTensor) or (isinstance(target, dict) and isinstance(state, dict))):
            # A dictionary's own attributes (torch's `_metadata`) say nothing about tensors; nothing else has any.
            raise CorruptCheckpointError(
                "the pickle sets the inner state of a value that has none", got=describe_briefly(target)
            )

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise CorruptCheckpointError("the pickle refers to something outside itself")
        self._push(self._persistent(self._pop()))


_BY_OPCODE: Final[dict[int, Callable[[PickleMachine], object]]] = {
    0x80: PickleMachine._protocol,
    0x95: PickleMachine._frame,
    ord("("): PickleMachine._mark,
    ord("N"): lambda machine: machine._stack.append(None),
    0x88: lambda machine: machine._stack.append(True),
    0x89: lambda machine: machine._stack.append(False),
    ord("J"): PickleMachine._integer,
    ord("K"): lambda machine: machine._stack.append(machine._data.byte()),
    ord("M"): lambda machine: machine._stack.append(machine._data.unsigned(2)),
    0x8A: lambda machine: machine._long(1),
    0x8B: lambda machine: machine._long(4),
    ord("G"): PickleMachine._float,
    0x8C: lambda machine: machine._text(1),
    ord("X"): lambda machine: machine._text(4),
    0x8D: lambda machine: machine._text(8),
    ord("U"): lambda machine: machine._old_string(1),
    ord("T"): lambda machine: machine._old_string(4),
    ord("C"): lambda machine: machine._bytes(1),
    ord("B"): lambda machine: machine._bytes(4),
    0x8E: lambda machine: machine._bytes(8),
    0x96: lambda machine: machine._bytes(8),
    ord("}"): lambda machine: machine._empty(dict),
    ord("]"): lambda machine: machine._empty(list),
    0x8F: lambda machine: machine._empty(PickledSet),
    0x90: PickleMachine._add_items,
    0x91: lambda machine: machine._stack.append(PickledSet(machine._pop_mark())),
    ord("0"): PickleMachine._pop,
    ord("1"): PickleMachine._pop_mark,
    ord(")"): lambda machine: machine._stack.append(()),
    0x85: lambda machine: machine._tuple_of(1),
    0x86: lambda machine: machine._tuple_of(2),
    0x87: lambda machine: machine._tuple_of(3),
    ord("t"): lambda machine: machine._stack.append(tuple(machine._pop_mark())),
    ord("a"): PickleMachine._append,
    ord("e"): PickleMachine._appends,
    ord("s"): PickleMachine._set_item,
    ord("u"): PickleMachine._set_items,
    ord("q"): lambda machine: machine._put(machine._data.byte()),
    ord("r"): lambda machine: machine._put(machine._data.unsigned(4)),
    0x94: PickleMachine._memoize,
    ord("h"): lambda machine: machine._get(machine._data.byte()),
    ord("j"): lambda machine: machine._get(machine._data.unsigned(4)),
    ord("c"): PickleMachine._global,
    0x93: PickleMachine._stack_global,
    ord("R"): PickleMachine._reduce,
    0x81: PickleMachine._reduce,
    0x92: PickleMachine._new_object_with_keywords,
    ord("b"): PickleMachine._build,
    ord("Q"): PickleMachine._persistent_id,
}

#: Opcode -> handler; ``None`` for what only protocols 0 and 1, extension registries and shared memory need.
_HANDLERS: Final = tuple(_BY_OPCODE.get(opcode) for opcode in range(256))


def _weight(value: object) -> int:
    """What a constructor that copies its arguments may cost, at most."""
    if not isinstance(value, (list, tuple)):
        return 1
    weight = len(value)
    for inner in value[:_ARGUMENTS]:
        if isinstance(inner, (list, tuple, dict)):
            weight += len(inner)
    return 2 * weight


class PickleBytes:
    """Sequential reads from a stretch of a file; large payloads are skipped, not read.

    Args:
        file: the file.
        start: first byte of the stretch.
        end: the byte after its last one.
        label: what messages call it ("data.pkl", "the pickle stream").
    """

    def __init__(self, file: OpenFile, start: int, end: int, label: str) -> None:
        self.file = file
        self.label = label
        self._end = min(end, file.size)
        self._window = b""
        self._window_start = start
        self._cursor = 0
        self.opcode_at = start

    @property
    def position(self) -> int:
        """Offset in the file of the next byte."""
        return self._window_start + self._cursor

    @property
    def remaining(self) -> int:
        """Bytes left in the stretch."""
        return self._end - self.position

    def where(self, position: int | None = None) -> str:
        """Describe a place in the stretch for a message."""
        return f"{self.file.path}, {self.label}, byte {self.position if position is None else position}"

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes (the caller has checked the count against its cap).

        Raises:
            TruncatedCheckpointError: the stretch ends before.
        """
        cursor = self._cursor
        if cursor + count > len(self._window):
            self._refill(count)
            cursor = 0
        self._cursor = cursor + count
        return self._window[cursor : cursor + count]

    def byte(self) -> int:
        """Return the next byte as a number; raises as :meth:`read` does."""
        cursor = self._cursor
        if cursor >= len(self._window):
            self._refill(1)
            cursor = 0
        self._cursor = cursor + 1
        return self._window[cursor]

    def opcode(self) -> int:
        """Return the next byte as :meth:`byte` does, and keep its offset in the file in ``opcode_at``."""
        cursor = self._cursor
        self.opcode_at = self._window_start + cursor
        if cursor >= len(self._window):
            self._refill(1)
            cursor = 0
        self._cursor = cursor + 1
        return self._window[cursor]

    def unsigned(self, width: int) -> int:
        """Return the next ``width`` bytes as a little-endian unsigned number; raises as :meth:`read` does."""
        return self.byte() if width == 1 else int.from_bytes(self.read(width), "little")

    def line(self, cap: int) -> str:
        """Return the text up to the next line feed, and pass over that.

        Raises:
            TruncatedCheckpointError: the stretch ends before.
            LimitExceededError: the line has more than ``cap`` bytes.
        """
        if len(self._window) - self._cursor <= cap:
            self._refill(min(cap + 1, self.remaining))
        end = self._window.find(b"\n", self._cursor, self._cursor + cap + 1)
        if end < 0:
            if self.remaining <= cap:
                raise self._truncated(self.remaining + 1)
            raise LimitExceededError("the pickle names a global with an enormous name", where=self.where())
        line = self._window[self._cursor : end]
        self._cursor = end + 1
        return line.decode("utf-8", "replace")

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes and return the offset in the file they start at.

        Raises:
            TruncatedCheckpointError: the stretch ends before.
        """
        start = self.position
        if count > self.remaining:
            raise self._truncated(count)
        if self._cursor + count <= len(self._window):
            self._cursor += count
        else:
            self._window, self._window_start, self._cursor = b"", start + count, 0
        return start

    def _refill(self, count: int) -> None:
        position = self.position
        if count > self._end - position:
            raise self._truncated(count)
        length = min(max(count, limits.CHUNK_BYTES), self._end - position)
        self._window = self.file.read(position, length, self.label)
        self._window_start, self._cursor = position, 0

    def _truncated(self, count: int) -> Exception:
        return self.file.truncated(
            self.position, f"{count} more bytes of {self.label}", f"{self.remaining} bytes before its end"
        )


def require_bounded_tree(root: object) -> None:
    """Check that plain containers neither contain themselves nor nest too deeply.

    Each container is visited once however often it is shared, so the time is linear in the pickle's size.

    Raises:
        CorruptCheckpointError: a container contains itself.
        LimitExceededError: the nesting is deeper than the cap.
    """
    depths: dict[int, int] = {}
    entered: set[int] = set()
    pending: list[tuple[object, bool]] = [(root, False)]
    while pending:
        value, leaving = pending.pop()
        if id(value) in depths:
            continue
        children = _children(value)
        if leaving:
            depths[id(value)] = depth = 1 + max((depths.get(id(child), 0) for child in children), default=0)
            _require_at_most(depth)
            entered.discard(id(value))
            continue
        if id(value) in entered:
            raise CorruptCheckpointError("a container in the pickle contains itself")
        entered.add(id(value))
        _require_at_most(len(entered))  # the way down is long enough to know, without going all of it
        pending.append((value, True))
        pending.extend((child, False) for child in children if isinstance(child, (dict, list, tuple)))


def _require_at_most(depth: int) -> None:
    if depth > limits.MAX_NESTING:
        raise LimitExceededError("the pickle nests too deeply", expected=f"at most {limits.MAX_NESTING} levels")


def _children(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()
