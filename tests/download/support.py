"""Small things the tests of the fetch room share: files, sources, a short patience, a record of messages."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import safetensors.numpy
from msgspec.structs import replace

from r2convert.catalog.variant import Source
from r2convert.download.cache import Cache, CachedFile
from r2convert.download.download import fetch_source
from r2convert.download.transfer import FetchSettings, ProgressSink
from r2convert.download.transport import Patience

QUICK = Patience(attempts=3, first_wait=0.01, longest_backoff=0.05, longest_wait=2.0, connect=2.0, stall=1.5)
"""The same rules in a fraction of the time."""

ARCHITECTURE = """\
[architecture]
family = "res2net"
depth = 50
stage_blocks = [3, 4, 6, 3]
base_width = 14
scales = 8
cardinality = 1
stem = "conv7x7"
shortcut = "strided-conv"
first_block = "stage"
pool_counts_padding = true
"""
"""A sound architecture for variant files whose weights are never looked into."""


class Messages:
    """Records what the room reports."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.starts: list[tuple[str, int | None, int]] = []
        self.bytes = 0
        self.ended: list[str] = []

    def started(self, name: str, total: int | None, done: int) -> None:
        self.starts.append((name, total, done))

    def advanced(self, name: str, amount: int) -> None:
        self.bytes += amount

    def finished(self, name: str) -> None:
        self.ended.append(name)

    def message(self, text: str) -> None:
        self.texts.append(text)

    @property
    def all(self) -> str:
        return "\n".join(self.texts)


def sample(size: int = 200_000, seed: int = 0) -> bytes:
    """A real checkpoint with one tensor of ``size`` random bytes, which do not compress."""
    tensor = np.frombuffer(random.Random(seed).randbytes(size), np.uint8)
    return safetensors.numpy.save({"weight": tensor})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def prefixed(data: bytes, *urls: str, digits: int = 8) -> Source:
    """A source as most are: the first eight digits of its hash are published."""
    prefix = sha256(data)[:digits]
    return Source("official", "official", "safetensors", f"net-{prefix}.safetensors", urls, sha256_prefix=prefix)


def pinned(data: bytes, *urls: str) -> Source:
    """A source whose full hash and size are in the catalogue."""
    return replace(prefixed(data, *urls), sha256=sha256(data), size=len(data))


def unhashed(*urls: str) -> Source:
    """A source of whose hash nothing is published."""
    return Source("timm", "timm", "safetensors", "net.safetensors", urls)


def fetch(
    source: Source,
    cache: Cache,
    progress: ProgressSink | None = None,
    *,
    patience: Patience = QUICK,
    largest_file: int = 1 << 30,
    mirror: str | None = None,
    offline: bool = False,
) -> CachedFile:
    settings = FetchSettings(patience=patience, largest_file=largest_file)
    return fetch_source(source, cache, progress=progress, settings=settings, mirror=mirror, offline=offline)


def remains(cache: Cache) -> dict[str, list[str]]:
    """What lies in the cache, by kind."""
    kinds: dict[str, list[str]] = {}
    for entry in cache.entries():
        kinds.setdefault(entry.state, []).append(entry.path.name)
    return kinds
