"""What a container's reader finds in a file, and how its writer lays one out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.storage import Storage


class Contents(NamedTuple):
    """The described contents of a checkpoint file, before wrappers are taken off.

    Attributes:
        container: the container's name, as in ``inspect --json``.
        root: the described object: plain values with an unnamed :class:`TensorInfo` for every tensor.
        storages: what the tensors' ``storage`` counts into.
        metadata: plain values the container itself carries.
        warnings: what is odd about the file but harmless.
        opaque: dotted names of classes whose objects are not looked into.
    """

    container: str
    root: object
    storages: tuple[Storage, ...]
    metadata: dict[str, object]
    warnings: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()


class Wrapper(NamedTuple):
    """A dictionary that a pickle holds the tensors in.

    Attributes:
        key: the key they lie under.
        beside: what else it holds.
    """

    key: str
    beside: Mapping[str, str | bool]


#: A file in order: bytes as they are, or the index of the tensor whose bytes come next.
Segments = Iterator[bytes | int]

#: Lays a file out. The second argument gives the texts to keep, if the container has a place for them. The
#: last one fills while the file is written: once a tensor's bytes are through, their CRC-32 stands under its
#: index, in time for what a container writes after them.
OutputLayout = Callable[[Sequence[OutputTensor], Callable[[], Mapping[str, str]], Mapping[int, int]], Segments]
