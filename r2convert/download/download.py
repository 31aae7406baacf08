"""A source, or an imported file -> its verified file in the cache."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from msgspec import structs

from r2convert.catalog.variant import FileFormat, Publisher, Source, Variant
from r2convert.download.addresses import Address, mirror_address
from r2convert.download.cache import Cache, CachedFile, DamagedFile
from r2convert.download.partial import PartialFile
from r2convert.download.pins import Expectation, Objection, Pin
from r2convert.download.transfer import FetchSettings, ProgressSink, SilentProgress, Transfer, copy_into
from r2convert.download.transport import in_brief
from r2convert.errors import (
    AccessError,
    FetchError,
    MirrorsFailedError,
    OfflineError,
    R2ConvertError,
    UnknownFileError,
    UsageError,
    WrongFileError,
)
from r2convert.files import sha256_of


def fetch_source(
    source: Source,
    cache: Cache,
    *,
    offline: bool = False,
    mirror: str | None = None,
    progress: ProgressSink | None = None,
    settings: FetchSettings | None = None,
) -> CachedFile:
    """Return the verified file of a source, from the cache or else from its addresses in turn.

    Args:
        source: what to fetch.
        cache: where to.
        offline: use no network (a mirror that is a folder may still be read).
        mirror: base URL or folder tried first; by default ``R2CONVERT_MIRROR``; empty: none.
        progress: receives transfers, retries and waits.
        settings: limits, and what a run remembers.

    Raises:
        OfflineError: it is not in the cache and ``offline`` is set.
        FetchError: the file could not be downloaded; the class says why, or :class:`MirrorsFailedError` lists it.
        CacheError: the cache cannot be read or written.
    """
    found = cache.lookup(source)
    if found is not None:
        return found
    job = _Job(source, cache, progress or SilentProgress(), settings or FetchSettings())
    mirror = os.environ.get("R2CONVERT_MIRROR") if mirror is None else mirror
    addresses = [mirror_address(mirror, source.file_name)] if mirror else []
    addresses += [Address.of(url) for url in source.urls]
    return job.run([address for address in addresses if not (offline and address.is_url)])


class Outcome(NamedTuple):
    """The outcome for one source: a file, or the error that prevented it."""

    file: CachedFile | None = None
    error: R2ConvertError | None = None


def fetch_sources(
    sources: Sequence[Source],
    cache: Cache,
    *,
    at_once: int = 4,
    offline: bool = False,
    progress: ProgressSink | None = None,
    settings: FetchSettings | None = None,
) -> list[Outcome]:
    """Fetch files in parallel; one that fails does not stop the others.

    Args:
        sources: what to fetch.
        cache: where to.
        at_once: parallel downloads.
        offline: use no network.
        progress: receives every transfer, from several threads.
        settings: limits; hosts that fail are remembered in it for the files that come later.

    Returns:
        One outcome a source, in the order of ``sources``.

    Raises:
        KeyboardInterrupt: transfers end, what has arrived stays and is continued by the next run.
    """
    settings = settings or FetchSettings()
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(sources)):
        waiting.put(index)
    outcomes: dict[int, Outcome] = {}
    mistakes: list[BaseException] = []

    def work() -> None:
        try:
            while not settings.cancelled.is_set():
                index = waiting.get_nowait()
                outcomes[index] = _outcome(sources[index], cache, offline, progress, settings)
        except queue.Empty:
            return
        except BaseException as mistake:  # it goes to the caller's thread, which raises it
            mistakes.append(mistake)
            settings.cancelled.set()

    # Daemons: a thread that waits for a silent server must not delay an interrupted program. What it leaves
    # behind is what a killed process leaves: a partial file that can be continued.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(at_once, len(sources)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        settings.cancelled.set()
        raise
    if mistakes:
        raise mistakes[0]
    return [outcomes[index] for index in range(len(sources))]


def _outcome(
    source: Source, cache: Cache, offline: bool, progress: ProgressSink | None, settings: FetchSettings
) -> Outcome:
    try:
        return Outcome(fetch_source(source, cache, offline=offline, progress=progress, settings=settings))
    except R2ConvertError as error:
        return Outcome(error=error)


Fits = Callable[[Path, Variant, Source], bool]
"""Whether a file's names and shapes are those of a variant in the layout of a source."""


class Imported(NamedTuple):
    """An imported file.

    Args:
        variant: whose weights it holds.
        source: the published file it is.
        file: where it is now.
        note: how it was recognised, for people.
    """

    variant: Variant
    source: Source
    file: CachedFile
    note: str


def import_file(
    path: Path,
    variants: Iterable[Variant],
    cache: Cache,
    *,
    fits: Fits,
    publisher: Publisher | None = None,
    progress: ProgressSink | None = None,
) -> Imported:
    """Recognise a file by its hash, else by its content, and copy it into the cache.

    Content counts only for published files of which no hash is known: where one is, a file with another hash
    is not that file, whatever it holds.

    Args:
        path: the file.
        variants: what it may be.
        cache: where to.
        fits: looks into the file; called only if no hash decides.
        publisher: whose file it is, where the content alone cannot tell.
        progress: receives the progress of the copy.

    Raises:
        UnknownFileError: it is no published file that is known, or no file at all.
        UsageError: it could be one of several.
        WrongFileError: another file was recorded under its name before.
        AccessError: it cannot be read, or the cache cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            raise UnknownFileError(
                "this is not a regular file", where=str(path), next_step="give the path of the downloaded file"
            )
        sha256, size = sha256_of(path)
    except OSError as problem:
        raise AccessError("the file cannot be read", where=str(path), got=problem.strerror or str(problem)) from problem
    candidates = [
        (variant, source)
        for variant in variants
        for source in variant.sources
        if publisher is None or source.publisher == publisher
    ]
    chosen = _by_hash(candidates, sha256, size, path, cache)
    note = "recognised by its hash"
    if chosen is None:
        chosen = _by_content(candidates, path, sha256, fits, cache)
        note = "recognised by its content only: nobody publishes a hash of this file, so it may not be the original"
    variant, source = chosen
    job = _Job(source, cache, progress or SilentProgress(), FetchSettings())
    file = job.run([Address(str(path.absolute()))], sha256)
    if file.sha256 != sha256:
        note = "not imported: another file is already in the cache under its name"
    return Imported(variant, source, file, note)


def _by_hash(
    candidates: list[tuple[Variant, Source]], sha256: str, size: int, path: Path, cache: Cache
) -> tuple[Variant, Source] | None:
    """Return the published file with this hash or this beginning of it, if there is one."""
    for variant, source in candidates:
        wanted = cache.expectation(source)
        if wanted.sha256 == sha256:
            return variant, source
        begins_so = wanted.sha256_prefix is not None and sha256.startswith(wanted.sha256_prefix.lower())
        objection = wanted.objection(sha256, size) if begins_so else None
        if objection is not None:
            raise WrongFileError(
                f"this is not {source.file_name}: {objection.reason}",
                where=str(path),
                expected=objection.expected,
                got=objection.got,
                next_step="if the recorded file was the wrong one, run "
                f"`r2convert cache --forget {source.file_name}` and import again",
            )
        if begins_so:
            return variant, source
    return None


def _by_content(
    candidates: list[tuple[Variant, Source]], path: Path, sha256: str, fits: Fits, cache: Cache
) -> tuple[Variant, Source]:
    """Return the one published file without a known hash that this file can be."""
    matching = [
        (variant, source)
        for variant, source in candidates
        if not cache.expectation(source).hash_is_known
        and _objection_to_content(path, source.format) is None
        and fits(path, variant, source)
    ]
    if not matching:
        raise UnknownFileError(
            "this is none of the published files",
            where=str(path),
            expected="a file whose SHA-256 begins as published, or one whose hash nobody publishes",
            got=f"SHA-256 {sha256}",
            next_step="a file of your own needs no import: give it to `r2convert map --src` or `verify`",
        )
    # Two trainings of one network have equal names and shapes: the name that a browser left tells them apart.
    matching = [pair for pair in matching if pair[1].file_name == path.name] or matching
    if len(matching) > 1:
        raise UsageError(
            "the file's content fits several published files",
            where=str(path),
            expected="one of " + ", ".join(source.file_name for _, source in matching),
            next_step=f"say which weights, such as {matching[0][1].weights}, or the publisher with --from",
        )
    return matching[0]


class _Job:
    """One file to bring into the cache."""

    def __init__(self, source: Source, cache: Cache, progress: ProgressSink, settings: FetchSettings) -> None:
        self._source = source
        self._cache = cache
        self._progress = progress
        self._settings = settings

    def run(self, addresses: list[Address], sha256: str | None = None) -> CachedFile:
        """Fetch the file from the first address that works; ``sha256``: what it must also be."""
        self._cache.prepare()
        with self._cache.lock(self._source.file_name, self._progress.message):
            found = self._cache.examine(self._source)  # another process may have finished while we waited
            if isinstance(found, CachedFile):
                return found
            if isinstance(found, DamagedFile):
                aside = self._cache.set_aside(found.path, self._source.file_name)
                self._tell(f"the cached file is damaged ({found.objection.reason}); it was moved to {aside}")
            if not addresses:
                raise OfflineError(
                    f"{self._source.file_name} is not in the cache, and the network may not be used",
                    where=str(self._cache.folder),
                    next_step="fetch it without --offline, bring it with `r2convert fetch --import FILE`, "
                    "or set R2CONVERT_MIRROR to a folder that holds it",
                )
            wanted = self._cache.expectation(self._source)
            if sha256 is not None and wanted.sha256 is None:
                wanted = structs.replace(wanted, seen_sha256=sha256)
            try:
                return self._try_all(self._settings.hosts.in_order(addresses), wanted)
            finally:
                self._progress.finished(self._source.file_name)

    def _try_all(self, addresses: list[Address], wanted: Expectation) -> CachedFile:
        errors: list[FetchError] = []
        with PartialFile(self._cache.partial_folder, self._source.file_name) as partial:
            for address in addresses:
                try:
                    return self._from_address(address, partial, wanted)
                except FetchError as error:
                    errors.append(error)
                    if error.host_down:
                        self._settings.hosts.mark_down(address)
                    if self._settings.cancelled.is_set():
                        break
                    if address != addresses[-1]:
                        self._tell(f"{in_brief(error)}: trying the next address")
        raise _failure(self._source, errors)

    def _from_address(self, address: Address, partial: PartialFile, wanted: Expectation) -> CachedFile:
        modified_ns = self._fill(address, partial, wanted)
        objection = self._objection(partial, wanted)
        if objection is not None and not partial.one_piece:
            # The pieces may be of two files, or the first may not have survived a power cut.
            self._tell(f"starting over: the parts do not add up to the file ({objection.reason})")
            partial.discard()
            modified_ns = self._fill(address, partial, wanted)
            objection = self._objection(partial, wanted)
        if objection is not None:
            raise self._wrong_file(address, partial, objection, wanted)
        return self._keep(address, partial, wanted, modified_ns)

    def _objection(self, partial: PartialFile, wanted: Expectation) -> Objection | None:
        if not wanted.hash_decides:
            objection = _objection_to_content(partial.path, self._source.format)
            if objection is not None:
                return objection
        return wanted.objection(partial.sha256, partial.size)

    def _fill(self, address: Address, partial: PartialFile, wanted: Expectation) -> int:
        """Bring all bytes to the disk; return the file's modification time in ns."""
        if address.is_url:
            settings = self._settings
            if settings.hosts.is_down(address):  # asked again because nothing else is left: once is enough
                settings = replace(settings, patience=replace(settings.patience, attempts=1))
            Transfer(address, partial, wanted, settings, self._progress).run()
        else:
            copy_into(partial, Path(address.text), wanted, self._settings.largest_file, self._progress)
        return partial.finish()

    def _wrong_file(
        self, address: Address, partial: PartialFile, objection: Objection, wanted: Expectation
    ) -> FetchError:
        aside = self._cache.bad_folder / self._source.file_name
        container, description = _container_of(partial.path)
        partial.move_to(aside)
        next_step = "try another publisher with --from; a file you trust can be brought in with --import"
        if objection.expected == wanted.seen_sha256:
            next_step = f"if the publisher has replaced the file: r2convert cache --forget {self._source.file_name}"
        return WrongFileError(
            f"this is not {self._source.file_name}: {objection.reason}",
            where=address.text,
            expected=objection.expected,
            got=f"{objection.got}{'' if container else f', {description}'} (kept for inspection: {aside})",
            next_step=next_step,
        )

    def _keep(self, address: Address, partial: PartialFile, wanted: Expectation, modified_ns: int) -> CachedFile:
        origin = partial.origin.url if partial.origin is not None else address.text
        path = self._cache.path_of(self._source)
        file = CachedFile(path, partial.size, partial.sha256, wanted.trust, origin)
        # The record comes first: a file under its final name that nobody vouches for must never be seen.
        self._cache.pins.record(self._source.file_name, Pin(file.sha256, file.size, modified_ns, origin))
        partial.move_to(path)
        return file

    def _tell(self, text: str) -> None:
        self._progress.message(f"{self._source.file_name}: {text}")


def _failure(source: Source, errors: list[FetchError]) -> FetchError:
    """Return the one error there is, or one that lists them all."""
    advice = (
        "try again later (a download continues where it stopped), set R2CONVERT_MIRROR, "
        "or bring the file by hand with `r2convert fetch --import FILE`"
    )
    if len(errors) == 1:
        errors[0].next_step = errors[0].next_step or advice
        return errors[0]
    lines = [f"{error.where}: {in_brief(error)}" for error in errors]
    return MirrorsFailedError(
        f"could not download {source.file_name}",
        where="\n            ".join(lines),
        next_step=advice,
    )


_CONTAINERS: Mapping[FileFormat, tuple[str, ...]] = MappingProxyType(
    {
        "pth": ("torch-zip", "torch-legacy", "torch-tar", "torch-hub-zip"),
        "safetensors": ("safetensors",),
        "pdparams": ("pdparams",),
        "tar": ("paddle-static",),
        "ckpt": ("mindspore",),
        "pkl": ("pdparams",),  # a pickle of NumPy arrays, as Jittor's is as well
    }
)
"""The containers that each published format may turn out to be."""


def _container_of(path: Path) -> tuple[str | None, str]:
    """Return a checkpoint's container (``None``: it cannot be read as one) and a description for people."""
    from r2convert.checkpoint.open import open_checkpoint  # here: most fetches are settled by their hash

    try:
        with open_checkpoint(path) as checkpoint:
            return checkpoint.container, f"a {checkpoint.container} file"
    except R2ConvertError as problem:
        return None, problem.got or problem.what


def _objection_to_content(path: Path, file_format: FileFormat) -> Objection | None:
    """Say why a file cannot be a checkpoint of this format; ``None`` if it reads as a whole one."""
    container, description = _container_of(path)
    if container in _CONTAINERS[file_format]:
        return None
    return Objection("it is no sound file of this format", f"a {file_format} file", description)
