"""The cache folder: which files are there, and whether they still are what they were.

Light on purpose (no network, no numpy): ``r2convert list`` asks it about every variant.

Layout: finished files lie in the folder itself, under the catalogue's file names; ``partial/`` holds
downloads that can be continued, ``bad/`` the last wrong file of each name, ``locks/`` one lock a file, and
``pins.json`` the recorded hashes.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct

from r2convert.catalog.variant import Source
from r2convert.download.pins import Expectation, Objection, Pin, PinBook, Trust
from r2convert.errors import AccessError, CacheError, CatalogError, OutputExistsError
from r2convert.files import PART_SUFFIX, copy_verified, sha256_of

EntryKind = Literal["file", "partial", "bad", "leftover"]

PINS_NAME = "pins.json"
OLD_PINS_NAME = "pins.toml"

PINS_LOCK = ".pins.lock"
"""No file's lock: names of files do not begin with a dot."""

FOUND_HERE = "found in the cache"
"""Origin of a file that somebody put into the cache folder by hand."""


class CachedFile(Struct, frozen=True):
    """A finished file whose bytes were checked.

    Args:
        path: where it lies.
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


class CacheEntry(Struct, frozen=True):
    """One file in the cache folder, as it lies there, unchecked.

    Args:
        path: where it lies.
        kind: ``file``: under a final name; ``partial``: a download that can be continued; ``bad``: a wrong file
            kept for inspection; ``leftover``: of a process that was killed while it wrote a record.
        size: bytes.
        pin: what is recorded of it, for files.
    """

    path: Path
    kind: EntryKind
    size: int
    pin: Pin | None = None


class Cache:
    """A cache folder. Making the object touches nothing on disk.

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
        pin = self.pins.get(source.file_name)
        return Expectation.of(source, pin.sha256 if pin else None, pin.size if pin else None)

    def lookup(self, source: Source) -> CachedFile | None:
        """Return the finished file of ``source`` if it is there and sound.

        The size and the recorded hash are checked; the file is read again where its size or modification
        time has changed since it was last hashed.

        Raises:
            CacheError: the record or the file cannot be read.
        """
        found = self.examine(source)
        return found if isinstance(found, CachedFile) else None

    def examine(self, source: Source, *, hash_again: bool = False) -> CachedFile | DamagedFile | None:
        """Tell a sound file from a damaged and from a missing one.

        Args:
            source: whose file.
            hash_again: read the file even if nothing speaks for a change.

        Raises:
            CacheError: the record or the file cannot be read.
        """
        path = self.path_of(source)
        try:
            state = path.stat()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise _unusable(path, problem) from problem
        pin = self.pins.get(source.file_name)
        unchanged = pin is not None and (pin.size, pin.modified_ns) == (state.st_size, state.st_mtime_ns)
        if pin is not None and unchanged and not hash_again:
            sha256, size, origin = pin.sha256, pin.size, pin.origin
        else:
            try:
                sha256, size = sha256_of(path)
            except OSError as problem:
                raise _unusable(path, problem) from problem
            origin = pin.origin if pin else FOUND_HERE
        wanted = self.expectation(source)
        objection = wanted.objection(sha256, size)
        if objection is not None:
            return DamagedFile(path, objection)
        if not unchanged:
            self._remember(source, Pin(sha256, size, state.st_mtime_ns, origin, today()))
        return CachedFile(path, size, sha256, wanted.trust, origin)

    def entries(self) -> tuple[CacheEntry, ...]:
        """Return what lies in the cache folder: files, partial downloads and bad files, by name.

        Raises:
            CacheError: the folder or the record cannot be read.
        """
        pins = self.pins.all()
        return tuple(
            CacheEntry(path, kind, _size(path), pins.get(path.name) if kind == "file" else None)
            for folder, usual in self._folders()
            for path, kind in self._kinds(folder, usual)
        )

    def _folders(self) -> tuple[tuple[Path, EntryKind], ...]:
        return (self.folder, "file"), (self.partial_folder, "partial"), (self.bad_folder, "bad")

    def _kinds(self, folder: Path, usual: EntryKind) -> list[tuple[Path, EntryKind]]:
        """Return what lies in one folder, without the notes that belong to it and are no files of their own."""
        paths = self._paths(folder)
        names = {path.name for path in paths}
        found: list[tuple[Path, EntryKind]] = []
        for path in paths:
            if path.name.startswith(".") and path.name.endswith((PART_SUFFIX, ".tmp")):
                found.append((path, "leftover"))
            elif usual == "partial" and path.name.endswith(".json"):
                if path.name.removesuffix(".json") + ".part" not in names:
                    found.append((path, "leftover"))
            elif path not in (self.folder / PINS_NAME, self.folder / OLD_PINS_NAME):
                found.append((path, usual))
        return found

    @staticmethod
    def _paths(folder: Path) -> list[Path]:
        """Return the files of a folder (links included, folders not), by name; none if it does not exist."""
        try:
            return sorted(path for path in folder.iterdir() if path.is_symlink() or not path.is_dir())
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise _unusable(folder, problem) from problem

    def _remember(self, source: Source, pin: Pin) -> None:
        try:
            self.pins.record(source.file_name, pin)
        except CacheError:
            # A cache that may only be read is still good for reading: the file is hashed at every use.
            return

    def prepare(self) -> None:
        """Make the folder and its sub-folders.

        Raises:
            CacheError: they cannot be made.
        """
        for folder in (self.folder, self.partial_folder, self.bad_folder, self.lock_folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                raise _unusable(folder, problem) from problem

    def set_aside(self, path: Path, file_name: str) -> Path:
        """Move a wrong file out of the way, in place of the last one of that name; return its new path.

        Raises:
            CacheError: it cannot be moved.
        """
        target = self.bad_folder / file_name
        try:
            self.bad_folder.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except OSError as problem:
            raise _unusable(path, problem) from problem
        return target


def _size(path: Path) -> int:
    """Return a file's size; 0 if it vanished since the folder was read, as another process may make it."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def today() -> str:
    """Return the date (UTC) as pins record it."""
    return datetime.now(UTC).date().isoformat()


def _unusable(path: Path, problem: OSError) -> CacheError:
    return CacheError(
        "the cache cannot be used",
        where=str(path),
        got=problem.strerror or str(problem),
        next_step="check its permissions, or set R2CONVERT_CACHE to a folder you can read and write",
    )


def copy_to(file: CachedFile, folder: Path) -> Path:
    """Copy a cached file into a folder, hashing it on the way; a copy that is already there is kept.

    Args:
        file: what to copy.
        folder: where to; made if need be.

    Returns:
        The copy's path.

    Raises:
        OutputExistsError: a different file of that name is there.
        AccessError: reading or writing failed, or the bytes changed on the way.
    """
    target = folder / file.path.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return _existing(target, file)
        # A link that leads nowhere is in nobody's way, and is not followed.
        copy_verified(file.path, target, sha256=file.sha256, overwrite=target.is_symlink())
    except OSError as problem:
        raise AccessError(
            "the copy cannot be written",
            where=str(target),
            got=problem.strerror or str(problem),
            next_step="choose another folder with --dest; the file itself is in the cache",
        ) from problem
    return target


def _existing(target: Path, file: CachedFile) -> Path:
    sha256, _ = sha256_of(target)
    if sha256 == file.sha256:
        return target
    raise OutputExistsError(
        "a different file of that name is already there",
        where=str(target),
        expected=f"SHA-256 {file.sha256}",
        got=f"SHA-256 {sha256}",
        next_step="move it away, or choose another folder with --dest",
    )


def recorded_digests() -> dict[str, str]:
    """File name -> the SHA-256 that a published file had when it was first downloaded here.

    A record that cannot be read tells nothing: whoever looks a file up in the cache hears of it.
    """
    try:
        return {name: pin.sha256 for name, pin in Cache.default().pins.all().items()}
    except CacheError:
        return {}
