"""Bad pickles, in the container that carries them: what they name, call, nest and repeat."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from r2convert.checkpoint.pickles.pickle_output import global_name, integer, text
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from r2convert.selftest.bad_file import BadFile
from r2convert.selftest.specimens import dictionary, pdparams, pickled, storage_id, tensor, torch_legacy, torch_zip

#: Globals a checkpoint has no business with: they run code, allocate, or open further doors.
_FORBIDDEN: Final = (
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("__builtin__", "eval"),
    ("builtins", "getattr"),
    ("builtins", "bytearray"),
    ("torch", "FloatTensor"),
    ("torch", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.testing._private.utils", "runstring"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("importlib", "import_module"),
    ("webbrowser", "open"),
    ("runpy", "_run_code"),
    ("pip", "main"),
)


def bad_pickles() -> tuple[BadFile, ...]:
    """Return the pickle part of the catalogue."""
    corrupt, limit = CorruptCheckpointError, LimitExceededError
    calls = tuple(
        _bad(f"a call of {module}.{name}", UnsafeCheckpointError, _calling(module, name)) for module, name in _FORBIDDEN
    )
    return (
        *calls,
        _bad("a global named by two texts on the stack", UnsafeCheckpointError, _stack_global),
        _bad("a call of a tensor", UnsafeCheckpointError, lambda: _around(tensor(storage_id("0", 12)) + b")R")),
        _bad("a bytearray of 3 GB", UnsafeCheckpointError, _huge_bytearray),
        _bad("an object made by its class", UnsupportedCheckpointError, lambda: _around(b")\x81")),
        _bad("an object of another module by opcode", UnsupportedCheckpointError, lambda: _around(b"(ios\nsystem\n")),
        _bad("a list at the root", UnsupportedCheckpointError, lambda: torch_zip(pickled(b"]"), {})),
        _bad("a single tensor at the root", UnsupportedCheckpointError, _single_tensor),
        _bad("no tensors", UnsupportedCheckpointError, lambda: torch_zip(pickled(dictionary([("a", integer(1))])), {})),
        _bad("200,000 nested tuples", limit, lambda: _around(b")" + b"\x85" * 200_000)),
        _bad("300,000 values on the stack", limit, lambda: _around(b"(" + b"N" * 300_000 + b"t")),
        _bad("2,000 open groups", limit, lambda: _around(b"(" * 2_000)),
        _bad("1 million opcodes", limit, lambda: _around(b"N" + b"q\x00" * 1_000_000)),
        _bad("a number of 4 billion bytes", limit, lambda: _around(b"\x8b" + struct.pack("<I", 0xFFFFFFFF))),
        _bad("a dictionary that contains itself", corrupt, lambda: _around(b"}q\x09" + text("a") + b"h\x09s")),
        _bad("a list that contains itself", corrupt, lambda: _around(b"]q\x09h\x09a")),
        _bad("the same key twice", corrupt, _same_key_twice),
        _bad("a key that is a tuple", corrupt, lambda: torch_zip(pickled(b"})Ns"), {})),
        _bad("a name with a control character", corrupt, lambda: _named("conv\x1b[2J.weight")),
        _bad("an empty name", corrupt, lambda: _named("")),
        _bad("an entry of something that is no dictionary", corrupt, lambda: _around(b"]" + text("a") + b"Ns")),
        _bad("a value from an empty stack", corrupt, lambda: torch_zip(b"\x80\x02."), suffix=".pth"),
        _bad("a memo entry that was never stored", corrupt, lambda: _around(b"h\x63")),
        _bad("values left over", corrupt, lambda: torch_zip(b"\x80\x02NN.", {})),
        _bad("eval of code instead of Paddle's own call", UnsafeCheckpointError, _evaluation, suffix=".pdparams"),
        _bad("the inner state of a constructor", UnsafeCheckpointError, _built_constructor),
        _bad("protocol 5", UnsupportedCheckpointError, lambda: torch_zip(b"\x80\x05}.", {})),
        _bad("two state dicts and no choice", UnsupportedCheckpointError, _two_state_dicts),
    )


def _bad(name: str, expected: type[CheckpointError], make: Callable[[], bytes], *, suffix: str = ".pth") -> BadFile:
    return BadFile(f"pickle: {name}", suffix, expected, make)


def _calling(module: str, name: str) -> Callable[[], bytes]:
    """Call a global the way exploits do, in the legacy container; its argument would be harmless."""

    def make() -> bytes:
        call = global_name(module, name) + b"(" + text("true") + b"tR"
        return torch_legacy(pickled(dictionary([("conv.weight", call)])), [], [])

    return make


def _around(value: bytes) -> bytes:
    """Put a pickled value beside a sound tensor in a torch zip."""
    entries = [("other", value), ("conv.weight", tensor(storage_id("0", 12)))]
    return torch_zip(pickled(dictionary(entries)))


def _stack_global() -> bytes:
    return torch_zip(b"\x80\x04" + text("os") + text("system") + b"\x93(" + text("true") + b"tR.", {})


def _huge_bytearray() -> bytes:
    return _around(global_name("builtins", "bytearray") + b"(" + integer(3_000_000_000) + b"tR")


def _single_tensor() -> bytes:
    return torch_zip(pickled(tensor(storage_id("0", 12))))


def _same_key_twice() -> bytes:
    described = tensor(storage_id("0", 12))
    return torch_zip(pickled(dictionary([("conv.weight", described), ("conv.weight", described)])))


def _named(name: str) -> bytes:
    return torch_zip(pickled(dictionary([(name, tensor(storage_id("0", 12)))])))


def _evaluation() -> bytes:
    call = global_name("builtins", "eval") + text("print(1)") + dictionary([("data", integer(1))]) + b"\x86R"
    return pdparams([("conv.weight", call)])


def _built_constructor() -> bytes:
    return _around(global_name("collections", "OrderedDict") + b"}b")


def _two_state_dicts() -> bytes:
    inner = dictionary([("conv.weight", tensor(storage_id("0", 12)))])
    return torch_zip(pickled(dictionary([("state_dict", inner), ("model", inner)])))
