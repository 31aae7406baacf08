"""Writes checkpoints: streamed, checked by reading back, and put in their place only when all is well."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from isal.isal_zlib import crc32

from r2convert.checkpoint.background import Progress, digest_behind, sync_behind
from r2convert.checkpoint.digests import DigestedTensor, OutputTensor
from r2convert.checkpoint.formats.contents import OutputLayout
from r2convert.checkpoint.formats.pdparams import pdparams_segments
from r2convert.checkpoint.formats.safetensors import safetensors_segments
from r2convert.checkpoint.formats.torch_zip import torch_zip_segments
from r2convert.checkpoint.reading_back import WrittenTensor, require_as_written
from r2convert.errors import CorruptCheckpointError, UsageError
from r2convert.files import atomic_output

_LAYOUTS: Final[Mapping[str, OutputLayout]] = {
    ".pth": torch_zip_segments,
    ".pt": torch_zip_segments,
    ".safetensors": safetensors_segments,
    ".pdparams": pdparams_segments,
}


@dataclass(frozen=True, slots=True)
class WrittenFile:
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
) -> WrittenFile:
    """Write a checkpoint; its container follows from the suffix: `.pth`, `.pt`, `.safetensors` or `.pdparams`.

    The same tensors and metadata give the same bytes, whatever the file is called and wherever this runs.

    Args:
        path: where to write. Until the file is complete, nothing is visible there.
        tensors: what to write, in order. Their chunks are streamed.
        metadata: texts to keep in the file, or a function that gives them, called only if they are needed:
            only safetensors has a place for them.
        overwrite: whether a file at ``path`` may be replaced.
        check: whether to read the file back and compare every tensor before it is put in place.
        digest: whether to take the digests of the file and of every tensor.
        accept: called when all is written, before the file is put in place; if it raises, nothing is left behind.

    Raises:
        UsageError: the suffix stands for no container that is written, or names collide.
        OutputExistsError: the file exists.
        AccessError: the file cannot be written.
        CorruptCheckpointError: what was read back is not what was written, or a source is damaged.
    """
    layout = _layout(path)
    _require_writable(tensors)
    give_metadata = metadata if callable(metadata) else lambda: metadata or {}
    with atomic_output(path, overwrite=overwrite) as (temporary, descriptor):
        progress = Progress()
        synced = sync_behind(descriptor, progress)
        file_digest = digest_behind(descriptor, progress) if digest else None
        writer = _Writer(descriptor, tensors, progress, digest=digest)
        try:
            writer.write(layout, give_metadata)
            progress.finish()
            if accept is not None:
                accept()
            if check:
                require_as_written(temporary, writer.written)
        finally:
            # Nothing may use the descriptor any more once it is closed.
            progress.finish()
            for work in (synced, file_digest):
                if work is not None:
                    work.wait()
        synced.result()
        sha256 = file_digest.result() if file_digest is not None else None
    return WrittenFile(path, writer.size, sha256, writer.digested)


def require_container(path: Path) -> None:
    """Check that a file's suffix stands for a container that is written.

    Raises:
        UsageError: it does not.
    """
    _layout(path)


def _layout(path: Path) -> OutputLayout:
    try:
        return _LAYOUTS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            "The output's suffix stands for no container",
            where=str(path),
            expected=", ".join(_LAYOUTS),
            got=path.suffix or "none",
        ) from None


def _require_writable(tensors: Sequence[OutputTensor]) -> None:
    counts = Counter(tensor.name for tensor in tensors)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise UsageError("Two tensors would have the same name", got=", ".join(repeated[:5]))
    if "__metadata__" in counts:
        raise UsageError("A tensor cannot be named __metadata__: safetensors keeps that name for itself")


class _Writer:
    """Streams one file, and digests each tensor in the same pass if asked to."""

    def __init__(self, descriptor: int, tensors: Sequence[OutputTensor], progress: Progress, *, digest: bool) -> None:
        self._descriptor = descriptor
        self._tensors = tensors
        self._progress = progress
        self._is_digesting = digest
        self._checksums: dict[int, int] = {}
        self._digests: dict[int, bytes] = {}
        self.size = 0

    @property
    def digested(self) -> tuple[DigestedTensor, ...]:
        """The tensors with their digests, in the order given; none unless they were to be digested."""
        return tuple(
            DigestedTensor(tensor.name, tensor.dtype, tensor.shape, self._digests[index])
            for index, tensor in enumerate(self._tensors)
            if index in self._digests
        )

    @property
    def written(self) -> list[WrittenTensor]:
        """The tensors written, with their checksums, in the order given."""
        return [
            WrittenTensor(tensor.name, tensor.dtype, tensor.shape, self._checksums[index])
            for index, tensor in enumerate(self._tensors)
        ]

    def write(self, layout: OutputLayout, metadata: Callable[[], Mapping[str, str]]) -> None:
        """Write the whole file."""
        for segment in layout(self._tensors, metadata, self._checksums):
            if isinstance(segment, int):
                self._write_tensor(segment)
            else:
                self._write_bytes(segment)
            self._progress.advance(self.size)

    def _write_tensor(self, index: int) -> None:
        tensor = self._tensors[index]
        digest = hashlib.sha256() if self._is_digesting else None
        checksum, start = 0, self.size
        for chunk in tensor.chunks():
            if digest is not None:
                digest.update(chunk)
            if tensor.crc32 is None:
                checksum = crc32(chunk, checksum)
            self._write_bytes(chunk)
        if self.size - start != tensor.nbytes:
            raise CorruptCheckpointError(
                f"{tensor.name} came with the wrong number of bytes",
                expected=f"{tensor.nbytes} bytes",
                got=f"{self.size - start} bytes",
            )
        if digest is not None:
            self._digests[index] = digest.digest()
        self._checksums[index] = checksum if tensor.crc32 is None else tensor.crc32

    def _write_bytes(self, data: memoryview | bytes) -> None:
        view = memoryview(data)
        while len(view):
            view = view[os.write(self._descriptor, view) :]
        self.size += len(data)
