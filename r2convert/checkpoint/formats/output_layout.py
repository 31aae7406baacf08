"""The agreement between the container writers and the engine that streams their output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from r2convert.checkpoint.digests import OutputTensor

#: A file in order: bytes as they are, or the index of the tensor whose bytes come next.
Segments = Iterator[bytes | int]

#: Lays a file out. The second argument gives the texts to keep, if the container has a place for them. The
#: last one fills while the file is written: once a tensor's bytes are through, their CRC-32 stands under its
#: index, in time for what a container writes behind them.
OutputLayout = Callable[[Sequence[OutputTensor], Callable[[], Mapping[str, str]], Mapping[int, int]], Segments]
