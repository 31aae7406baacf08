"""A pickle machine that describes what a pickle says and never does what it asks for.

It knows the opcodes torch, NumPy and Paddle write (protocols 2 to 4, Python 2 and 3) and no others. A global
is looked up in the format's allowlist when it is named, before anything else happens; what is not there ends
the reading. Byte strings stay in the file: only their place is recorded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NoReturn

from r2convert.checkpoint import limits
from r2convert.checkpoint.pickles.nesting import require_bounded_tree
from r2convert.checkpoint.pickles.pickle_bytes import PickleBytes
from r2convert.checkpoint.pickles.pickle_values import (
    Allowlist,
    Buildable,
    Constructor,
    PickledBytes,
    PickledText,
    add_entry,
    describe_briefly,
)
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)

_MARK: Final = object()
_STOP: Final = ord(".")
_DOUBLE: Final = struct.Struct(">d")
_SIGNED_INTEGER: Final = struct.Struct("<i")


class PickleMachine:
    """Interprets one pickle.

    Args:
        data: where the pickle stands; afterwards its cursor is right behind the STOP opcode.
        allowlist: what the pickle may name.
        persistent: turns a persistent id into a value; ``None`` where the format has none.
    """

    def __init__(
        self, data: PickleBytes, allowlist: Allowlist, persistent: Callable[[object], object] | None = None
    ) -> None:
        self._data = data
        self._allowlist = allowlist
        self._persistent = persistent
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._text_bytes = 0

    def load(self) -> object:
        """Interpret the pickle and return what it describes.

        Returns:
            Plain values, lists, tuples and dictionaries, :class:`PickledText` and :class:`PickledBytes`, and
            whatever the allowlist's constructors and ``persistent`` return. No cycles; nesting is bounded.

        Raises:
            CheckpointError: with the file, the pickle and the byte it happened at.
        """
        data, stack = self._data, self._stack
        opcode_at = data.position
        try:
            # The hot loop of every reading: some 25 turns a tensor.
            for _ in range(limits.MAX_PICKLE_OPCODES):
                opcode_at = data.position
                opcode = data.byte()
                if opcode == _STOP:
                    return self._finish()
                handler = _HANDLERS[opcode]
                if handler is None:
                    self._reject_opcode(opcode)
                handler(self)
                if len(stack) > limits.MAX_PICKLE_STACK:
                    raise LimitExceededError("The pickle piles up too many values")
        except CheckpointError as error:
            error.where = error.where or self._data.where(opcode_at)
            raise
        raise LimitExceededError(
            "The pickle has too many opcodes",
            where=self._data.where(),
            expected=f"at most {limits.MAX_PICKLE_OPCODES}",
        )

    def _finish(self) -> object:
        if len(self._stack) != 1 or self._marks:
            raise CorruptCheckpointError("The pickle ends with values left over", got=f"{len(self._stack)} values")
        root = self._stack.pop()
        require_bounded_tree(root)
        return root

    def _reject_opcode(self, opcode: int) -> NoReturn:
        raise UnsupportedCheckpointError(
            "The pickle uses an opcode no checkpoint needs",
            got=f"opcode {opcode:#04x}",
            next_step="If this should be a checkpoint, download it again; do not load it with another program.",
        )

    # -- the stack ---------------------------------------------------------------------------------------

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) <= floor:
            raise CorruptCheckpointError("The pickle takes a value from an empty stack")
        return self._stack.pop()

    def _top(self) -> object:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) <= floor:
            raise CorruptCheckpointError("The pickle takes a value from an empty stack")
        return self._stack[-1]

    def _pop_mark(self) -> list[object]:
        if not self._marks:
            raise CorruptCheckpointError("The pickle closes a group it never opened")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self) -> None:
        if len(self._marks) >= limits.MAX_PICKLE_MARKS:
            raise LimitExceededError("The pickle nests too deeply")
        self._marks.append(len(self._stack))

    # -- plain values ------------------------------------------------------------------------------------

    def _protocol(self) -> None:
        version = self._data.unsigned(1)
        if not 2 <= version <= 4:
            raise UnsupportedCheckpointError("This pickle protocol is not read", expected="2 to 4", got=str(version))

    def _frame(self) -> None:
        length = self._data.unsigned(8)
        if length > self._data.remaining:
            raise self._data.source.truncated(
                self._data.position, f"a pickle frame of {length} bytes", f"{self._data.remaining} bytes"
            )

    def _integer(self) -> None:
        self._push(_SIGNED_INTEGER.unpack(self._data.read(4))[0])

    def _long(self, width: int) -> None:
        length = self._data.unsigned(width)
        if length > limits.MAX_INTEGER_BYTES:
            raise LimitExceededError("The pickle holds an enormous number", got=f"{length} bytes")
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
            raise CorruptCheckpointError("A text in the pickle is not UTF-8")
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
        if self._text_bytes > limits.MAX_TOTAL_TEXT_BYTES:
            raise LimitExceededError("The pickle holds too much text", expected=f"{limits.MAX_TOTAL_TEXT_BYTES} bytes")
        try:
            text = PickledText(self._data.read(length), "utf-8")
        except UnicodeDecodeError:
            return None
        text.offset, text.length = start, length
        return text

    def _bytes(self, width: int) -> None:
        length = self._data.unsigned(width)
        self._push(PickledBytes(self._data.skip(length), length))

    # -- containers --------------------------------------------------------------------------------------

    def _tuple_of(self, count: int) -> None:
        first = len(self._stack) - count
        if first < (self._marks[-1] if self._marks else 0):
            raise CorruptCheckpointError("The pickle takes a value from an empty stack")
        self._stack[first:] = [tuple(self._stack[first:])]

    def _append(self) -> None:
        value = self._pop()
        self._list_on_top().append(value)

    def _appends(self) -> None:
        items = self._pop_mark()
        self._list_on_top().extend(items)

    def _list_on_top(self) -> list[object]:
        target = self._top()
        if not isinstance(target, list):
            raise CorruptCheckpointError(
                "The pickle appends to something that is no list", got=describe_briefly(target)
            )
        return target

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        add_entry(self._dictionary_on_top(), key, value)

    def _set_items(self) -> None:
        items = self._pop_mark()
        target = self._dictionary_on_top()
        if len(items) % 2:
            raise CorruptCheckpointError("The pickle has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            add_entry(target, key, value)

    def _dictionary_on_top(self) -> dict[object, object]:
        target = self._top()
        if not isinstance(target, dict):
            raise CorruptCheckpointError(
                "The pickle sets an entry of something that is no dictionary", got=describe_briefly(target)
            )
        return target

    # -- the memo ----------------------------------------------------------------------------------------

    def _put(self, width: int) -> None:
        self._memo[self._data.unsigned(width)] = self._top()

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, width: int) -> None:
        index = self._data.unsigned(width)
        if index not in self._memo:
            raise CorruptCheckpointError("The pickle recalls a value it never stored", got=f"memo {index}")
        self._stack.append(self._memo[index])

    # -- names and calls ---------------------------------------------------------------------------------

    def _global(self) -> None:
        module, name = self._data.line(limits.METADATA_TEXT), self._data.line(limits.METADATA_TEXT)
        self._push(self._look_up(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise CorruptCheckpointError("The pickle names a global by something that is no text")
        self._push(self._look_up(str(module), str(name)))

    def _look_up(self, module: str, name: str) -> object:
        try:
            return self._allowlist[module, name]
        except KeyError:
            raise UnsafeCheckpointError(
                f"The pickle asks for {ascii(f'{module}.{name}')[1:-1]}, which no state dict needs",
                expected="tensors, numbers, texts, lists and dictionaries",
                got=f"{ascii(module)[1:-1]}.{ascii(name)[1:-1]}",
                next_step="Do not load this file with another program: it may run code. Get it from its publisher, "
                "or save only the state dict from the program that wrote it.",
            ) from None

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Constructor) or not isinstance(arguments, tuple):
            raise UnsafeCheckpointError(
                "The pickle calls something that is no known constructor", got=describe_briefly(function)
            )
        self._push(function.build(arguments))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Buildable):
            target.build(state)
        elif not (isinstance(target, dict) and isinstance(state, dict)):
            # A dictionary's own attributes (torch's `_metadata`) say nothing about tensors; nothing else has any.
            raise UnsafeCheckpointError(
                "The pickle sets the inner state of a value that has none", got=describe_briefly(target)
            )

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise UnsafeCheckpointError("The pickle refers to something outside itself")
        self._push(self._persistent(self._pop()))


_BY_OPCODE: Final[dict[int, Callable[[PickleMachine], None]]] = {
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
    ord("}"): lambda machine: machine._stack.append({}),
    ord("]"): lambda machine: machine._stack.append([]),
    ord(")"): lambda machine: machine._stack.append(()),
    0x85: lambda machine: machine._tuple_of(1),
    0x86: lambda machine: machine._tuple_of(2),
    0x87: lambda machine: machine._tuple_of(3),
    ord("t"): lambda machine: machine._stack.append(tuple(machine._pop_mark())),
    ord("a"): PickleMachine._append,
    ord("e"): PickleMachine._appends,
    ord("s"): PickleMachine._set_item,
    ord("u"): PickleMachine._set_items,
    ord("q"): lambda machine: machine._put(1),
    ord("r"): lambda machine: machine._put(4),
    0x94: PickleMachine._memoize,
    ord("h"): lambda machine: machine._get(1),
    ord("j"): lambda machine: machine._get(4),
    ord("c"): PickleMachine._global,
    0x93: PickleMachine._stack_global,
    ord("R"): PickleMachine._reduce,
    ord("b"): PickleMachine._build,
    ord("Q"): PickleMachine._persistent_id,
}

#: Opcode -> handler; ``None`` where no checkpoint needs it.
_HANDLERS: Final = tuple(_BY_OPCODE.get(opcode) for opcode in range(256))
