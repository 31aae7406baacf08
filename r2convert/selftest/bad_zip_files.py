"""Bad torch zip checkpoints: archives that contradict themselves or their pickle."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Final

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
    sound_state_dict,
    storage_id,
    tensor,
    torch_hub_zip,
    torch_zip,
)

_LOCAL_MARK: Final = b"PK\x03\x04"
_CENTRAL_MARK: Final = b"PK\x01\x02"
_BOMB_BYTES: Final = 30_000_000


def bad_zip_files() -> tuple[BadFile, ...]:
    """Return the zip part of the catalogue."""
    corrupt, unsupported = CorruptCheckpointError, UnsupportedCheckpointError
    return (
        _bad("a flipped bit in a tensor's record", corrupt, _flipped_data),
        _bad("a flipped bit in the pickle", corrupt, _flipped_pickle),
        _bad("compressed records", unsupported, lambda: torch_zip(compression=zipfile.ZIP_DEFLATED)),
        _bad("30 MB of zeros in 30 KB", unsupported, _bomb),
        _bad("more elements declared than the record holds", corrupt, lambda: _one_tensor(13)),
        _bad("fewer elements declared than the record holds", corrupt, lambda: _one_tensor(11, (11,), (1,))),
        _bad("the same data record twice", corrupt, lambda: torch_zip(more=[("data/0", FLOATS)])),
        _bad("two pickles", corrupt, lambda: torch_zip(more=[("data.pkl", sound_state_dict())])),
        _bad("a local header with another name", corrupt, _renamed_locally),
        _bad("a local header with another size", corrupt, lambda: _patched(_LOCAL_MARK, 22, b"\x01\0\0\0")),
        _bad("a forged byte order", unsupported, lambda: torch_zip(byteorder=b"big")),
        _bad("a storage key that is a path", corrupt, lambda: _one_tensor(12, key="../../x")),
        _bad("a record name that is a path", UnsafeCheckpointError, lambda: torch_zip(more=[("../../x", b"x")])),
        _bad("a storage key without a record", corrupt, lambda: _one_tensor(12, key="7")),
        _bad("stride 0 and 10^12 elements", LimitExceededError, lambda: _one_tensor(12, (10**12,), (0,))),
        _bad("an extent beyond the storage", corrupt, lambda: _one_tensor(12, (3, 4), (5, 1))),
        _bad("an offset beyond the storage", corrupt, lambda: _one_tensor(12, offset=integer(1))),
        _bad("a negative offset", corrupt, lambda: _one_tensor(12, (2,), (1,), offset=b"J" + struct.pack("<i", -1))),
        _bad("one storage declared with two lengths", corrupt, _contradicting_storages),
        _bad("bytes behind the archive", corrupt, lambda: torch_zip() + b"x"),
        _bad("bytes before the archive", corrupt, lambda: b"x" + torch_zip()),
        _bad("a comment behind the archive", corrupt, _commented),
        _bad("a truncated archive", TruncatedCheckpointError, lambda: torch_zip()[:-30]),
        _bad("an encrypted record", unsupported, _encrypted),
        _bad("a 64-bit size that is missing", corrupt, lambda: _patched(_CENTRAL_MARK, 20, b"\xff" * 8)),
        _bad("records that overlap", corrupt, _overlapping),
        _bad("a hole between records", corrupt, _hole),
        _bad("two folders", corrupt, _two_folders),
        _bad("a TorchScript program", unsupported, lambda: torch_zip(more=[("constants.pkl", b"\x80\x02).")])),
        _bad("bytes behind the pickle", corrupt, lambda: torch_zip(sound_state_dict() + b"x")),
        _bad("a zip archive of something else", unsupported, lambda: torch_hub_zip(b"a text")),
        _bad("a compressed torch.hub zip", unsupported, lambda: torch_hub_zip(compression=zipfile.ZIP_DEFLATED)),
        _bad("a torch.hub zip with a flipped bit", corrupt, _flipped_hub_zip),
    )


def _bad(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
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
