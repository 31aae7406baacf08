"""The agreement between the container writers and the engine that streams their output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from r2convert.checkpoint.digests import OutputTensor

#: A file in order: bytes as they are, or the index of the tensor whose bytes come next.
Segments = Iterator[bytes | int]

#: Lays a file out. The last argument fills while the file is written: once a tensor's bytes are through,
#: their CRC-32 stands under its index, in time for what a container writes behind them.
OutputLayout = Callable[[Sequence[OutputTensor], Mapping[str, str], Mapping[int, int]], Segments]
