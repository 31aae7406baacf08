"""Looking after the cache folder: hashing everything again, and clearing away what is of no more use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from r2convert.catalog.variant import Source
from r2convert.download.cache import PINS_LOCK, Cache, CachedFile, CacheEntry, DamagedFile
from r2convert.download.pins import Expectation, Objection, Pin
from r2convert.errors import CacheError, UsageError
from r2convert.files import sha256_of


class CacheRow(NamedTuple):
    """One file of the cache folder.

    Args:
        path: where it lies.
        size: bytes.
        state: ``file``, ``damaged``, ``partial``, ``bad`` or ``leftover``.
        trust: how far its hash is known; ``None`` where the catalogue does not know the file.
        sha256: its hash, hex, where one is recorded.
        origin: where it came from.
    """

    path: Path
    size: int
    state: str
    trust: str | None = None
    sha256: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What hashing a file again showed.

    Args:
        path: the file, where it now lies.
        sha256: its hash, hex; ``None`` where it is damaged.
        objection: why it is not what it should be; ``None`` if it is sound.
        known: false where neither the catalogue nor the record knows the file.
    """

    path: Path
    sha256: str | None
    objection: Objection | None
    known: bool = True


def cache_rows(cache: Cache, sources: Iterable[Source]) -> list[CacheRow]:
    """What lies in the cache folder; a file that changed since it was last hashed is hashed again.

    Args:
        cache: the cache.
        sources: the catalogue's sources.

    Raises:
        CacheError: the folder, the record or a file cannot be read.
    """
    by_name = {source.file_name: source for source in sources}
    return [_row(cache, entry, by_name.get(entry.path.name)) for entry in cache.entries()]


def _row(cache: Cache, entry: CacheEntry, source: Source | None) -> CacheRow:
    path, size = entry.path, entry.size
    if entry.kind != "file" or source is None:
        recorded = (entry.pin.sha256, entry.pin.origin) if entry.pin else ()
        return CacheRow(path, size, entry.kind, None, *recorded)
    found = cache.examine(source)
    if isinstance(found, CachedFile):
        return CacheRow(path, size, "file", found.trust, found.sha256, found.origin)
    return CacheRow(path, size, "damaged")


def verify_cache(
    cache: Cache,
    sources: Iterable[Source],
    following: Callable[[Sequence[CacheEntry]], Iterable[CacheEntry]] = iter,
) -> list[Verified]:
    """Hash every finished file in the cache again; damaged ones are moved to the bad files.

    Args:
        cache: the cache.
        sources: the catalogue's sources.
        following: gives out the files one by one, and so knows how far the work is.

    Raises:
        CacheError: the folder, the record or a file cannot be read.
    """
    by_name = {source.file_name: source for source in sources}
    files = [entry for entry in cache.entries() if entry.kind == "file"]
    return [_verify(cache, entry, by_name) for entry in following(files)]


def _verify(cache: Cache, entry: CacheEntry, by_name: Mapping[str, Source]) -> Verified:
    source = by_name.get(entry.path.name)
    if source is None:
        return _verify_by_record(entry)
    found = cache.examine(source, hash_again=True)
    if isinstance(found, CachedFile):
        return Verified(found.path, found.sha256, None)
    if isinstance(found, DamagedFile):
        return Verified(cache.set_aside(found.path, source.file_name), None, found.objection)
    return Verified(entry.path, None, Objection("it is a link that leads nowhere", "a file", "nothing"))


def _verify_by_record(entry: CacheEntry) -> Verified:
    """Check a file that the catalogue does not name, such as one of a user's own variants."""
    try:
        sha256, size = sha256_of(entry.path)
    except OSError as problem:
        raise CacheError(
            "a file in the cache cannot be read", where=str(entry.path), got=problem.strerror or str(problem)
        ) from problem
    if entry.pin is None:
        return Verified(entry.path, sha256, None, known=False)
    wanted = Expectation(entry.path.name, seen_sha256=entry.pin.sha256, size=entry.pin.size)
    return Verified(entry.path, sha256, wanted.objection(sha256, size))


def forget_hash(cache: Cache, file_name: str) -> Pin:
    """Forget the recorded hash of a file, so that a new one is accepted.

    Returns:
        What was recorded.

    Raises:
        UsageError: no hash of it is recorded.
    """
    known = cache.pins.get(file_name)
    if known is None:
        raise UsageError(
            f"no hash of {file_name!r} is recorded",
            where=str(cache.folder),
            expected=", ".join(sorted(cache.pins.all())) or "(nothing is recorded yet)",
        )
    cache.pins.forget(file_name)
    return known


def clean_cache(cache: Cache) -> tuple[list[CacheEntry], list[CacheEntry]]:
    """Remove partial downloads, bad files and leftovers; finished files and the record of hashes stay.

    Returns:
        What was removed, and what is in use by another process and was left alone.

    Raises:
        CacheError: the folder cannot be read, or something in it cannot be removed.
    """
    removed: list[CacheEntry] = []
    busy: list[CacheEntry] = []
    for entry in cache.entries():
        if entry.kind != "file":
            (removed if _remove(cache, entry) else busy).append(entry)
    return removed, busy


def _remove(cache: Cache, entry: CacheEntry) -> bool:
    """Remove one entry under the lock that its writer would hold; false if somebody holds it."""
    lock = FileLock(cache.lock_folder / _lock_name(cache, entry))
    try:
        cache.lock_folder.mkdir(parents=True, exist_ok=True)
        with lock.acquire(timeout=0):
            entry.path.unlink(missing_ok=True)
            if entry.kind == "partial":
                entry.path.with_suffix(".json").unlink(missing_ok=True)
    except Timeout:
        return False
    except OSError as problem:
        raise CacheError(
            "the cache cannot be cleaned", where=str(entry.path), got=problem.strerror or str(problem)
        ) from problem
    return True


def _lock_name(cache: Cache, entry: CacheEntry) -> str:
    """Return the name of the lock under which an entry is written.

    Temporary files are called ``.NAME.TOKEN.part``, where NAME is ``pins.json`` or ``FILE.json``.
    """
    name = entry.path.name
    if entry.kind == "leftover" and name.startswith("."):
        name = name[1:].rsplit(".", 2)[0]
    if entry.path.parent == cache.folder:
        return PINS_LOCK
    return f"{name.removesuffix('.part').removesuffix('.json')}.lock"
