"""What is known about a file's bytes: from the catalogue, and from the record of the first sight (``pins.json``).

A pin outlives its file: a different file that turns up later under the same name is noticed even after the
first one was deleted.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, MsgspecError, Struct, convert, field
from msgspec.structs import asdict, replace

from r2convert.catalog.variant import Source
from r2convert.download.addresses import Address
from r2convert.errors import AccessError, CacheError
from r2convert.files import parse_toml, write_text

ANOTHER_FOLDER = "check its permissions, or set R2CONVERT_CACHE to a folder you can read and write"
"""What to do about a cache that the system does not let r2convert use."""

Trust = Literal["pinned", "seen", "unknown"]

_DECIDING_PREFIX = 8
"""Hex digits of a hash that rule out an accident (1 in 4e9); a shorter prefix does not."""


class Expectation(Struct, frozen=True):
    """What a file must be.

    Args:
        file_name: the file's name in the cache.
        pinned_sha256: full SHA-256 from the catalogue.
        seen_sha256: full SHA-256 recorded when the file was first fetched on this machine.
        sha256_prefix: first hex digits of the SHA-256, as published.
        size: size in bytes, from the catalogue or from the record.
    """

    file_name: str
    pinned_sha256: str | None = None
    seen_sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, source: Source, pin: Pin | None) -> Expectation:
        """Join what the catalogue says of ``source`` with what was recorded at first sight."""
        if pin is None or source.sha256 is not None:  # the catalogue outranks what happened to be seen first
            return cls(source.file_name, source.sha256, None, source.sha256_prefix, source.size)
        return cls(source.file_name, None, pin.sha256, source.sha256_prefix, source.size or pin.size)

    @property
    def sha256(self) -> str | None:
        """The full SHA-256 the file must have, if any is known."""
        return self.pinned_sha256 or self.seen_sha256

    @property
    def hash_decides(self) -> bool:
        """Whether a finished file can be judged by its hash alone."""
        return self.sha256 is not None or len(self.sha256_prefix or "") >= _DECIDING_PREFIX

    @property
    def hash_is_known(self) -> bool:
        """Whether anything at all is known about the file's hash."""
        return self.sha256 is not None or self.sha256_prefix is not None

    @property
    def trust(self) -> Trust:
        """The trust in a file that fits: see :class:`r2convert.download.cache.CachedFile`."""
        if self.pinned_sha256 is not None:
            return "pinned"
        return "seen" if self.sha256_prefix else "unknown"

    def objection(self, sha256: str, size: int) -> Objection | None:
        """Say why a file with this hash and size is not the one expected; ``None`` if it is."""
        if self.pinned_sha256 is not None and sha256 != self.pinned_sha256:
            return Objection("its hash is not the one in the catalogue", self.pinned_sha256, sha256)
        if self.sha256_prefix is not None and not sha256.startswith(self.sha256_prefix.lower()):
            return Objection("its hash does not begin as published", f"{self.sha256_prefix}...", sha256)
        if self.seen_sha256 is not None and sha256 != self.seen_sha256:
            return Objection("it is not the file that was first seen under this name", self.seen_sha256, sha256)
        if self.size is not None and size != self.size:
            return Objection("its size is not the one expected", f"{self.size:,} bytes", f"{size:,} bytes")
        return None


class Objection(Struct, frozen=True):
    """Why a file is not the expected one, with the expected and the found value."""

    reason: str
    expected: str
    got: str


_ABOUT = (
    "Written by r2convert: the SHA-256 each file had when it was first seen here. A file that arrives later with "
    "another hash is refused. To accept it after all: r2convert cache --forget NAME."
)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


class Pin(Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded of one file.

    Args:
        sha256: full SHA-256, hex.
        size: bytes.
        modified_ns: modification time of the cached file when it was last hashed, in ns since the epoch.
        origin: the URL or path it came from.
        first_seen: date of the first sight (UTC), ISO 8601.
    """

    sha256: Annotated[str, Meta(min_length=64, max_length=64)]
    size: int
    modified_ns: int
    origin: str
    first_seen: str = field(default_factory=_today)


class _Record(Struct):
    files: dict[str, Pin]
    about: str = ""


class PinBook:
    """The record file, read when it changes and rewritten whole under a lock.

    Earlier caches have the record as ``pins.toml``. What is in it is read, and moves into ``pins.json`` with the
    next change.

    Args:
        path: ``pins.json``.
        lock_path: lock file that writers take.

    Raises:
        CacheError: in every method: the record cannot be read or written.
    """

    def __init__(self, path: Path, lock_path: Path) -> None:
        self._path = path
        self._old_path = path.with_suffix(".toml")
        self._lock_path = lock_path
        self._read: tuple[object, dict[str, Pin]] | None = None

    def all(self) -> dict[str, Pin]:
        """Return every pin by file name."""
        marks = (_mark(self._path), _mark(self._old_path))
        if self._read is None or self._read[0] != marks:
            self._read = (marks, {**read_pins(self._old_path), **read_pins(self._path)})
        return dict(self._read[1])

    def get(self, file_name: str) -> Pin | None:
        """Return the pin of a file, if it was ever seen."""
        return self.all().get(file_name)

    def record(self, file_name: str, pin: Pin) -> None:
        """Write down what a file is; the date of the first sight is kept where the hash stays the same."""
        self._change(file_name, pin)

    def forget(self, file_name: str) -> None:
        """Remove a pin, so that the next file under this name counts as first seen."""
        self._change(file_name, None)

    def _change(self, file_name: str, pin: Pin | None) -> None:
        from filelock import FileLock  # here, so that looking things up stays light

        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock_path):
                pins = self.all()
                known = pins.pop(file_name, None)
                if pin is not None and known is not None and known.sha256 == pin.sha256:
                    pin = replace(pin, first_seen=known.first_seen)
                if pin is not None:
                    pins[file_name] = pin
                write_text(self._path, format_pins(pins))
                self._old_path.unlink(missing_ok=True)
        except (OSError, AccessError) as problem:
            raise CacheError(
                "the record of file hashes cannot be written",
                where=str(self._path),
                got=str(problem.__cause__ or problem),
                next_step="set R2CONVERT_CACHE to a folder you can write to",
            ) from problem


def read_pins(path: Path) -> dict[str, Pin]:
    """Read a record file, JSON or TOML by its suffix; a missing one holds nothing.

    Raises:
        CacheError: it is unreadable or not what r2convert wrote.
    """
    try:
        files = convert(_parsed(path.read_text(encoding="utf-8"), path.suffix), _Record).files
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise _unusable(path, problem) from problem
    except (ValueError, RecursionError, MsgspecError) as problem:
        raise _unreadable(path, str(problem)) from problem
    # Earlier versions recorded logins of mirrors.
    return {name: replace(pin, origin=Address.of(pin.origin).text) for name, pin in files.items()}


def _parsed(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    # Caches of earlier versions have such a record.
    return {"files": {}, **parse_toml(text)}


def format_pins(pins: dict[str, Pin]) -> str:
    """Return the text of a record file, sorted by file name, so that equal records are equal bytes."""
    files = {_unicode(name): asdict(pins[name]) for name in sorted(pins)}
    for entry in files.values():
        entry["origin"] = _unicode(entry["origin"])
    return json.dumps({"about": _ABOUT, "files": files}, indent=2, ensure_ascii=False) + "\n"


def _unicode(text: str) -> str:
    """Replace what of a path is not Unicode: JSON is exchanged as UTF-8 (RFC 8259, 8.1)."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _mark(path: Path) -> object:
    """Return what changes when a file is replaced; ``None`` where there is none."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise _unusable(path, problem) from problem
    return state.st_mtime_ns, state.st_size, state.st_ino


def _unusable(path: Path, problem: OSError) -> CacheError:
    return CacheError(
        "the cache cannot be used",
        where=str(path),
        got=problem.strerror or str(problem),
        next_step=ANOTHER_FOLDER,
    )


def _unreadable(path: Path, problem: str) -> CacheError:
    return CacheError(
        "the record of file hashes cannot be read",
        where=str(path),
        expected="the file r2convert wrote",
        got=problem,
        next_step="repair it, or delete it: the files in the cache are then recorded anew",
    )
