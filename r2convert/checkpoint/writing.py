"""Writes checkpoints: streamed, read back while they grow, and moved into place only when everything is right.

Two threads follow the writer and read back what it has written: one for the SHA-256 of the file, one for digests and
checksums of the tensors. So the digests speak of what the file holds; the writer's own checksums tell whether that is
what was meant. Each thread reads for itself: with one reader that hands its pieces on, `map` took a tenth longer.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from isal.isal_zlib import crc32
from msgspec import Struct

from r2convert.checkpoint.background import Background, Result
from r2convert.checkpoint.digests import DigestedTensor, OutputTensor
from r2convert.checkpoint.formats.contents import Contents, OutputLayout, Wrapper
from r2convert.checkpoint.formats.pdparams import pdparams_segments, pkl_segments
from r2convert.checkpoint.formats.safetensors import safetensors_segments
from r2convert.checkpoint.formats.torch_zip import torch_zip_segments
from r2convert.checkpoint.limits import CHUNK_BYTES, KIBIBYTE, SYNC_BYTES
from r2convert.checkpoint.open import read_contents
from r2convert.checkpoint.storage import Encoding, OpenFile, Storage
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import CorruptCheckpointError, UsageError
from r2convert.files import atomic_output, sync_data, write_all

#: Smaller pieces are gathered, up to this many bytes: a system call for each would take as long as all the rest.
_SMALL_BYTES: Final = 16 * KIBIBYTE
_SMALL_PIECES: Final = 100

#: How many bytes were completed, and which tensor they are all of, if they are of one.
_Stretch = tuple[int, int | None]
_Batches = SimpleQueue[list[_Stretch]]

_LAYOUTS: Final[Mapping[str, OutputLayout]] = {
    ".pth": torch_zip_segments,
    ".pt": torch_zip_segments,
    ".safetensors": safetensors_segments,
    ".pdparams": pdparams_segments,
    ".pkl": pkl_segments,
}


class WrittenFile(Struct, frozen=True):
    """A checkpoint that has been written.

    Attributes:
        path: where it is.
        size: its size in bytes.
        sha256: the SHA-256 of the whole file, in hexadecimal; ``None`` if no digests were asked for.
        tensors: every tensor with the digest of its bytes, in the order given; make the content hash of it
            with :func:`r2convert.checkpoint.digests.network_hash` without reading anything again. Empty if no
            digests were asked for.
    """

    path: Path
    size: int
    sha256: str | None
    tensors: tuple[DigestedTensor, ...]


def write_checkpoint(
    path: Path,
    tensors: Sequence[OutputTensor],
    *,
    metadata: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
    overwrite: bool = False,
    check: bool = True,
    digest: bool = True,
    accept: Callable[[], None] | None = None,
    wrapper: Wrapper | None = None,
) -> WrittenFile:
    """Write a checkpoint; its container follows from the suffix: `.pth`, `.pt`, `.safetensors`, `.pdparams` or `.pkl`.

    The same tensors and metadata give the same bytes, whatever the file is called and wherever this runs.

    Args:
        path: where to write. Until the file is complete, nothing is visible there.
        tensors: what to write, in order. Their chunks are streamed.
        metadata: texts to keep in the file, or a function that gives them, called only if they are needed:
            only safetensors has a place for them.
        overwrite: whether a file at ``path`` may be replaced.
        check: whether to read the file back and compare every tensor before it is put in place.
        digest: whether to take the digests of the file and of every tensor.
        accept: called when all is written, before the file is moved into place; if it raises, nothing is left behind.
        wrapper: what a `.pkl` holds the tensors in.

    Raises:
        UsageError: the extension is not supported, or names collide.
        OutputExistsError: the file exists.
        AccessError: the file cannot be written.
        CorruptCheckpointError: what was read back is not what was written, or a file that was read is damaged.
    """
    layout = partial(pkl_segments, wrapper=wrapper) if wrapper else _layout(path)
    _require_writable(tensors)
    give_metadata = metadata if callable(metadata) else lambda: metadata or {}
    with atomic_output(path, overwrite=overwrite) as (part, descriptor):
        output = _Output(part, descriptor, is_read_back=check or digest, is_digested=digest)
        try:
            checksums = _write(output, layout, tensors, give_metadata)
            if accept is not None:
                accept()
            described = _describe(part, wrapper) if check else None
        finally:
            output.finish()  # nothing may use the descriptor any more once it is closed
        sha256, found = output.result()
        if described is not None:
            _require_as_written(path, tensors, checksums, described, found)
    digested = [
        DigestedTensor(tensor.name, tensor.dtype, tensor.shape, found[index].digest)
        for index, tensor in enumerate(tensors)
        if digest
    ]
    return WrittenFile(path, output.size, sha256, tuple(digested))


def require_container(path: Path) -> None:
    """Check that a file's extension is one of a container that is written.

    Raises:
        UsageError: it does not.
    """
    _layout(path)


def _layout(path: Path) -> OutputLayout:
    try:
        return _LAYOUTS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            "unsupported extension of the output",
            where=str(path),
            expected=", ".join(_LAYOUTS),
            got=path.suffix or "none",
        ) from None


def _require_writable(tensors: Sequence[OutputTensor]) -> None:
    counts = Counter(tensor.name for tensor in tensors)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise UsageError("two tensors would have the same name", got=", ".join(repeated[:5]))
    if "__metadata__" in counts:
        raise UsageError("a tensor cannot be named __metadata__: safetensors keeps that name for itself")


def _write(
    output: _Output, layout: OutputLayout, tensors: Sequence[OutputTensor], metadata: Callable[[], Mapping[str, str]]
) -> dict[int, int]:
    """Write the whole file; return the CRC-32 of every tensor's bytes as they were meant, by its index."""
    checksums: dict[int, int] = {}
    for segment in layout(tensors, metadata, checksums):
        if isinstance(segment, bytes):
            output.write(segment)
            output.complete(len(segment))
        else:
            checksums[segment] = _write_tensor(output, tensors[segment])
            output.complete(tensors[segment].nbytes, segment)
    output.hand_over()
    return checksums


def _write_tensor(output: _Output, tensor: OutputTensor) -> int:
    checksum = size = 0
    for chunk in tensor.chunks():
        if tensor.crc32 is None:
            checksum = crc32(chunk, checksum)
        output.write(chunk)
        size += len(chunk)
    if size != tensor.nbytes:
        raise CorruptCheckpointError(
            f"{tensor.name} came with the wrong number of bytes", expected=f"{tensor.nbytes} bytes", got=f"{size} bytes"
        )
    return checksum if tensor.crc32 is None else tensor.crc32


class _ReadBack(Struct, frozen=True):
    """What the new file holds of one tensor: where, its CRC-32, and its SHA-256 if digests were requested."""

    offset: int
    crc32: int
    digest: bytes


class _Output:
    """The new file. Threads following the writer sync and read back what was written."""

    def __init__(self, path: Path, descriptor: int, *, is_read_back: bool, is_digested: bool) -> None:
        self.size = 0
        self._descriptor = descriptor
        self._small: list[bytes] = []
        self._completed: list[_Stretch] = []
        self._handed_over = self._synced = 0
        self._to_sync: SimpleQueue[bool] = SimpleQueue()
        self._batches: list[_Batches] = []
        self._sync = Background(self._sync_behind)
        self._hashing = self._follow(partial(_hash_file, path)) if is_digested else None
        reads = partial(_read_tensors, path, is_digested=is_digested)
        self._reading = self._follow(reads) if is_read_back else None

    def write(self, data: memoryview | bytes) -> None:
        self.size += len(data)
        if len(data) < _SMALL_BYTES and len(self._small) < _SMALL_PIECES:
            self._small.append(bytes(data))
        else:
            self._flush(data)

    def complete(self, size: int, tensor: int | None = None) -> None:
        """Say that the last ``size`` bytes are all of one tensor, or of none."""
        self._completed.append((size, tensor))
        if self.size - self._handed_over >= CHUNK_BYTES:
            self.hand_over()

    def hand_over(self) -> None:
        """Let the other threads read back what has been completed."""
        self._flush()
        for batches in self._batches:
            batches.put(self._completed)
        self._completed, self._handed_over = [], self.size

    def finish(self) -> None:
        """Wait until the threads have finished what they were given; never raises."""
        self._to_sync.put(False)
        for batches in self._batches:
            batches.put([])
        for thread in (self._sync, self._hashing, self._reading):
            if thread is not None:
                thread.wait()

    def result(self) -> tuple[str | None, dict[int, _ReadBack]]:
        """Return the SHA-256 of the file and what it holds, or raise what went wrong in a thread."""
        self._sync.result()
        sha256 = self._hashing.result() if self._hashing is not None else None
        return sha256, self._reading.result() if self._reading is not None else {}

    def _follow(self, read: Callable[[_Batches], Result]) -> Background[Result]:
        """Start a thread that is given what has been completed, in batches; an empty one ends it."""
        self._batches.append(SimpleQueue())
        return Background(partial(read, self._batches[-1]))

    def _flush(self, data: memoryview | bytes = b"") -> None:
        write_all(self._descriptor, b"".join(self._small))
        write_all(self._descriptor, data)
        self._small.clear()
        if self.size - self._synced >= SYNC_BYTES:
            self._synced = self.size
            self._to_sync.put(True)

    def _sync_behind(self) -> None:
        while self._to_sync.get():
            sync_data(self._descriptor)
        os.fsync(self._descriptor)


def _hash_file(path: Path, batches: _Batches) -> str:
    """Return the SHA-256 of a growing file."""
    digest = hashlib.sha256()
    with _Follower(path) as file:
        for batch in iter(batches.get, []):
            for piece in file.pieces(sum(size for size, _ in batch)):
                digest.update(piece)
    return digest.hexdigest()


def _read_tensors(path: Path, batches: _Batches, *, is_digested: bool) -> dict[int, _ReadBack]:
    """Return what a growing file holds of each tensor, by its index."""
    found: dict[int, _ReadBack] = {}
    with _Follower(path) as file:
        for size, tensor in chain.from_iterable(iter(batches.get, [])):
            digest, checksum, start = hashlib.sha256(), 0, file.tell()
            for piece in file.pieces(size):
                if tensor is not None:
                    checksum = crc32(piece, checksum)
                if is_digested and tensor is not None:
                    digest.update(piece)
            if tensor is not None:
                found[tensor] = _ReadBack(start, checksum, digest.digest())
    return found


class _Follower(io.BufferedReader):
    """A growing file, read from its start."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path), CHUNK_BYTES)
        self._path = path
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the next ``size`` bytes; each piece is valid until the next is requested."""
        for done in range(0, size, CHUNK_BYTES):
            piece = self._buffer[: min(CHUNK_BYTES, size - done)]
            if self.readinto(piece) < len(piece):
                raise _not_as_written(self._path, "a file that ends early")
            yield piece


def _describe(path: Path, wrapper: Wrapper | None) -> Contents:
    """Read the new file's own description of its tensors, as any reader of it would."""
    with OpenFile(path) as file:
        contents = read_contents(file)
    if wrapper and isinstance(contents.root, dict):
        return contents._replace(root=contents.root.get(wrapper.key))
    return contents


def _require_as_written(
    path: Path,
    tensors: Sequence[OutputTensor],
    checksums: Mapping[int, int],
    described: Contents,
    found: Mapping[int, _ReadBack],
) -> None:
    """Check that the file describes the tensors meant, at the places where their bytes were found.

    The bytes are compared by CRC-32: what can go wrong in between is a bad disk or bad memory, not malice.
    """
    root = described.root if isinstance(described.root, dict) else {}
    differing = [
        tensor.name
        for index, tensor in enumerate(tensors)
        if found[index].crc32 != checksums[index]
        or not _fits(tensor, root.get(tensor.name), described.storages, found[index])
    ]
    if differing or len(root) != len(tensors):
        raise _not_as_written(path, f"{len(differing)} tensors differ: {', '.join(differing[:3])}")


def _fits(tensor: OutputTensor, described: object, storages: Sequence[Storage], found: _ReadBack) -> bool:
    """Whether a tensor is described as it was meant, its bytes standing in order where they were found."""
    if not isinstance(described, TensorInfo) or (described.dtype, described.shape) != (tensor.dtype, tensor.shape):
        return False
    storage = storages[described.storage]
    extent = storage.extents[0]
    return (
        (len(storage.extents) == 1 and extent.encoding is Encoding.RAW)
        and (described.is_contiguous and not described.is_negated)
        and (extent.offset + described.offset == found.offset or tensor.nbytes == 0)
        and storage.crc32 in (None, found.crc32)
    )


def _not_as_written(path: Path, got: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        "the file read back is not what was written",
        where=str(path),
        got=got,
        next_step="the disk or the memory may be failing; try another disk",
    )
