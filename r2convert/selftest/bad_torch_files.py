"""Bad torch files: archives, pickles and storages that contradict themselves or each other."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from r2convert.checkpoint.pickles.pickle_output import global_name, integer, text
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from r2convert.selftest.specimens import (
    COUNT,
    FLOATS,
    dictionary,
    pdparams,
    pickled,
    sound_state_dict,
    storage_id,
    tar,
    tensor,
    torch_hub_zip,
    torch_legacy,
    torch_tar_members,
    torch_zip,
)
from r2convert.selftest.trial import BadFile

_LOCAL_MARK: Final = b"PK\x03\x04"
_CENTRAL_MARK: Final = b"PK\x01\x02"
_BOMB_BYTES: Final = 30_000_000


def bad_files_by_torch() -> tuple[BadFile, ...]:
    """Return the part of the catalogue that torch 2.13 wrote (`scripts/make_corpus.py`)."""
    unsafe, unsupported = UnsafeCheckpointError, UnsupportedCheckpointError
    return tuple(
        BadFile(f"by torch: {what}", ".pth", expected, partial(_by_torch, name))
        for what, expected, name in (
            ("os.system beside a tensor", unsafe, "os_system.pth"),
            ("eval in the legacy format", unsafe, "eval_legacy.pth"),
            ("complex numbers alone", unsupported, "complex.pth"),
            ("a sparse tensor alone", unsupported, "sparse.pth"),
            ("a tensor without a name", unsupported, "single_tensor.pth"),
            ("a list", unsupported, "list.pth"),
            ("student and teacher", unsupported, "two.pth"),
            ("a torch.package archive", unsupported, "package.pt"),
            ("an archive that is cut off", TruncatedCheckpointError, "cut.pth"),
        )
    )


def _by_torch(name: str) -> bytes:
    return (Path(__file__).parent / "data" / name).read_bytes()


def bad_zip_files() -> tuple[BadFile, ...]:
    """Return the zip part of the catalogue."""
    corrupt, unsupported = CorruptCheckpointError, UnsupportedCheckpointError
    return (
        _zip("a flipped bit in a tensor's record", corrupt, _flipped_data),
        _zip("a flipped bit in the pickle", corrupt, _flipped_pickle),
        _zip("compressed records", unsupported, lambda: torch_zip(compression=zipfile.ZIP_DEFLATED)),
        _zip("30 MB of zeros in 30 KB", unsupported, _bomb),
        _zip("more elements declared than the record holds", corrupt, lambda: _one_tensor(13)),
        _zip("fewer elements declared than the record holds", corrupt, lambda: _one_tensor(11, (11,), (1,))),
        _zip("the same data record twice", corrupt, lambda: torch_zip(more=[("data/0", FLOATS)])),
        _zip("two pickles", corrupt, lambda: torch_zip(more=[("data.pkl", sound_state_dict())])),
        _zip("a local header with another name", corrupt, _renamed_locally),
        _zip("a local header with another size", corrupt, lambda: _patched(_LOCAL_MARK, 22, b"\x01\0\0\0")),
        _zip("a forged byte order", unsupported, lambda: torch_zip(byteorder=b"big")),
        _zip("a storage key that is a path", corrupt, lambda: _one_tensor(12, key="../../x")),
        _zip("a record name that is a path", UnsafeCheckpointError, lambda: torch_zip(more=[("../../x", b"x")])),
        _zip("a storage key without a record", corrupt, lambda: _one_tensor(12, key="7")),
        _zip("stride 0 and 10^12 elements", LimitExceededError, lambda: _one_tensor(12, (10**12,), (0,))),
        _zip("an extent beyond the storage", corrupt, lambda: _one_tensor(12, (3, 4), (5, 1))),
        _zip("an offset beyond the storage", corrupt, lambda: _one_tensor(12, offset=integer(1))),
        _zip("a negative offset", corrupt, lambda: _one_tensor(12, (2,), (1,), offset=b"J" + struct.pack("<i", -1))),
        _zip("one storage declared with two lengths", corrupt, _contradicting_storages),
        _zip("bytes after the archive", corrupt, lambda: torch_zip() + b"x"),
        _zip("bytes before the archive", corrupt, lambda: b"x" + torch_zip()),
        _zip("a comment after the archive", corrupt, _commented),
        _zip("a truncated archive", TruncatedCheckpointError, lambda: torch_zip()[:-30]),
        _zip("an encrypted record", unsupported, _encrypted),
        _zip("a 64-bit size that is missing", corrupt, lambda: _patched(_CENTRAL_MARK, 20, b"\xff" * 8)),
        _zip("records that overlap", corrupt, _overlapping),
        _zip("a hole between records", corrupt, _hole),
        _zip("two folders", corrupt, _two_folders),
        _zip("a TorchScript program", unsupported, lambda: torch_zip(more=[("constants.pkl", b"\x80\x02).")])),
        _zip("bytes after the pickle", corrupt, lambda: torch_zip(sound_state_dict() + b"x")),
        _zip("a zip archive of something else", unsupported, lambda: torch_hub_zip(b"a text")),
        _zip("a compressed torch.hub zip", unsupported, lambda: torch_hub_zip(compression=zipfile.ZIP_DEFLATED)),
        _zip("a torch.hub zip with a flipped bit", corrupt, _flipped_hub_zip),
    )


def _zip(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"zip: {name}", ".pth", expected, make)


def _flipped(data: bytes, at: int) -> bytes:
    """Flip the lowest bit of one byte."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _flipped_data() -> bytes:
    data = torch_zip()
    return _flipped(data, data.index(FLOATS) + 5)


def _flipped_pickle() -> bytes:
    data = torch_zip()
    return _flipped(data, data.index(b"conv.weight"))


def _flipped_hub_zip() -> bytes:
    data = torch_hub_zip()
    return _flipped(data, data.index(FLOATS) + 5)


def _bomb() -> bytes:
    return torch_zip(data={"0": bytes(_BOMB_BYTES), "1": COUNT}, compression=zipfile.ZIP_DEFLATED)


def _one_tensor(
    elements: int,
    shape: tuple[int, ...] = (3, 4),
    strides: tuple[int, ...] = (4, 1),
    *,
    key: str = "0",
    offset: bytes | None = None,
) -> bytes:
    """Make a checkpoint of one tensor whose storage really has twelve elements, under key 0."""
    described = tensor(storage_id(key, elements), shape, strides, offset)
    return torch_zip(pickled(dictionary([("conv.weight", described)])), {"0": FLOATS})


def _contradicting_storages() -> bytes:
    first, second = tensor(storage_id("0", 12)), tensor(storage_id("0", 6, "DoubleStorage"), (6,), (1,))
    return torch_zip(pickled(dictionary([("a", first), ("b", second)])), {"0": FLOATS})


def _patched(mark: bytes, at: int, replacement: bytes, *, occurrence: int = 1) -> bytes:
    """Overwrite bytes of a record's header: of the pickle's, or by ``occurrence`` a later one's."""
    data = torch_zip()
    header = -1
    for _ in range(occurrence):
        header = data.index(mark, header + 1)
    return data[: header + at] + replacement + data[header + at + len(replacement) :]


def _renamed_locally() -> bytes:
    data = torch_zip()
    at = data.index(b"archive/data/0")
    return data[:at] + b"archive/data/1" + data[at + 14 :]


def _encrypted() -> bytes:
    local, central = struct.pack("<H", 1), struct.pack("<H", 1)
    data = _patched(_LOCAL_MARK, 6, local)
    header = data.index(_CENTRAL_MARK)
    return data[: header + 8] + central + data[header + 10 :]


def _overlapping() -> bytes:
    """Point the directory's second record at the first one's header."""
    return _patched(_CENTRAL_MARK, 42, struct.pack("<I", 0), occurrence=2)


def _hole() -> bytes:
    """Leave bytes between the last record and the directory, and let the end of the directory know."""
    data = torch_zip()
    start, end = data.index(_CENTRAL_MARK), len(data) - 22
    moved = data[: end + 16] + struct.pack("<I", start + 4) + data[end + 20 :]
    return moved[:start] + b"hole" + moved[start:]


def _commented() -> bytes:
    file = io.BytesIO(torch_zip())
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"a comment"
    return file.getvalue()


def _two_folders() -> bytes:
    file = io.BytesIO(torch_zip())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("other/data/2", b"x")
    return file.getvalue()


#: Globals a checkpoint has no business with: they run code or open further doors.
_FORBIDDEN: Final = (
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("__builtin__", "eval"),
    ("builtins", "getattr"),
    ("torch", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("numpy.testing._private.utils", "runstring"),
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
        _pickle(f"a call of {module}.{name}", UnsafeCheckpointError, _calling(module, name))
        for module, name in _FORBIDDEN
    )
    return (
        *calls,
        _pickle("a global named by two texts on the stack", UnsafeCheckpointError, _stack_global),
        _pickle("an attribute of a module that is another module", UnsafeCheckpointError, lambda: _attribute("os")),
        _pickle("an attribute that loads files", UnsafeCheckpointError, lambda: _attribute("load")),
        _pickle("a call of a tensor", corrupt, lambda: _around(tensor(storage_id("0", 12)) + b")R")),
        _pickle("an object of no class", corrupt, lambda: _around(b"N)\x81")),
        _pickle("a tensor built by its class", UnsupportedCheckpointError, _built_tensor),
        _pickle(
            "an object of another module by opcode", UnsupportedCheckpointError, lambda: _around(b"(ios\nsystem\n")
        ),
        _pickle("a list at the root", UnsupportedCheckpointError, lambda: torch_zip(pickled(b"]"), {})),
        _pickle("a single tensor at the root", UnsupportedCheckpointError, _single_tensor),
        _pickle(
            "no tensors", UnsupportedCheckpointError, lambda: torch_zip(pickled(dictionary([("a", integer(1))])), {})
        ),
        _pickle("200,000 nested tuples", limit, lambda: _around(b")" + b"\x85" * 200_000)),
        _pickle("300,000 values on the stack", limit, lambda: _around(b"(" + b"N" * 300_000 + b"t")),
        _pickle("2,000 open groups", limit, lambda: _around(b"(" * 2_000)),
        _pickle("2 million opcodes", limit, lambda: _around(b"N" + b"q\x00" * 2_000_000)),
        _pickle("a number of 4 billion bytes", limit, lambda: _around(b"\x8b" + struct.pack("<I", 0xFFFFFFFF))),
        _pickle("a dictionary that contains itself", corrupt, lambda: _around(b"}q\x09" + text("a") + b"h\x09s")),
        _pickle("a list that contains itself", corrupt, lambda: _around(b"]q\x09h\x09a")),
        _pickle("the same key twice", corrupt, _same_key_twice),
        _pickle("a name with a control character", corrupt, lambda: _named("conv\x1b[2J.weight")),
        _pickle("an empty name", corrupt, lambda: _named("")),
        _pickle("an entry of something that is not a dictionary", corrupt, lambda: _around(b"]" + text("a") + b"Ns")),
        _pickle("a value from an empty stack", corrupt, lambda: torch_zip(b"\x80\x02."), suffix=".pth"),
        _pickle("a memo entry that was never stored", corrupt, lambda: _around(b"h\x63")),
        _pickle("values left over", corrupt, lambda: torch_zip(b"\x80\x02NN.", {})),
        _pickle("eval of code instead of Paddle's own call", UnsafeCheckpointError, _evaluation, suffix=".pdparams"),
        _pickle("the inner state of a constructor", corrupt, _built_constructor),
        _pickle("protocol 6", UnsupportedCheckpointError, lambda: torch_zip(b"\x80\x06}.", {})),
        _pickle("two state dicts and no choice", UnsupportedCheckpointError, _two_state_dicts),
    )


def _pickle(name: str, expected: type[CheckpointError], make: Callable[[], bytes], *, suffix: str = ".pth") -> BadFile:
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


def _attribute(name: str) -> bytes:
    """Ask for an attribute as protocol 2 spells methods of classes: `getattr(torch.serialization, name)`."""
    call = global_name("__builtin__", "getattr") + global_name("torch", "serialization") + text(name) + b"\x86R"
    return _around(call)


def _stack_global() -> bytes:
    return torch_zip(b"\x80\x04" + text("os") + text("system") + b"\x93(" + text("true") + b"tR.", {})


def _built_tensor() -> bytes:
    """Ask for a billion numbers that the file does not hold."""
    call = global_name("torch", "FloatTensor") + b"(" + integer(1_000_000_000) + b"tR"
    return torch_zip(pickled(dictionary([("conv.weight", call)])), {})


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


def bad_legacy_files() -> tuple[BadFile, ...]:
    """Return the legacy and tar part of the catalogue."""
    corrupt, unsafe, truncated = CorruptCheckpointError, UnsafeCheckpointError, TruncatedCheckpointError
    one = [(12, FLOATS)]
    return (
        _legacy("a key list that omits a storage", corrupt, lambda: torch_legacy(keys=["0"], storages=one)),
        _legacy("a key list with an unknown storage", corrupt, lambda: torch_legacy(keys=["0", "2"])),
        _legacy("a key list with a storage twice", corrupt, lambda: torch_legacy(keys=["0", "0"])),
        _legacy("bytes after the last storage", corrupt, lambda: torch_legacy() + b"x"),
        _legacy("a second checkpoint after the first", corrupt, lambda: torch_legacy() + torch_legacy()),
        _legacy("a storage with another length", corrupt, lambda: torch_legacy(storages=[(11, FLOATS), (1, COUNT)])),
        _legacy("a negative length", corrupt, lambda: torch_legacy(storages=[(-1, FLOATS), (1, COUNT)])),
        _legacy("2 billion elements in a tiny file", truncated, _huge_storage),
        _legacy("a truncated storage", truncated, lambda: torch_legacy()[:-1]),
        _legacy("a truncated pickle", truncated, lambda: torch_legacy()[:100]),
        _legacy("big-endian numbers", UnsupportedCheckpointError, lambda: torch_legacy(little_endian=False)),
        _legacy("an unknown version", UnsupportedCheckpointError, lambda: torch_legacy(version=1002)),
        _legacy("a view beyond its storage", corrupt, _bad_view),
        _tar("a tensor beyond its storage", corrupt, lambda: tar(torch_tar_members(first=1))),
        _tar("a storage beyond its member", truncated, lambda: tar(torch_tar_members(elements=1 << 40))),
        _tar("a path that points outside the archive", unsafe, lambda: tar({"../storages": b""})),
        _tar("an absolute path", unsafe, lambda: tar({"/storages": b""})),
        _tar("a symbolic link", unsafe, lambda: _linked(tarfile.SYMTYPE)),
        _tar("a hard link", unsafe, lambda: _linked(tarfile.LNKTYPE)),
        _tar("a device", unsafe, lambda: _linked(tarfile.CHRTYPE)),
        _tar("a pipe", unsafe, lambda: _linked(tarfile.FIFOTYPE)),
        _tar("a sparse member", unsafe, lambda: _linked(tarfile.GNUTYPE_SPARSE)),
        _tar("the same member twice", corrupt, lambda: tar(torch_tar_members(), twice="pickle")),
        _tar("an unknown member", UnsupportedCheckpointError, lambda: tar({**torch_tar_members(), "x": b""})),
        _tar("bytes after the end", corrupt, lambda: tar(torch_tar_members()) + b"x" * 512),
        _tar("2 MB of zeros after the end", corrupt, lambda: tar(torch_tar_members()) + bytes(1 << 21)),
        _tar("no end mark", truncated, lambda: tar(torch_tar_members()).rstrip(b"\0") + b"\0" * 400),
        _tar("a header that does not match its checksum", corrupt, _damaged_header),
        _tar("an extended header of 100 KB", LimitExceededError, _large_extended_header),
    )


def _legacy(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"legacy: {name}", ".pth", expected, make)


def _tar(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"tar: {name}", ".pth", expected, make)


def _huge_storage() -> bytes:
    described = tensor(storage_id("0", 2_000_000_000, view=b"N"), (2_000_000_000,), (1,))
    return torch_legacy(pickled(dictionary([("conv.weight", described)])), ["0"], [(2_000_000_000, FLOATS)])


def _bad_view() -> bytes:
    view = b"(" + integer(5) + integer(6) + integer(12) + b"t"
    described = tensor(storage_id("0", 12, view=view))
    return torch_legacy(pickled(dictionary([("conv.weight", described)])), ["0"], [(12, FLOATS)])


def _linked(kind: bytes) -> bytes:
    return tar({"pickle": b""}, kind=kind, link="/etc/passwd")


def _damaged_header() -> bytes:
    data = tar(torch_tar_members())
    return b"S" + data[1:]


def _large_extended_header() -> bytes:
    return tar({"pickle": b"x" * 100_000}, kind=tarfile.XHDTYPE)
