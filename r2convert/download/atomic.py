"""Files that appear whole or not at all: written beside their place, synced, renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

_BLOCK = 1 << 20

TEMPORARY_SUFFIX = ".tmp"
"""What a process killed while replacing a file may leave behind ends in this."""


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable, where the platform lets a folder be synced."""
    with contextlib.suppress(OSError):  # Windows and some network file systems cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by a file holding ``text`` (UTF-8); readers see the old or the new one, whole.

    Raises:
        OSError: the folder cannot be written.
    """
    # Not mkstemp: a cache shared between users has to keep the modes their umask asks for.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def hash_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 (hex) and the size in bytes of a file, read once in blocks.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
