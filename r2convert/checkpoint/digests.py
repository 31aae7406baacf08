"""Digests of tensors and of whole networks."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct

from r2convert.checkpoint.elements import DType

_LEAF: Final = b"r2convert tensor 1\0"
_ROOT: Final = b"r2convert network 1\0"


class OutputTensor(Struct, frozen=True):
    """A tensor on its way into a file or a digest.

    Attributes:
        name: its name there.
        dtype: the type of its elements.
        shape: its lengths.
        chunks: gives its elements in C order, little-endian, in pieces; may be called more than once.
        crc32: their CRC-32 if ``chunks`` compares them with it anyway; saves computing it again.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[memoryview | bytes]]
    crc32: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize


class DigestedTensor(Struct, frozen=True):
    """A tensor known by the digest of its bytes.

    Attributes:
        name: its name.
        dtype: the type of its elements.
        shape: its lengths.
        digest: SHA-256 of its elements in C order, little-endian (32 bytes), as :func:`tensor_digest` makes it.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    digest: bytes

    def renamed(self, name: str, shape: tuple[int, ...] | None = None) -> DigestedTensor:
        """Return the same bytes under another name and, if given, in another shape."""
        return DigestedTensor(name, self.dtype, self.shape if shape is None else shape, self.digest)


def tensor_digest(chunks: Iterable[memoryview | bytes]) -> bytes:
    """Return the SHA-256 (32 bytes) of a tensor's elements, which come in C order, little-endian."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def network_hash(tensors: Iterable[DigestedTensor]) -> str:
    """Return the content hash of a network: equal if and only if two files hold the same tensors.

    It is a Merkle tree of two levels, every digest a SHA-256. A leaf is the digest of::

        "r2convert tensor 1" NUL
        length of the name (u32), name (UTF-8)
        length of the dtype (u32), dtype ("float32", ...)
        number of dimensions (u32), each length (u64)
        SHA-256 of the elements in C order, little-endian

    and the root the digest of ``"r2convert network 1" NUL``, the number of leaves (u64) and the leaves in ascending
    order; all numbers are little-endian. The hash does not depend on the container, the order of tensors or their
    strides. The caller passes canonical names and shapes, so that it does not depend on the layout either, and leaves
    out what is not part of the network (``num_batches_tracked``, tensors a table drops as unreachable).

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: two tensors have the same name.
    """
    leaves: dict[str, bytes] = {}
    for tensor in tensors:
        if tensor.name in leaves:
            raise ValueError(f"two tensors are named {tensor.name!r}")
        leaves[tensor.name] = _leaf(tensor)
    root = hashlib.sha256(_ROOT + struct.pack("<Q", len(leaves)))
    for leaf in sorted(leaves.values()):
        root.update(leaf)
    return root.hexdigest()


def _leaf(tensor: DigestedTensor) -> bytes:
    name, dtype = tensor.name.encode("utf-8"), tensor.dtype.value.encode("ascii")
    header = struct.pack("<I", len(name)) + name + struct.pack("<I", len(dtype)) + dtype
    shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return hashlib.sha256(_LEAF + header + shape + tensor.digest).digest()
