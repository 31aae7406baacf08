"""Opens a checkpoint of any container and describes its named tensors.

The reader of a container is imported when a file of that kind is opened: all of them together take as long to
import as an ordinary file takes to describe.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from r2convert.checkpoint.background import Background
from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.formats.sniffing import Kind, sniff
from r2convert.checkpoint.pickles.values import UnreadTensor
from r2convert.checkpoint.state_dict import Recogniser, Selection, StateDict, find_state_dict
from r2convert.checkpoint.storage import OpenFile, StorageReader
from r2convert.checkpoint.tensor import TensorInfo, require_plausible_total, tensor_chunks
from r2convert.checkpoint.tensor_names import patterns_of
from r2convert.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np


class Checkpoint:
    """An open checkpoint: named tensors, described; their bytes are read on demand.

    Use it as a context manager. Created by :func:`open_checkpoint`.

    Attributes:
        path: the file or folder.
        container: ``torch-zip``, ``torch-legacy``, ``torch-tar``, ``torch-hub-zip``, ``safetensors``,
            ``pdparams``, ``paddle-static`` or ``mindspore``.
        size: its size in bytes.
        tensors: the tensors by name, in file order, without wrappers and ``module.``.
        unread: tensors of kinds whose elements are not read (complex, sparse, float8), by name.
        metadata: plain values found around the tensors, small enough to show and fit for JSON.
        wrapper: the key or dotted keys the state dict was stored under; ``None`` for a bare one.
        prefix_removed: what was removed from every name: the prefixes of wrappers (``module.``, ``_orig_mod.``), and
            the requested one.
        prefix_asked: the requested prefix; empty if there was none.
        left_out: tensors beside the network that were left out, with the reason.
        opaque: dotted names of the classes and functions whose objects are not looked into.
        warnings: what is odd about the file but harmless, one sentence each.
        other_key: the key that takes the network's other weights (its moving average, or the raw ones), if the file
            holds both and no key was given.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[OpenFile],
        contents: Contents,
        state_dict: StateDict,
        hashing: Background[str] | None = None,
        prefix_asked: str = "",
    ) -> None:
        self.path = path
        self.container = contents.container
        self.size = sum(file.size for file in files)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(state_dict.tensors)
        self.unread: Mapping[str, UnreadTensor] = MappingProxyType(state_dict.unread)
        self.metadata: Mapping[str, object] = MappingProxyType({**contents.metadata, **state_dict.metadata})
        self.wrapper = state_dict.wrapper
        self.prefix_removed = state_dict.prefix_removed
        self.prefix_asked = prefix_asked
        self.left_out = state_dict.left_out
        self.opaque = contents.opaque
        self.other_key = state_dict.other_key
        self.warnings = contents.warnings + state_dict.warnings
        self._files = tuple(files)
        self._storages = contents.storages
        self._hashing = hashing
        self._reader = StorageReader(self._files, self._storages)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        _close(self._files, self._hashing)

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, through the descriptor that was parsed; computed once.

        Of a folder, it is the SHA-256 of what `sha256sum *` prints in it.

        Raises:
            CorruptCheckpointError: the file was changed since it was opened.
            AccessError: reading fails.
        """
        if self._hashing is None:
            self._hashing = _begin_hashing(self._files)
        return self._hashing.result()

    def chunks(self, tensor: TensorInfo) -> Iterator[memoryview]:
        """Yield a tensor's elements in C order, little-endian.

        Args:
            tensor: one of :attr:`tensors`, or made from one by ``renamed``, ``transposed`` or ``reshaped``.

        Yields:
            Pieces of at most ``limits.CHUNK_BYTES`` bytes, each valid only until the next is requested.

        Raises:
            CorruptCheckpointError: the bytes do not match the file's checksum for them (raised at the latest
                after the last piece), or the file was changed.
            AccessError: reading fails.
        """
        yield from tensor_chunks(self._reader, tensor, self._storages[tensor.storage].nbytes)
        self._reader.require_unchanged(tensor.storage)

    def output(self, tensor: TensorInfo) -> OutputTensor:
        """Return a tensor as :func:`~r2convert.checkpoint.writing.write_checkpoint` takes it, under its own name.

        Where the file states a checksum for exactly these bytes, reading compares it, and writing uses it again.
        """
        storage = self._storages[tensor.storage]
        fills = tensor.offset == 0 and tensor.nbytes == storage.nbytes > 0
        is_whole = fills and tensor.is_contiguous and not tensor.is_negated
        crc32 = storage.crc32 if is_whole else None
        return OutputTensor(tensor.name, tensor.dtype, tensor.shape, lambda: self.chunks(tensor), crc32)

    def array(self, tensor: TensorInfo) -> np.ndarray[Any, Any]:
        """Return a tensor's elements as a C-ordered NumPy array of its own (bfloat16: ``uint16`` patterns).

        Raises:
            CorruptCheckpointError: as :meth:`chunks`.
        """
        import numpy as np

        result = np.empty(tensor.shape, tensor.dtype.numpy)
        target = result.reshape(-1).view(np.uint8).data
        position = 0
        for piece in self.chunks(tensor):
            target[position : position + len(piece)] = piece
            position += len(piece)
        return result

    def verify_records(self) -> None:
        """Read all bytes and check every checksum the file has.

        Raises:
            CorruptCheckpointError: one is wrong.
        """
        for index in range(len(self._storages)):
            self._reader.require_checked(index)
        self.require_unchanged()

    def require_unchanged(self) -> None:
        """Raise :class:`CorruptCheckpointError` if the file was written to since it was opened."""
        for file in self._files:
            file.require_unchanged()


def open_checkpoint(
    path: Path,
    *,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    recognise: Recogniser | None = None,
    digest: bool = False,
) -> Checkpoint:
    """Open a checkpoint of any container r2convert reads and describe its tensors.

    Nothing in the file is executed or trusted, and no tensor data is read, unless to hash it.

    Args:
        path: a checkpoint file, the JSON index of one in several files or the folder both lie in, or a folder of
            Paddle 1.x variables.
        key: which of several state dicts to take: its key (dotted if it lies deeper), or ``ema`` for the
            moving average, however the training program keeps it. ``None`` takes the network itself.
        prefix: take only the tensors whose names start with this, and remove it from their names: a backbone
            inside a larger network.
        leave_out: shell patterns; tensors whose names match one are left out.
        recognise: tells which of several state dicts is a known network; the keys decide without it.
        digest: start hashing the file at once, in a thread of its own.

    Raises:
        CheckpointError: the file is damaged, dangerous, too large, or of a kind that is not read.
        UsageError: there is nothing under ``key`` or ``prefix``, or a pattern matches nothing.
        AccessError: there is no such file or it cannot be read.
    """
    # Unlike Path.is_dir this never raises: why a path cannot be read is reported when it is opened.
    if os.path.isdir(path):  # noqa: PTH112
        from r2convert.checkpoint.formats.shards import index_in

        path = index_in(path) or path
    files: list[OpenFile] = []
    hashing: Background[str] | None = None
    try:
        read = _open(path, files)
        hashing = _begin_hashing(files) if digest else None
        contents = read(files)
        selection = Selection(key, prefix, patterns_of(leave_out), recognise)
        state_dict = find_state_dict(contents.root, selection, files[0].budget, str(path))
        checkpoint = Checkpoint(path, files, contents, state_dict, hashing, prefix)
        require_plausible_total(checkpoint.tensors.values(), checkpoint.size, str(path))
        checkpoint.require_unchanged()
    except BaseException as error:
        _close(files, hashing)
        if isinstance(error, CheckpointError):
            error.where = error.where or str(path)
        raise
    return checkpoint


def _open(path: Path, files: list[OpenFile]) -> Callable[[Sequence[OpenFile]], Contents]:
    """Open all files of a checkpoint into ``files``; return what describes them."""
    if os.path.isdir(path):  # noqa: PTH112
        from r2convert.checkpoint.formats.paddle_static import open_folder, read_paddle_folder

        files += open_folder(path)
        return read_paddle_folder
    files.append(OpenFile(path))
    if sniff(files[0]) is not Kind.SHARD_INDEX:
        return lambda files: read_contents(files[0])
    from r2convert.checkpoint.formats.shards import open_shards, read_shards

    files += open_shards(files[0])
    return partial(read_shards, read=read_contents)


def _begin_hashing(files: Sequence[OpenFile]) -> Background[str]:
    def sha256() -> str:
        if len(files) == 1:
            return files[0].sha256()
        lines = (f"{file.sha256()}  {file.path.name}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    return Background(sha256)


def _close(files: Sequence[OpenFile], hashing: Background[str] | None) -> None:
    for file in files:
        file.abandon()
    if hashing is not None:
        hashing.wait()  # no descriptor is closed under a thread that reads from it
    for file in files:
        file.close()


def read_contents(file: OpenFile) -> Contents:
    """Describe a file of any container, before wrappers are removed.

    Raises:
        CheckpointError: the file is damaged, dangerous, too large, or of a kind that is not read.
    """
    kind = sniff(file)
    if kind is Kind.ZIP:
        return _read_zip(file)
    if kind is Kind.TAR:
        return _read_tar(file)
    if kind is Kind.TORCH_LEGACY:
        from r2convert.checkpoint.formats.torch_legacy import read_torch_legacy

        return read_torch_legacy(file)
    if kind is Kind.SAFETENSORS:
        from r2convert.checkpoint.formats.safetensors import read_safetensors

        return read_safetensors(file)
    if kind is Kind.PICKLE:
        from r2convert.checkpoint.formats.pdparams import read_pdparams

        return read_pdparams(file)
    if kind is Kind.LOD_TENSOR:
        from r2convert.checkpoint.formats.paddle_static import read_lod_tensor_file

        return read_lod_tensor_file(file)
    if kind is Kind.MINDSPORE:
        from r2convert.checkpoint.formats.mindspore import read_mindspore

        return read_mindspore(file)
    from r2convert.checkpoint.formats.shards import reject_index

    return reject_index(file)


def _read_zip(file: OpenFile) -> Contents:
    from r2convert.checkpoint.formats.torch_zip import is_torch_zip, read_torch_zip
    from r2convert.checkpoint.formats.zip_directory import read_zip_directory

    records = read_zip_directory(file)
    if is_torch_zip(records):
        return read_torch_zip(file, records)
    from r2convert.checkpoint.formats.torch_hub_zip import read_torch_hub_zip

    return read_torch_hub_zip(file, records)


def _read_tar(file: OpenFile) -> Contents:
    from r2convert.checkpoint.formats.paddle_static import read_paddle_tar
    from r2convert.checkpoint.formats.tar_directory import read_tar_directory
    from r2convert.checkpoint.formats.torch_tar import MEMBERS, read_torch_tar

    members = read_tar_directory(file)
    is_torch = not members.keys().isdisjoint(MEMBERS)
    return read_torch_tar(file, members) if is_torch else read_paddle_tar(file, members)
