"""A source or a variant -> its verified file in the cache."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from msgspec import structs

from r2convert.catalog.catalog import Catalog
from r2convert.catalog.variant import FileFormat, Publisher, Source, Variant
from r2convert.download.addresses import Address, mirror_address, mirror_from_environment
from r2convert.download.cache import Cache, CachedFile, DamagedFile, today
from r2convert.download.partial import PartialFile, locked
from r2convert.download.pins import Expectation, Objection, Pin
from r2convert.download.transfer import FetchSettings, ProgressSink, SilentProgress, Transfer, copy_into
from r2convert.download.transport import MirrorFaultError, in_brief
from r2convert.errors import FetchError, MirrorsFailedError, OfflineError, R2ConvertError, UsageError, WrongFileError

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


def container_of(path: Path) -> tuple[str | None, str]:
    """Return a checkpoint's container (``None``: it cannot be read as one) and a description for people."""
    from r2convert.checkpoint.open import open_checkpoint  # here: most fetches are settled by their hash

    try:
        with open_checkpoint(path) as checkpoint:
            return checkpoint.container, f"a {checkpoint.container} file"
    except R2ConvertError as problem:
        return None, problem.got or problem.what


def objection_to_content(path: Path, file_format: FileFormat) -> Objection | None:
    """Say why a file cannot be a checkpoint of this format; ``None`` if it reads as a whole one."""
    container, description = container_of(path)
    if container in _CONTAINERS[file_format]:
        return None
    return Objection("it is no sound file of this format", f"a {file_format} file", description)


def choose_source(variant: Variant, publisher: Publisher | None = None) -> Source:
    """Return a variant's first source, or its first source from one publisher.

    Raises:
        UsageError: there is none.
    """
    for source in variant.sources:
        if publisher is None or source.publisher == publisher:
            return source
    publishers = sorted({source.publisher for source in variant.sources})
    by_hand = (each for each in variant.weights if each.page and publisher in (None, each.publisher))
    raise UsageError(
        f"{variant.name} is not published by {publisher}"
        if publishers
        else f"no file of {variant.name} can be fetched",
        expected=" or ".join(publishers) or None,
        got=publisher,
        next_step=next((f"get it by hand from {each.page}: {each.note}" for each in by_hand), None),
    )


def choose_sources(
    catalog: Catalog, names: Sequence[str], publisher: Publisher | None = None
) -> list[tuple[Variant, Source]]:
    """Return the files of the variants of these names, each once, also if two names mean it.

    Without names, every architecture's first weights, but no detectors; of a publisher, all weights there are.

    Raises:
        UnknownVariantError: no variant has a name.
        UsageError: the publisher has no file of a variant, or none at all.
    """
    if publisher is not None and publisher not in catalog.publishers:
        raise UsageError("nobody publishes under this name", expected=" or ".join(catalog.publishers), got=publisher)
    if names:
        pairs = [(variant, choose_source(variant, publisher)) for variant in map(catalog.find, names)]
    else:
        pairs = [pair for variant in catalog.variants.values() for pair in _all_of(variant, publisher)]
    return list({source.file_name: (variant, source) for variant, source in pairs}.values())


def _all_of(variant: Variant, publisher: Publisher | None) -> list[tuple[Variant, Source]]:
    """What ``--all`` means of an architecture."""
    if publisher is None:
        first = [each for each in variant.weights if each.sources and not each.detector][:1]
    else:
        first = [each for each in variant.weights if each.sources and each.publisher == publisher]
    return [(variant, weights.sources[0]) for weights in first]


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
        progress: told about transfers, retries and waits.
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
    return job.run(_addresses(source, mirror_from_environment() if mirror is None else mirror, offline))


def bring_in(
    source: Source, path: Path, sha256: str, cache: Cache, *, progress: ProgressSink | None = None
) -> CachedFile:
    """Copy a file brought by hand into the cache, under the name of ``source``.

    Args:
        source: what it was recognised as.
        path: where it lies.
        sha256: what it was when it was recognised; a file that has changed since is refused.
        cache: where to.
        progress: told about the copy.

    Raises:
        FetchError: it cannot be read, or is not what the catalogue or the record says.
        CacheError: the cache cannot be read or written.
    """
    job = _Job(source, cache, progress or SilentProgress(), FetchSettings())
    return job.run([Address(str(path.absolute()))], sha256)


def _addresses(source: Source, mirror: str | None, offline: bool) -> list[Address]:
    texts = [mirror_address(mirror, source.file_name)] if mirror else []
    addresses = [Address.of(text) for text in (*texts, *source.urls)]
    return [address for address in addresses if not (offline and address.is_url)]


class _Job:
    """One file to bring into the cache."""

    def __init__(self, source: Source, cache: Cache, progress: ProgressSink, settings: FetchSettings) -> None:
        self._source = source
        self._cache = cache
        self._progress = progress
        self._settings = settings

    def run(self, addresses: list[Address], sha256: str | None = None) -> CachedFile:
        """Bring the file in from the first address that gives it; ``sha256``: what it has to be besides."""
        self._cache.prepare()
        with locked(self._cache.lock_folder, self._source.file_name, self._progress.message):
            found = self._cache.examine(self._source)  # another process may have finished while we waited
            if isinstance(found, CachedFile):
                return found
            if isinstance(found, DamagedFile):
                aside = self._cache.set_aside(found.path, self._source.file_name)
                self._tell(f"the cached file is damaged ({found.objection.reason}); it now lies at {aside}")
            if not addresses:
                raise _offline_error(self._source, self._cache)
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
                except MirrorFaultError as fault:
                    errors.append(fault.error)
                    if fault.host_down:
                        self._settings.hosts.mark_down(address.text)
                    if self._settings.cancelled.is_set():
                        break
                    if address != addresses[-1]:
                        self._tell(f"{in_brief(fault.error)}: trying the next address")
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
            objection = objection_to_content(partial.path, self._source.format)
            if objection is not None:
                return objection
        return wanted.objection(partial.sha256, partial.size)

    def _fill(self, address: Address, partial: PartialFile, wanted: Expectation) -> int:
        """Bring all bytes to the disk; return the file's modification time in ns."""
        if address.is_url:
            settings = self._settings
            if settings.hosts.is_down(address.text):  # asked again because nothing else is left: once is enough
                settings = replace(settings, patience=replace(settings.patience, attempts=1))
            Transfer(address, partial, wanted, settings, self._progress).run()
        else:
            copy_into(partial, Path(address.text), wanted, self._settings.largest_file, self._progress)
        return partial.finish()

    def _wrong_file(
        self, address: Address, partial: PartialFile, objection: Objection, wanted: Expectation
    ) -> MirrorFaultError:
        aside = self._cache.bad_folder / self._source.file_name
        container, description = container_of(partial.path)
        partial.move_aside(aside)
        next_step = "try another publisher with --from; a file you trust can be brought in with --import"
        if objection.expected == wanted.seen_sha256:
            next_step = f"if the publisher has replaced the file: r2convert cache --forget {self._source.file_name}"
        return MirrorFaultError(
            WrongFileError(
                f"this is not {self._source.file_name}: {objection.reason}",
                where=address.text,
                expected=objection.expected,
                got=f"{objection.got}{'' if container else f', {description}'} (kept for inspection: {aside})",
                next_step=next_step,
            )
        )

    def _keep(self, address: Address, partial: PartialFile, wanted: Expectation, modified_ns: int) -> CachedFile:
        target = self._cache.path_of(self._source)
        origin = partial.origin.url if partial.origin is not None else address.text
        # The record comes first: a file under its final name that nobody vouches for must never be seen.
        pin = Pin(partial.sha256, partial.size, modified_ns, origin, today())
        self._cache.pins.record(self._source.file_name, pin)
        partial.move_to(target)
        return CachedFile(target, partial.size, partial.sha256, wanted.trust, origin)

    def _tell(self, text: str) -> None:
        self._progress.message(f"{self._source.file_name}: {text}")


def _offline_error(source: Source, cache: Cache) -> OfflineError:
    return OfflineError(
        f"{source.file_name} is not in the cache, and the network may not be used",
        where=str(cache.folder),
        next_step="fetch it without --offline, bring it with `r2convert fetch --import FILE`, "
        "or set R2CONVERT_MIRROR to a folder that holds it",
    )


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one source: a file, or the error that kept it away."""

    source: Source
    file: CachedFile | None = None
    error: R2ConvertError | None = None


def fetch_sources(
    sources: Sequence[Source],
    cache: Cache,
    *,
    at_once: int = 4,
    offline: bool = False,
    mirror: str | None = None,
    progress: ProgressSink | None = None,
    settings: FetchSettings | None = None,
) -> list[Outcome]:
    """Fetch files in parallel; one that fails does not stop the others.

    Args:
        sources: what to fetch.
        cache: where to.
        at_once: parallel downloads.
        offline: use no network.
        mirror: base URL or folder tried first; by default ``R2CONVERT_MIRROR``.
        progress: told about every transfer, from several threads.
        settings: limits; hosts that fail are remembered in it for the files that come later.

    Returns:
        One outcome a source, in the order of ``sources``.

    Raises:
        KeyboardInterrupt: transfers end, what has arrived stays and is continued by the next run.
    """
    settings = settings or FetchSettings()
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = queue.SimpleQueue()
    for index in range(len(sources)):
        waiting.put(index)

    def work() -> None:
        while not settings.cancelled.is_set():
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            source = sources[index]
            try:
                file = fetch_source(source, cache, offline=offline, mirror=mirror, progress=progress, settings=settings)
                done.put((index, Outcome(source, file=file)))
            except R2ConvertError as error:
                done.put((index, Outcome(source, error=error)))
            except BaseException as mistake:  # it goes to the caller's thread, which raises it
                done.put((index, mistake))

    # Daemons: a thread that waits for a silent server must not delay an interrupted program. What it leaves
    # behind is what a killed process leaves: a partial file that can be continued.
    for _ in range(min(at_once, len(sources))):
        threading.Thread(target=work, daemon=True).start()
    return _collect(done, len(sources), settings)


def _collect(
    done: queue.SimpleQueue[tuple[int, Outcome | BaseException]], count: int, settings: FetchSettings
) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    try:
        while len(outcomes) < count:
            index, outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes[index] = outcome
    except BaseException:
        settings.cancelled.set()
        raise
    return [outcomes[index] for index in range(count)]
