"""Files that are no checkpoints at all, but get saved under a checkpoint's name."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from r2convert.errors import CheckpointError, TruncatedCheckpointError, UnsupportedCheckpointError
from r2convert.selftest.bad_file import BadFile
from r2convert.selftest.specimens import torch_zip


def not_checkpoints() -> tuple[BadFile, ...]:
    """Return the part of the catalogue that is about mistaken files."""
    return (
        _bad("an empty file", TruncatedCheckpointError, lambda: b""),
        _bad("an HTML error page", UnsupportedCheckpointError, _web_page),
        _bad("a JSON error message", UnsupportedCheckpointError, lambda: b'{"error": "quota exceeded"}'),
        _bad("a Git LFS pointer", UnsupportedCheckpointError, _pointer),
        _bad("a gzip file", UnsupportedCheckpointError, lambda: gzip.compress(torch_zip(), mtime=0)),
        _bad("a PNG image", UnsupportedCheckpointError, lambda: b"\x89PNG\r\n\x1a\n" + bytes(100)),
        _bad("a text file", UnsupportedCheckpointError, lambda: b"conv1.weight 64 3 7 7\n"),
        _bad("random bytes", UnsupportedCheckpointError, lambda: bytes(range(255, 0, -1))),
        _bad("zeros: a download that was never filled in", TruncatedCheckpointError, lambda: bytes(12)),
    )


def _bad(name: str, expected: type[CheckpointError], make: Callable[[], bytes]) -> BadFile:
    return BadFile(f"no checkpoint: {name}", ".pth", expected, make)


def _web_page() -> bytes:
    return b"\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"


def _pointer() -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 102400000\n"
