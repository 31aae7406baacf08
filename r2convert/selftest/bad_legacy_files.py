"""Bad legacy torch files and tars: sizes, keys and members that do not fit."""

from __future__ import annotations

import tarfile
from collections.abc import Callable

from r2convert.checkpoint.pickles.pickle_output import integer
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    LimitExceededError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from r2convert.selftest.bad_file import BadFile
from r2convert.selftest.specimens import (
    COUNT,
    FLOATS,
    dictionary,
    pickled,
    storage_id,
    tar,
    tensor,
    torch_legacy,
    torch_tar_members,
)


def bad_legacy_files() -> tuple[BadFile, ...]:
    """Return the legacy and tar part of the catalogue."""
    corrupt, unsafe, truncated = CorruptCheckpointError, UnsafeCheckpointError, TruncatedCheckpointError
    one = [(12, FLOATS)]
    return (
        _legacy("a key list that omits a storage", corrupt, lambda: torch_legacy(keys=["0"], storages=one)),
        _legacy("a key list with an unknown storage", corrupt, lambda: torch_legacy(keys=["0", "2"])),
        _legacy("a key list with a storage twice", corrupt, lambda: torch_legacy(keys=["0", "0"])),
        _legacy("bytes behind the last storage", corrupt, lambda: torch_legacy() + b"x"),
        _legacy("a second checkpoint behind the first", corrupt, lambda: torch_legacy() + torch_legacy()),
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
        _tar("a path that leads out of the archive", unsafe, lambda: tar({"../storages": b""})),
        _tar("an absolute path", unsafe, lambda: tar({"/storages": b""})),
        _tar("a symbolic link", unsafe, lambda: _linked(tarfile.SYMTYPE)),
        _tar("a hard link", unsafe, lambda: _linked(tarfile.LNKTYPE)),
        _tar("a device", unsafe, lambda: _linked(tarfile.CHRTYPE)),
        _tar("a pipe", unsafe, lambda: _linked(tarfile.FIFOTYPE)),
        _tar("a sparse member", unsafe, lambda: _linked(tarfile.GNUTYPE_SPARSE)),
        _tar("the same member twice", corrupt, lambda: tar(torch_tar_members(), twice="pickle")),
        _tar("an unknown member", UnsupportedCheckpointError, lambda: tar({**torch_tar_members(), "x": b""})),
        _tar("bytes behind the end", corrupt, lambda: tar(torch_tar_members()) + b"x" * 512),
        _tar("2 MB of zeros behind the end", corrupt, lambda: tar(torch_tar_members()) + bytes(1 << 21)),
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
