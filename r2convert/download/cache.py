"""The cache folder: which files it holds, whether they are still intact, and its maintenance.

Light on purpose (no network, no numpy): ``r2convert list`` asks it about every variant.

Layout: finished files lie in the folder itself, under the catalogue's file names; ``partial/`` holds
downloads that can be continued, ``bad/`` the last wrong file of each name, ``locks/`` one lock a file, and
``pins.json`` the recorded hashes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

from r2convert.catalog.variant import Source
from r2convert.download.pins import ANOTHER_FOLDER, Expectation, Objection, Pin, PinBook, Trust
from r2convert.errors import AccessError, CacheError, CatalogError, NoSpaceError, OutputExistsError, UsageError
from r2convert.files import DISK_FULL, PART_SUFFIX, copy_verified, sha256_of

EntryState = Literal["file", "damaged", "partial", "bad", "leftover"]

PINS_NAME = "pins.json"
OLD_PINS_NAME = "pins.toml"

PINS_LOCK = ".pins.lock"
"""Not the lock of any file: their names do not begin with a dot."""

_POLL_SECONDS = 0.1

FOUND_HERE = "found in the cache"
"""Origin of a file that somebody put into the cache folder by hand."""


class CachedFile(Struct, frozen=True):
    """A finished file whose bytes were checked.

    Args:
        path: where it is.
        size: bytes.
        sha256: full SHA-256, hex.
        trust: ``pinned``: the full hash is the catalogue's; ``seen``: the hash begins as published, and the full
            one was recorded at first sight; ``unknown``: nobody publishes a hash, only later changes are noticed.
        origin: the URL or path it came from.
    """

    path: Path
    size: int
    sha256: str
    trust: Trust
    origin: str


class DamagedFile(Struct, frozen=True):
    """A file under a final name that is not what it should be."""

    path: Path
    objection: Objection


class CacheEntry(NamedTuple):
    """One file in the cache folder.

    Args:
        path: where it is.
        size: bytes.
        state: ``file``: under a final name; ``damaged``: it is not what it should be; ``partial``: a download that can
            be continued; ``bad``: a wrong file kept for inspection; ``leftover``: of a process that was killed while
            it wrote a record.
        trust: how well its hash is known; ``None`` where it was not checked or the catalogue does not know the file.
        sha256: its hash, hex, where one is recorded.
        origin: where it came from, where that is recorded.
    """

    path: Path
    size: int
    state: EntryState
    trust: Trust | None = None
    sha256: str | None = None
    origin: str | None = None


class Cache:
    """A cache folder. Creating the object touches nothing on disk.

    Args:
        folder: the folder; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partial_folder = folder / "partial"
        self.bad_folder = folder / "bad"
        self.lock_folder = folder / "locks"
        self.pins = PinBook(folder / PINS_NAME, self.lock_folder / PINS_LOCK)

    @classmethod
    def default(cls) -> Cache:
        """Return the cache at ``R2CONVERT_CACHE``, or in the platform's folder for user caches."""
        chosen = os.environ.get("R2CONVERT_CACHE")
        if chosen:
            return cls(Path(chosen).expanduser().absolute())
        from platformdirs import user_cache_path  # here: not needed when the variable is set

        return cls(user_cache_path("r2convert", appauthor=False))

    def path_of(self, source: Source) -> Path:
        """Return where the finished file of ``source`` lies, or will lie.

        Raises:
            CatalogError: its name is no plain file name, or one the cache needs for itself.
        """
        name = source.file_name
        taken = ("", PINS_NAME, OLD_PINS_NAME, self.partial_folder.name, self.bad_folder.name, self.lock_folder.name)
        if name in taken or name.startswith(".") or not name.isprintable() or "/" in name or "\\" in name:
            raise CatalogError(f"a cached file cannot be called {name!r}", expected="a plain file name")
        return self.folder / name

    def expectation(self, source: Source) -> Expectation:
        """Return what the file of ``source`` must be, by catalogue and record.

        Raises:
            CacheError: the record cannot be read.
        """
        return Expectation.of(source, self.pins.get(source.file_name))

    def lookup(self, source: Source) -> CachedFile | None:
        """Return the finished file of ``source`` if it is there and sound, as :meth:`examine` finds it."""
        found = self.examine(source)
        return found if isinstance(found, CachedFile) else None

    def examine(self, source: Source, *, hash_again: bool = False) -> CachedFile | DamagedFile | None:
        """Tell a sound file from a damaged and from a missing one.

        The size and the recorded hash are checked; the file is read again where its size or modification
        time has changed since it was last hashed.

        Args:
            source: whose file.
            hash_again: read the file even if nothing speaks for a change.

        Raises:
            CacheError: the record or the file cannot be read.
        """
        path = self.path_of(source)
        with disk_errors(path):
            try:
                state = path.stat()
            except FileNotFoundError:
                return None
        pin = self.pins.get(source.file_name)
        unchanged = pin is not None and (pin.size, pin.modified_ns) == (state.st_size, state.st_mtime_ns)
        if pin is not None and unchanged and not hash_again:
            sha256, size = pin.sha256, pin.size
        else:
            with disk_errors(path):
                sha256, size = sha256_of(path)
        wanted = Expectation.of(source, pin)
        objection = wanted.objection(sha256, size)
        if objection is not None:
            return DamagedFile(path, objection)
        origin = pin.origin if pin else FOUND_HERE
        if not unchanged:
            # A read-only cache can still be used: the file is hashed every time.
            with contextlib.suppress(CacheError):
                self.pins.record(source.file_name, Pin(sha256, size, state.st_mtime_ns, origin))
        return CachedFile(path, size, sha256, wanted.trust, origin)

    def entries(self) -> list[CacheEntry]:
        """Return what lies in the cache folder, unchecked: files, partial downloads and bad files, by name.

        Raises:
            CacheError: the folder or the record cannot be read.
        """
        pins = self.pins.all()
        folders: tuple[tuple[Path, EntryState], ...] = (
            (self.folder, "file"),
            (self.partial_folder, "partial"),
            (self.bad_folder, "bad"),
        )
        found = []
        for folder, usual in folders:
            for path, state in self._states(folder, usual):
                pin = pins.get(path.name) if state == "file" else None
                recorded = (pin.sha256, pin.origin) if pin else ()
                found.append(CacheEntry(path, _size(path), state, None, *recorded))
        return found

    def _states(self, folder: Path, usual: EntryState) -> Iterator[tuple[Path, EntryState]]:
        """Yield the files of one folder, without the notes that belong to them."""
        paths = _paths(folder)
        for path in paths:
            if path.name.startswith(".") and path.name.endswith((PART_SUFFIX, ".tmp")):
                yield path, "leftover"
            elif usual == "partial" and path.suffix == ".json":
                if path.with_suffix(".part") not in paths:
                    yield path, "leftover"
            elif path not in (self.folder / PINS_NAME, self.folder / OLD_PINS_NAME):
                yield path, usual

    def prepare(self) -> None:
        """Create the folder and its sub-folders.

        Raises:
            CacheError: they cannot be made.
        """
        for folder in (self.folder, self.partial_folder, self.bad_folder, self.lock_folder):
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def lock(self, file_name: str, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of a file that is going to be written; ``tell`` once if another process has it.

        The operating system drops the lock of a process that dies, however it dies.

        Raises:
            CacheError: the lock file cannot be made.
        """
        from filelock import FileLock, Timeout  # here, as below: looking things up stays light

        lock = FileLock(self.lock_folder / f"{file_name}.lock")
        with disk_errors(self.lock_folder):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                tell(f"{file_name}: another process is working on it: waiting")
                lock.acquire(poll_interval=_POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def set_aside(self, path: Path, file_name: str) -> Path:
        """Move a wrong file out of the way, in place of the last one of that name; return its new path.

        Raises:
            CacheError: it cannot be moved.
        """
        target = self.bad_folder / file_name
        with disk_errors(path):
            self.bad_folder.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        return target


def _paths(folder: Path) -> list[Path]:
    """Return the files of a folder (links included, folders not), by name; none if it does not exist."""
    with disk_errors(folder):
        try:
            return sorted(path for path in folder.iterdir() if path.is_symlink() or not path.is_dir())
        except FileNotFoundError:
            return []


def _size(path: Path) -> int:
    """Return a file's size; 0 if it vanished since the folder was read, as another process may make it."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a failure to read or write in the cache into an error that says what is wrong.

    Raises:
        NoSpaceError: the disk is full.
        CacheError: anything else.
    """
    try:
        yield
    except (OSError, AccessError) as problem:
        cause = problem.__cause__ if isinstance(problem, AccessError) else problem
        kind: type[AccessError] = CacheError
        what = "the cache cannot be used"
        next_step = ANOTHER_FOLDER
        if isinstance(cause, FileNotFoundError):
            what = "a file or folder of the cache was removed while it was in use"
            next_step = "run the command again; nothing else may clear the cache meanwhile"
        elif isinstance(cause, OSError) and cause.errno in DISK_FULL:
            kind, what = NoSpaceError, "the disk is full"
            next_step = "free some space and run the command again: the download continues where it stopped"
        got = getattr(cause, "strerror", None) or str(cause)
        raise kind(what, where=str(path), got=got, next_step=next_step) from problem


def copy_to(file: CachedFile, folder: Path) -> Path:
    """Copy a cached file into a folder, which is created if needed; return the copy's path.

    It is hashed on the way. A copy that is already there is kept.

    Raises:
        OutputExistsError: a different file of that name is there.
        AccessError: reading or writing failed, or the bytes changed on the way.
    """
    target = folder / file.path.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sha256_of(target)[0] if target.exists() else None
        if there is None:
            # A dangling link is in nobody's way, and is not followed.
            copy_verified(file.path, target, sha256=file.sha256, overwrite=target.is_symlink())
    except OSError as problem:
        raise AccessError(
            "the copy cannot be written",
            where=str(target),
            got=problem.strerror or str(problem),
            next_step="choose another folder with --dest; the file itself is in the cache",
        ) from problem
    if there not in (None, file.sha256):
        raise OutputExistsError(
            "a different file of that name is already there",
            where=str(target),
            expected=f"SHA-256 {file.sha256}",
            got=f"SHA-256 {there}",
            next_step="move it away, or choose another folder with --dest",
        )
    return target


def recorded_digests() -> dict[str, str]:
    """File name -> the SHA-256 that a published file had when it was first downloaded here.

    A record that cannot be read tells nothing: whoever looks a file up in the cache hears of it.
    """
    try:
        return {name: pin.sha256 for name, pin in Cache.default().pins.all().items()}
    except CacheError:
        return {}


class Verified(NamedTuple):
    """The result of hashing a file again.

    Args:
        path: the file, where it is now.
        sha256: its hash, hex; ``None`` where it is damaged.
        objection: why it is not what it should be; ``None`` if it is sound.
        known: false where neither the catalogue nor the record knows the file.
    """

    path: Path
    sha256: str | None
    objection: Objection | None
    known: bool = True


def checked_entries(cache: Cache, sources: Iterable[Source]) -> list[CacheEntry]:
    """What lies in the cache folder; a file of ``sources`` that changed since it was last hashed is hashed again.

    Raises:
        CacheError: the folder, the record or a file cannot be read.
    """
    by_name = {source.file_name: source for source in sources}
    return [_checked(cache, entry, by_name.get(entry.path.name)) for entry in cache.entries()]


def _checked(cache: Cache, entry: CacheEntry, source: Source | None) -> CacheEntry:
    if entry.state != "file" or source is None:
        return entry
    found = cache.examine(source)
    if isinstance(found, CachedFile):
        return entry._replace(trust=found.trust, sha256=found.sha256, origin=found.origin)
    return CacheEntry(entry.path, entry.size, "damaged")


def verify_cache(
    cache: Cache,
    sources: Iterable[Source],
    following: Callable[[Sequence[CacheEntry]], Iterable[CacheEntry]] = iter,
) -> list[Verified]:
    """Hash every finished file in the cache again; damaged ones of ``sources`` are moved to the bad files.

    ``following`` gives out the files one by one, and so knows how far the work is.

    Raises:
        CacheError: the folder, the record or a file cannot be read.
    """
    by_name = {source.file_name: source for source in sources}
    files = [entry for entry in cache.entries() if entry.state == "file"]
    return [_verify(cache, entry, by_name.get(entry.path.name)) for entry in following(files)]


def _verify(cache: Cache, entry: CacheEntry, source: Source | None) -> Verified:
    path = entry.path
    with disk_errors(path):
        there = path.exists()
    if not there:
        return Verified(path, None, Objection("it is a dangling link", "a file", "nothing"))
    found = None if source is None else cache.examine(source, hash_again=True)
    if isinstance(found, CachedFile):
        return Verified(path, found.sha256, None)
    if isinstance(found, DamagedFile):
        return Verified(cache.set_aside(path, path.name), None, found.objection)
    # Such as the file of one of a user's own variants: only the record tells what it should be.
    with disk_errors(path):
        sha256, size = sha256_of(path)
    objection = Expectation(path.name, seen_sha256=entry.sha256).objection(sha256, size)
    return Verified(path, sha256, objection, known=entry.sha256 is not None)


def forget_hash(cache: Cache, file_name: str) -> Pin:
    """Forget the recorded hash of a file, so that a new one is accepted; return what was recorded.

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
    """Remove partial downloads, bad files and leftovers; return them, and those in use, which were left alone.

    Raises:
        CacheError: the folder cannot be read, or something in it cannot be removed.
    """
    removed: list[CacheEntry] = []
    busy: list[CacheEntry] = []
    for entry in cache.entries():
        if entry.state != "file":
            (removed if _remove(cache, entry) else busy).append(entry)
    return removed, busy


def _remove(cache: Cache, entry: CacheEntry) -> bool:
    """Remove one entry under the lock that its writer would hold; false if somebody holds it."""
    from filelock import FileLock, Timeout

    with disk_errors(entry.path):
        cache.lock_folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(cache.lock_folder / _lock_name(cache, entry), timeout=0):
                entry.path.unlink(missing_ok=True)
                if entry.state == "partial":
                    entry.path.with_suffix(".json").unlink(missing_ok=True)
        except Timeout:
            return False
    return True


def _lock_name(cache: Cache, entry: CacheEntry) -> str:
    """Return the name of the lock under which an entry is written."""
    if entry.path.parent == cache.folder:
        return PINS_LOCK
    name = entry.path.name
    if entry.state == "leftover" and name.startswith("."):
        name = name[1:].rsplit(".", 2)[0]  # .FILE.json.TOKEN.part
    return f"{name.removesuffix('.part').removesuffix('.json')}.lock"
