"""What r2convert does, one typed function a command: the Python API, which the command line calls and then prints.

No function prints. What takes long reports to a callback, and what a user should know of a data set goes to ``warn``.
Every error is an :class:`~r2convert.errors.R2ConvertError`.

Only the catalogue is imported at the top, which every command needs. The reader and the tables would double the time
of ``r2convert list``, HTTP would slow conversions down, and torch takes seconds: they are imported where they are used.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, cast

from r2convert.catalog.loading import Catalog, load_catalog, load_layouts
from r2convert.catalog.printed import readable
from r2convert.catalog.protocol import ACCELERATIONS as ACCELERATIONS
from r2convert.catalog.protocol import INTERPOLATIONS as INTERPOLATIONS
from r2convert.catalog.protocol import PIPELINES as PIPELINES
from r2convert.catalog.protocol import PRECISIONS as PRECISIONS
from r2convert.catalog.protocol import Protocol, ProtocolOptions
from r2convert.catalog.variant import PEERS as PEERS
from r2convert.catalog.variant import WEIGHTS_LICENCE as WEIGHTS_LICENCE
from r2convert.catalog.variant import Layout as Layout
from r2convert.catalog.variant import Publisher as Publisher
from r2convert.catalog.variant import Source
from r2convert.catalog.variant import Variant as Variant
from r2convert.errors import AccessError, MappingError, R2ConvertError, UnsupportedCheckpointError, UsageError

if TYPE_CHECKING:
    from r2convert.catalog.protocol import Acceleration, Interpolation, Pipeline, Precision
    from r2convert.checkpoint.open import Checkpoint
    from r2convert.checks.run import ImageRun, Probes, Request
    from r2convert.doctor.trials import Progress as Progress
    from r2convert.download.cache import Cache, CacheEntry
    from r2convert.download.cache import CachedFile as CachedFile
    from r2convert.download.housekeeping import Verified as Verified
    from r2convert.download.importing import Imported as Imported
    from r2convert.download.pins import Pin
    from r2convert.download.transfer import ProgressSink
    from r2convert.evaluation.engine import AccuracyProgress as AccuracyProgress
    from r2convert.evaluation.engine import Network as Network
    from r2convert.evaluation.prediction_store import Measurement
    from r2convert.evaluation.preprocessor import Preprocessor as Preprocessor
    from r2convert.imagenet.validation_set import ValidationSet
    from r2convert.mapping.conversion import Conversion as Conversion
    from r2convert.mapping.identity import Resolution
    from r2convert.mapping.plan import Plan as Plan
    from r2convert.mapping.plan import PlanRow as PlanRow
    from r2convert.mapping.tables import Tables
    from r2convert.models.blocks import Classifier, FeatureExtractor
    from r2convert.results.diagnosis import Diagnosis as Diagnosis
    from r2convert.results.diagnosis import KnownScore
    from r2convert.results.documents import ChangedImage as ChangedImage
    from r2convert.results.documents import Comparison as Comparison
    from r2convert.results.documents import Container, PredictionFileSummary
    from r2convert.results.documents import Inspection as Inspection
    from r2convert.results.documents import LearnedLayout as LearnedLayout
    from r2convert.results.documents import PairedCounts as PairedCounts
    from r2convert.results.documents import PredictionComparison as PredictionComparison
    from r2convert.results.documents import PredictionsComparison as PredictionsComparison
    from r2convert.results.reading import Run as Run
    from r2convert.results.verification import Accuracy as Accuracy
    from r2convert.results.verification import ActivationComparison as ActivationComparison
    from r2convert.results.verification import CheckpointResult as CheckpointResult
    from r2convert.selftest.demo import DemoStage as DemoStage
    from r2convert.selftest.trial import Trial as Trial

TargetLayout = Layout
CastTo = Literal["float32", "float16", "bfloat16"]
Warn = Callable[[str], None]
Item = TypeVar("Item")
Choice = TypeVar("Choice", bound=str)


_FLOAT32_BYTES = 4
_HUB = "hf://"


def _ignore(_: object) -> None:
    """Whoever passes no callback is told nothing."""


# --- Variants and where their files are ------------------------------------------------------------------------------


class Located(NamedTuple):
    """A checkpoint to read.

    Args:
        path: where it is.
        variant: the variant that it was asked for as, if it was.
    """

    path: Path
    variant: Variant | None = None


FileOrVariant = str | os.PathLike[str] | Located


class ListedVariant(NamedTuple):
    """A variant as ``r2convert list`` shows it.

    Args:
        variant: the variant.
        cached: the file of each of its sources, in their order; ``None`` where it is not in the cache.
        published: metric -> what the official README prints, with its unit.
    """

    variant: Variant
    cached: tuple[CachedFile | None, ...]
    published: Mapping[str, str]


class TensorNames(NamedTuple):
    """A variant's tensors under the names of two layouts.

    Args:
        variant: id of the variant.
        source: one layout.
        target: the other.
        tensors: name in each (``None`` where it has none) and shape in the first, in network order.
    """

    variant: str
    source: str
    target: str
    tensors: tuple[tuple[str | None, str | None, tuple[int, ...]], ...]


def variants() -> tuple[Variant, ...]:
    """Every variant of the catalogue.

    Raises:
        CatalogError: a mapping file is damaged.
    """
    return tuple(load_catalog().variants.values())


def layouts(*, written: bool = False) -> tuple[str, ...]:
    """The names of the layouts; only those that a file can be written in if ``written``.

    Raises:
        CatalogError: a mapping file is damaged.
    """
    return tuple(layout.name for layout in load_layouts() if layout.written_as or not written)


def list_variants() -> list[ListedVariant]:
    """Every variant, what is published about it, and what of it is in the cache.

    Raises:
        CatalogError: a mapping file is damaged.
        CacheError: the cache cannot be read.
    """
    from r2convert.download.cache import Cache

    cache = Cache.default()
    return [
        ListedVariant(variant, tuple(cache.lookup(source) for source in variant.sources), _official_numbers(variant))
        for variant in variants()
    ]


def _official_numbers(variant: Variant) -> dict[str, str]:
    official = [claim for claim in variant.claims if claim.source == "official README"]
    return {claim.metric: readable(claim.printed, claim.unit) for claim in official}


def tensor_names(variant: str, *, source: Layout | None = None, target: Layout = "mm") -> TensorNames:
    """The names of a variant's tensors in two layouts, with their shapes.

    Args:
        variant: any name of the variant.
        source: the layout of the first column; by default that of its official file.
        target: the layout of the second column.

    Raises:
        UnknownVariantError: no variant has this name.
        UsageError: the variant does not exist in one of the layouts.
    """
    tables = _tables()
    found = tables.catalog.find(variant)
    first = source or ("official" if "official" in tables.of(found).table.layouts else found.sources[0].layout)
    for layout in (first, target):
        tables.require_layout(found, layout)
    expansion = tables.of(found)
    rows = (
        (slot.names.get(first), slot.names.get(target), expansion.shape_in(first, slot))
        for slot in expansion.slots
        if first in slot.names or target in slot.names
    )
    return TensorNames(found.id, first, target, tuple(rows))


def locate(checkpoint: FileOrVariant, *, fetch: bool = False, progress: ProgressSink | None = None) -> Located:
    """Tell a path from a variant's name, and find the variant's file in the cache.

    Args:
        checkpoint: a path object, which is always a path; or a string, which is a name if it has neither a slash nor
            a suffix and no such file exists. ``hf://ORG/REPO[@REVISION][/FILE]`` is a file on the Hugging Face hub.
        fetch: download the file of a variant or of the hub if it is not in the cache.
        progress: told about the download.

    Raises:
        AccessError: the variant's file is not in the cache, is damaged there, or could not be downloaded.
        UnknownVariantError: it looks like a name, and no variant has it.
        UsageError: it is empty.
    """
    # A path is told without the catalogue, which takes longer to read than a small file.
    return _locate(lambda name: load_catalog().find(name), checkpoint, fetch=fetch, progress=progress)


def _locate(
    find: Callable[[str], Variant],
    checkpoint: FileOrVariant,
    *,
    fetch: bool = False,
    progress: ProgressSink | None = None,
) -> Located:
    if isinstance(checkpoint, Located):
        return checkpoint
    if isinstance(checkpoint, str) and checkpoint.startswith(_HUB):
        return Located(_from_hub(checkpoint, fetch=fetch, progress=progress).path, None)
    from r2convert.download.locating import locate as look_up
    from r2convert.download.locating import refuse_damaged

    path, variant = look_up(find, checkpoint)
    if path is not None:
        return Located(path, variant)
    assert variant is not None  # noqa: S101 - only a variant has no path
    from r2convert.download.cache import Cache

    cache = Cache.default()
    if fetch:
        from r2convert.download.download import fetch_variant

        return Located(fetch_variant(variant, cache, progress=progress).path, variant)
    refuse_damaged(variant)
    raise AccessError(
        f"{variant.id} is not in the cache",
        where=str(cache.folder),
        next_step=_how_to_get(variant) if variant.sources else "nobody publishes it: give the path of your own file",
    )


def _from_hub(reference: str, *, fetch: bool, progress: ProgressSink | None) -> CachedFile:
    from r2convert.download.cache import Cache
    from r2convert.download.hub import cached_hub_file, fetch_hub_file  # here: they bring in the HTTP library

    cache = Cache.default()
    if fetch:
        return fetch_hub_file(reference, cache, progress=progress)
    found = cached_hub_file(reference, cache)
    if found is None:
        raise AccessError(f"{reference} is not in the cache", where=str(cache.folder), next_step="--fetch downloads it")
    return found


def _how_to_get(variant: Variant) -> str:
    size = variant.sources[0].size
    claim = next((claim for claim in variant.claims if claim.metric == "parameters"), None)
    download = "downloads it"
    if size is not None:
        download += f" ({size / 1e6:.0f} MB)"
    elif claim is not None:
        download += f" (about {_FLOAT32_BYTES * Decimal(claim.printed):.0f} MB)"
    return f"`r2convert fetch {variant.id}`, or --fetch, {download}; in Python `r2convert.fetch({variant.id!r})`"


def _tables() -> Tables:
    from r2convert.mapping.tables import Tables

    return Tables(load_catalog())


# --- fetch and cache -------------------------------------------------------------------------------------------------


class FetchedFiles(NamedTuple):
    """What became of the files that were asked for.

    Args:
        files: variant (none for a file of the hub) and file, in the order in which they were asked for.
        errors: why others could not be had.
    """

    files: tuple[tuple[Variant | None, CachedFile], ...]
    errors: tuple[R2ConvertError, ...]


def fetch(
    variant: str,
    *,
    publisher: Publisher | None = None,
    offline: bool = False,
    progress: ProgressSink | None = None,
) -> CachedFile:
    """Return a variant's file from the cache; download and verify it first if it is not there.

    An interrupted download is continued by the next call. The environment variables ``R2CONVERT_CACHE`` (the cache
    folder) and ``R2CONVERT_MIRROR`` (a base URL or a folder to try first) count as on the command line.

    Args:
        variant: any name of the variant, e.g. ``res2net50_w14_s8`` or ``Res2Net-50-14w-8s``; or a file on the Hugging
            Face hub, ``hf://ORG/REPO[@REVISION][/FILE]``.
        publisher: whose file: ``official``, ``openmmlab``, ``timm`` or ``paddle``; by default the variant's first.
        offline: use no network: the file is in the cache or in a mirror that is a folder, or this fails.
        progress: told about the transfer, from another thread; nothing is printed.

    Returns:
        Where the file lies, its size in bytes, its SHA-256, and how far the hash is known.

    Raises:
        UnknownVariantError: no variant has this name.
        UsageError: the publisher has no file of the variant.
        FetchError: the file could not be downloaded; the class says why.
        CacheError: the cache cannot be read or written.

    Examples:
        >>> from r2convert import fetch
        >>> file = fetch("res2net50_w14_s8")
        >>> file.path.name
        'res2net50_14w_8s-6527dddc.pth'
    """
    from r2convert.download.cache import Cache
    from r2convert.download.download import fetch_variant

    if variant.startswith(_HUB):
        from r2convert.download.hub import fetch_hub_file

        return fetch_hub_file(variant, Cache.default(), offline=offline, progress=progress)
    found = load_catalog().find(variant)
    return fetch_variant(found, Cache.default(), publisher=publisher, offline=offline, progress=progress)


def fetch_all(
    names: Sequence[str],
    *,
    publisher: Publisher | None = None,
    offline: bool = False,
    at_once: int = 4,
    display: Callable[[int], ProgressSink] | None = None,
) -> FetchedFiles:
    """Fetch several files at once; one that fails does not stop the others.

    Args:
        names: any names of the variants, or files of the hub as in :func:`fetch`; none for every variant (that the
            publisher has).
        publisher: whose files; by default each variant's first.
        offline: use no network.
        at_once: parallel downloads.
        display: given the number of files, gives what is told about the transfers, from several threads.

    Raises:
        UnknownVariantError: no variant has a name.
        UsageError: the publisher has no file of a variant.
    """
    from r2convert.download.cache import Cache
    from r2convert.download.download import fetch_sources

    on_hub = [name for name in names if name.startswith(_HUB)]
    variants = [name for name in names if name not in on_hub]
    wanted = [] if on_hub and not variants else _wanted(load_catalog(), variants, publisher)
    progress = display(len(wanted) + len(on_hub)) if display is not None else None
    sources = [source for _, source in wanted]
    outcomes = fetch_sources(sources, Cache.default(), at_once=at_once, offline=offline, progress=progress)
    files: list[tuple[Variant | None, CachedFile]] = []
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    for (variant, _), outcome in zip(wanted, outcomes, strict=True):
        if outcome.file is not None:
            files.append((variant, outcome.file))
    for name in on_hub:
        try:
            files.append((None, fetch(name, offline=offline, progress=progress)))
        except AccessError as error:
            errors.append(error)
    return FetchedFiles(tuple(files), tuple(errors))


def _wanted(catalog: Catalog, names: Sequence[str], publisher: Publisher | None) -> list[tuple[Variant, Source]]:
    """Each file once, also if two names or two variants mean it."""
    from r2convert.download.download import choose_source

    if names:
        chosen = [catalog.find(name) for name in names]
    else:
        chosen = [each for each in catalog.variants.values() if _has_source(each, publisher)]
    if not chosen:
        publishers = sorted({source.publisher for each in catalog.variants.values() for source in each.sources})
        raise UsageError("nobody publishes under this name", expected=" or ".join(publishers), got=publisher)
    pairs = [(variant, choose_source(variant, publisher)) for variant in chosen]
    return list({source.file_name: (variant, source) for variant, source in pairs}.values())


def _has_source(variant: Variant, publisher: Publisher | None) -> bool:
    return any(publisher in (None, source.publisher) for source in variant.sources)


def import_file(
    path: str | os.PathLike[str],
    names: Sequence[str] = (),
    *,
    publisher: Publisher | None = None,
    progress: ProgressSink | None = None,
) -> Imported:
    """Take a file brought by hand into the cache, recognised by its hash, else by its names and shapes.

    Args:
        path: the file, under any name.
        names: the variants that it may be; none for all of them.
        publisher: whose file it is, where the content alone cannot tell.
        progress: told about the copy.

    Raises:
        UnknownFileError: it is none of the published files.
        UsageError: it could be one of several.
        WrongFileError: another file was recorded under its name before.
        AccessError: it cannot be read, or the cache cannot be written.
    """
    from r2convert.download.cache import Cache
    from r2convert.download.importing import import_file as take

    tables = _tables()
    possible = [tables.catalog.find(name) for name in names] or list(tables.catalog.variants.values())
    return take(Path(path), possible, Cache.default(), fits=_recogniser(tables), publisher=publisher, progress=progress)


def _recogniser(tables: Tables) -> Callable[[Path, Variant, Source], bool]:
    """What tells whether a file has the names and shapes of a published one; it reads a file once."""
    from functools import cache as once

    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.identity import match

    @once
    def shapes(file: Path) -> dict[str, tuple[int, ...]]:
        with open_checkpoint(file) as checkpoint:
            return {name: tensor.shape for name, tensor in checkpoint.tensors.items()}

    def fits(file: Path, variant: Variant, source: Source) -> bool:
        return match(tables, (variant,), source.layout, shapes(file)) is not None

    return fits


def copy_to(file: CachedFile, folder: Path) -> Path:
    """Put a copy of a cached file into a folder; it has the recorded hash or is not there.

    Raises:
        AccessError: the folder cannot be written.
        WrongFileError: the copy's hash differs.
    """
    from r2convert.download.cache import copy_to as deliver

    return deliver(file, folder)


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
    trust: str | None
    sha256: str | None
    origin: str | None


def cache_folder() -> Path:
    """Where the cache is: ``R2CONVERT_CACHE``, or the platform's folder for user caches."""
    from r2convert.download.cache import Cache

    return Cache.default().folder


def cache_is_new() -> bool:
    """Whether nothing has been downloaded yet."""
    from r2convert.download.cache import Cache

    return not Cache.default().pins.all()


def cache_rows() -> list[CacheRow]:
    """What lies in the cache folder; a file that changed since it was last hashed is hashed again.

    Raises:
        CacheError: the folder, the record or a file cannot be read.
    """
    from r2convert.download.cache import Cache

    cache = Cache.default()
    sources = {source.file_name: source for source in _sources()}
    return [_cache_row(cache, entry, sources.get(entry.path.name)) for entry in cache.entries()]


def _sources() -> list[Source]:
    return [source for variant in variants() for source in variant.sources]


def _cache_row(cache: Cache, entry: CacheEntry, source: Source | None) -> CacheRow:
    from r2convert.download.cache import CachedFile

    path, size = entry.path, entry.size
    if entry.kind != "file":
        return CacheRow(path, size, entry.kind, None, None, None)
    if source is None:
        known = entry.pin
        return CacheRow(path, size, "file", None, known.sha256 if known else None, known.origin if known else None)
    found = cache.examine(source)
    if isinstance(found, CachedFile):
        return CacheRow(path, size, "file", found.trust, found.sha256, found.origin)
    return CacheRow(path, size, "damaged", None, None, None)


def verify_cache(following: Callable[[Sequence[CacheEntry]], Iterable[CacheEntry]] = iter) -> list[Verified]:
    """Hash every file in the cache again; damaged ones are put aside.

    Args:
        following: gives out the files one by one, and so knows how far the work is.

    Raises:
        CacheError: the folder, the record or a file cannot be read.
    """
    from r2convert.download.cache import Cache
    from r2convert.download.housekeeping import verify_cache as verify_all_files

    return verify_all_files(Cache.default(), _sources(), following)


def clean_cache() -> tuple[list[CacheEntry], list[CacheEntry]]:
    """Remove partial downloads and bad files; give what was removed, and what is in use and was left alone.

    Raises:
        CacheError: the folder cannot be read, or something in it cannot be removed.
    """
    from r2convert.download.cache import Cache
    from r2convert.download.housekeeping import clean_cache as clean

    return clean(Cache.default())


def forget_hash(file_name: str) -> Pin:
    """Forget the recorded hash of a file, so that a new one is accepted; give what was recorded.

    Raises:
        UsageError: no hash of it is recorded.
    """
    from r2convert.download.cache import Cache

    cache = Cache.default()
    known = cache.pins.get(file_name)
    if known is None:
        raise UsageError(
            f"no hash of {file_name!r} is recorded",
            where=str(cache.folder),
            expected=", ".join(sorted(cache.pins.all())) or "(nothing is recorded yet)",
        )
    cache.pins.forget(file_name)
    return known


# --- inspect, map, compare -------------------------------------------------------------------------------------------


def inspect(
    checkpoint: FileOrVariant,
    *,
    variant: str | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    digests: bool = True,
) -> Inspection:
    """Say what a file really is: container, layout, variant, tensors, parameters and digests.

    Args:
        checkpoint: a checkpoint, or the name of a variant in the cache.
        variant: the variant, where names and shapes fit several.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``backbone.``.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.
        digests: read every byte: SHA-256, content hash, and whether all values are finite.

    Raises:
        MappingError: the file is not the variant that it is said to be.
        UnknownVariantError: no variant has this name.
        CheckpointError: the file is damaged, unsafe or of a kind that is not read.
        AccessError: it is not there or cannot be read.
    """
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.identity import recogniser
    from r2convert.results.documents import AccountedTensor, Inspection, TensorEntry

    tables = _tables()
    path, recognise = _locate(tables.catalog.find, checkpoint).path, recogniser(tables)
    said = tables.catalog.find_architecture(variant) if variant is not None else None
    with open_checkpoint(
        path, key=key, prefix=prefix, leave_out=leave_out, recognise=recognise, digest=digests
    ) as opened:
        resolution, problem = _resolve_or_reason(tables, opened, said)
        warnings = [*opened.warnings, *([problem] if problem else [])]
        content = None
        if digests:
            from r2convert.mapping.values import read_values

            content, problems = read_values(opened, resolution)
            if resolution is not None:
                resolution = _weighed(tables, opened, resolution, content)
            warnings += problems
        identity = resolution.identity if resolution else None
        if identity is not None:
            warnings += [identity.variant.note] if identity.variant.note else []
            warnings += [] if identity.has_classifier else ["a backbone: it has no classifier"]
            doubt = tables.catalog.layouts[identity.layout].doubt
            warnings += [doubt] if doubt else []
        return Inspection(
            path=str(opened.path),
            size=opened.size,
            container=cast("Container", opened.container),
            layout=identity.layout if identity else None,
            variant=identity.variant.id if identity else None,
            architectures=tuple(each.id for each in identity.fits) if identity else (),
            weights=identity.weights.id if identity and identity.weights else None,
            evidence=identity.evidence if identity else None,
            classes=identity.classes if identity and identity.has_classifier else None,
            tensors=len(opened.tensors),
            dtypes=dict(Counter(tensor.dtype.value for tensor in opened.tensors.values())),
            parameters=_parameters(opened, resolution),
            wrapper=opened.wrapper,
            prefix_removed=opened.prefix_removed or None,
            left_out=tuple(AccountedTensor(each.name, each.reason) for each in opened.left_out),
            unread={name: each.kind for name, each in opened.unread.items()},
            metadata=dict(opened.metadata),
            opaque=opened.opaque,
            sha256=opened.sha256() if digests else None,
            content_hash=content,
            warnings=tuple(warnings),
            tensor_list=tuple(
                TensorEntry(name, tensor.dtype.value, tensor.shape) for name, tensor in opened.tensors.items()
            ),
        )


def _resolve_or_reason(
    tables: Tables, checkpoint: Checkpoint, said: Variant | None
) -> tuple[Resolution | None, str | None]:
    """What a file is, or why that is not known; where the user says what it is, that is an error."""
    from r2convert.mapping.identity import resolve

    try:
        return resolve(tables, checkpoint, said), None
    except (MappingError, UnsupportedCheckpointError) as error:
        if said is not None:
            raise
        return None, " ".join(str(error).split())


def _weighed(tables: Tables, opened: Checkpoint, resolution: Resolution, content: str | None = None) -> Resolution:
    """What an open file is, with all evidence weighed; the whole file is read for its SHA-256."""
    from r2convert.download.cache import recorded_digests
    from r2convert.mapping.evidence import clues_of, weigh

    clues = clues_of(opened, sha256=opened.sha256(), content_hash=content, pins=recorded_digests())
    return weigh(tables, resolution, clues)


def _parameters(checkpoint: Checkpoint, resolution: Resolution | None) -> int:
    if resolution is not None:
        slots = resolution.expansion.names(resolution.identity.layout)
        learned = [tensor for name, tensor in checkpoint.tensors.items() if name in slots and slots[name].is_learned]
        return sum(tensor.elements for tensor in learned)
    statistics = ("running_mean", "running_var", "_mean", "_variance")
    return sum(
        tensor.elements
        for name, tensor in checkpoint.tensors.items()
        if tensor.dtype.is_floating and not name.endswith(statistics)
    )


def learn_layout(
    checkpoint: FileOrVariant,
    like: str,
    *,
    name: str = "learned",
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> LearnedLayout:
    """Learn the names of an unknown code base from one file of it, as a column for the family's table.

    Args:
        checkpoint: the file.
        like: the architecture it holds: any id or alias, such as ``res2net152_v1b_w26_s4``.
        name: what to call the layout: small letters, digits, ``-`` and ``_``.
        key: which of several state dicts in the file.
        prefix: only the tensors under this prefix.
        leave_out: shell patterns; tensors whose names match one are left out.
        output: a folder to write the draft into, for ``R2CONVERT_MAPPINGS``; made if need be.
        overwrite: replace a draft that is there.

    Returns:
        The column, with what tells each of its modules, what could not be told apart, and the files of the draft.

    Raises:
        MappingError: the file has other shapes than the architecture, or names that no table can express.
        UnknownVariantError: no architecture is called that.
        UsageError: there is such a layout already.
        CheckpointError, AccessError: the file cannot be read, or the draft not be written.
    """
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.draft import learn_layout as learn

    tables = _tables()
    variant = tables.catalog.find_architecture(like)
    path, folder = _locate(tables.catalog.find, checkpoint).path, None if output is None else Path(output)
    with open_checkpoint(path, key=key, prefix=prefix, leave_out=leave_out) as opened:
        return learn(tables, opened, variant, name, folder, overwrite=overwrite)


class Planned(NamedTuple):
    """A conversion that has not been carried out.

    Args:
        source: the file to be converted.
        plan: what would happen to each of its tensors.
    """

    source: Path
    plan: Plan


def map_checkpoint(
    src: FileOrVariant,
    dst: str | os.PathLike[str],
    *,
    to: TargetLayout = "mm",
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    backbone_only: bool = False,
    dtype: CastTo | None = None,
    overwrite: bool = False,
    receipt: bool = True,
    check: bool = True,
    digests: bool = True,
) -> Conversion:
    """Convert a checkpoint into another layout, every tensor accounted for.

    Nothing is written unless every tensor is accounted for; the output is read back and compared before it is put in
    place. Nothing in the source is executed, and torch is not needed.

    Args:
        src: the checkpoint, or the name of a variant in the cache.
        dst: where to write; the suffix says as what: ``.pth``, ``.pt``, ``.safetensors``, or ``.pdparams`` for Paddle.
        to: the layout that the output gets.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the source's layout, instead of detecting it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``backbone.``, which is taken off their names.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.
        backbone_only: leave the classifier out.
        dtype: cast floating-point tensors to this type, rounding to nearest, ties to even.
        overwrite: replace the output if it exists.
        receipt: write a receipt beside the output: an in-toto statement that binds it to the source's bytes.
        check: read the output back and compare it before it is put in place.
        digests: take SHA-256 of both files and the content hash; a receipt needs them.

    Returns:
        The plan that was carried out (``plan.rows``: what happened to each tensor; ``plan.warnings``: what to know of
        source and target), the file that was written with its size and SHA-256, and the network's content hash.

    Raises:
        MappingError: the file is no known network, or not every tensor is accounted for; all problems are named.
        CheckpointError: the source is damaged, unsafe or of a kind that is not read.
        UsageError: the options do not fit together, or the variant does not exist in that layout.
        AccessError: the source is not there, or the output exists or cannot be written.

    Examples:
        >>> from r2convert import map_checkpoint
        >>> conversion = map_checkpoint("res2net50_w14_s8", "mm.safetensors")
        >>> conversion.plan.source_layout, conversion.plan.target_layout
        ('official', 'mm')
        >>> len(conversion.plan.rows_of("rename")), conversion.plan.rows_of("drop")
        (896, ())
    """
    from r2convert.checkpoint.elements import DType

    cast = DType(_one_of(("float32", "float16", "bfloat16"), dtype, "dtype")) if dtype is not None else None
    src, digest = locate(src), digests or receipt
    _require_fitting(src.path, Path(dst), to)
    planned = _planned(src, to, variant, layout, key, prefix, leave_out, backbone_only, digest=digest)
    with planned as (checkpoint, plan, settle):
        from r2convert.mapping.conversion import convert  # here: by now the source is being hashed

        return convert(
            checkpoint,
            plan,
            Path(dst),
            overwrite=overwrite,
            receipt=receipt,
            check=check,
            digest=digest,
            dtype=cast,
            settle=settle,
        )


def plan_conversion(
    src: FileOrVariant,
    dst: str | os.PathLike[str] | None = None,
    *,
    to: TargetLayout = "mm",
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    backbone_only: bool = False,
    overwrite: bool = False,
) -> Planned:
    """What :func:`map_checkpoint` would do; nothing is written.

    Args:
        src: the checkpoint, or the name of a variant in the cache.
        dst: where to write, to have the place checked too.
        to: the layout that the output would get.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the source's layout, instead of detecting it from the names.
        key: which of several state dicts in the file.
        prefix: only the tensors under this prefix.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.
        backbone_only: leave the classifier out.
        overwrite: whether the output may exist.

    Raises:
        MappingError, CheckpointError, UsageError, AccessError: what :func:`map_checkpoint` would raise.
    """
    from r2convert.mapping.conversion import require_possible

    src = locate(src)
    if dst is not None:
        _require_fitting(src.path, Path(dst), to)
    planned = _planned(src, to, variant, layout, key, prefix, leave_out, backbone_only, digest=False)
    with planned as (checkpoint, plan, _):
        plan.require_clean(str(checkpoint.path))
        if dst is not None:
            require_possible(plan, Path(dst), overwrite=overwrite)
        return Planned(checkpoint.path, plan)


def publish(
    src: FileOrVariant,
    folder: str | os.PathLike[str],
    *,
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    backbone_only: bool = False,
    dtype: CastTo | None = None,
    overwrite: bool = False,
    receipt: bool = True,
    check: bool = True,
) -> Conversion:
    """Convert to the mm layout under the name that OpenMMLab's model zoo would give the file, its hash included.

    Args:
        src: the checkpoint, or the name of a variant in the cache.
        folder: where to write; made if need be.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the source's layout, instead of detecting it from the names.
        key: which of several state dicts in the file.
        prefix: only the tensors under this prefix.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.
        backbone_only: leave the classifier out.
        dtype: cast floating-point tensors to this type.
        overwrite: replace a file of the same name.
        receipt: write a receipt beside the output.
        check: read the output back and compare it before it is put in place.

    Raises:
        MappingError, CheckpointError, UsageError, AccessError: as :func:`map_checkpoint`.
    """
    from r2convert.checkpoint.elements import DType
    from r2convert.mapping.conversion import publish as publish_in

    cast = DType(_one_of(("float32", "float16", "bfloat16"), dtype, "dtype")) if dtype is not None else None
    planned = _planned(src, "mm", variant, layout, key, prefix, leave_out, backbone_only, digest=True)
    with planned as (checkpoint, plan, settle):
        options = {"overwrite": overwrite, "receipt": receipt, "check": check}
        return publish_in(checkpoint, plan, Path(folder), **options, dtype=cast, settle=settle)


def _require_fitting(source: Path, destination: Path, to: str) -> None:
    """Refuse what people write by mistake for an output: a folder, or the source itself."""
    if destination.is_dir():
        stem, _, ending = source.name.partition(".")
        written = _tables().catalog.layouts[to].written_as
        suffix = f".{ending}" if f".{ending}" in written else written[0]
        raise UsageError(
            "the output is a folder",
            where=str(destination),
            expected="the path of a file",
            next_step=f"add the file's name: {destination / f'{stem}-{to}{suffix}'}",
        )
    if os.path.exists(destination) and os.path.exists(source) and os.path.samefile(source, destination):  # noqa: PTH110, PTH121
        raise UsageError(
            "the output would replace the source",
            where=str(destination),
            next_step="choose another name: a source is never written to, not with --overwrite either",
        )


@contextmanager
def _planned(
    src: FileOrVariant,
    to: str,
    variant: str | None,
    layout: str | None,
    key: str | None,
    prefix: str,
    leave_out: Sequence[str],
    backbone_only: bool,
    *,
    digest: bool,
) -> Iterator[tuple[Checkpoint, Plan, Callable[[str], Plan]]]:
    """The open source, the plan for it with the warnings of both, and what weighs the evidence once it is hashed."""
    from r2convert.mapping.plan import plan_conversion as plan_for
    from r2convert.mapping.plan import with_evidence

    with _opened(src, variant, layout, key, prefix, leave_out, digest=digest) as (tables, checkpoint, resolution):
        plan = plan_for(tables, resolution, to, checkpoint.tensors, backbone_only=backbone_only)

        def with_all_warnings(plan: Plan) -> Plan:
            unread = ((name, f"{each.kind}, which is not read") for name, each in checkpoint.unread.items())
            left_out = (*((each.name, each.reason) for each in checkpoint.left_out), *unread)
            return replace(plan, warnings=(*checkpoint.warnings, *plan.warnings), left_out=left_out)

        def settle(_: str) -> Plan:
            return with_all_warnings(with_evidence(tables, plan, _weighed(tables, checkpoint, resolution)))

        yield checkpoint, with_all_warnings(plan), settle


@contextmanager
def _opened(
    checkpoint: FileOrVariant,
    variant: str | None,
    layout: str | None,
    key: str | None,
    prefix: str,
    leave_out: Sequence[str],
    *,
    digest: bool = False,
) -> Iterator[tuple[Tables, Checkpoint, Resolution]]:
    """An open file and what it is."""
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.identity import recogniser, resolve

    tables = _tables()
    located = _locate(tables.catalog.find, checkpoint)
    said = tables.catalog.find_architecture(variant) if variant is not None else located.variant
    with open_checkpoint(
        located.path, key=key, prefix=prefix, leave_out=leave_out, recognise=recogniser(tables), digest=digest
    ) as opened:
        yield tables, opened, resolve(tables, opened, said, layout)


def load_model(
    checkpoint: FileOrVariant,
    *,
    fetch: bool = False,
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    features_only: bool = False,
) -> Classifier | FeatureExtractor:
    """Build the network that a checkpoint holds, with its weights, in evaluation mode.

    The file may have any layout and container. Loading is strict: every tensor of the network comes from the file.
    The network has as many classes as the file.

    Args:
        checkpoint: a checkpoint, or the name of a variant in the cache.
        fetch: download the variant's file if it is not in the cache; without this no network is used.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the file's layout, instead of detecting it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``model.``.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.
        features_only: the backbone alone, as detection and segmentation use it; the file need not have a classifier.

    Returns:
        A ``torch.nn.Module`` on the CPU, float32 (float64 if the file is): images (N, 3, H, W) -> logits (N, classes).
        Images are RGB in 0..1, 224x224 as the published accuracies have them, normalised by ImageNet's mean
        (0.485, 0.456, 0.406) and standard deviation (0.229, 0.224, 0.225). Its ``state_dict()`` has the ``mm`` names.
        With ``features_only`` it returns a tuple instead, the outputs of the four stages; its ``channels`` and
        ``reductions`` say how many channels each has, and by how much it is smaller than the image.

    Raises:
        AccessError: the variant's file is not in the cache and ``fetch`` is not set, or the file is not there.
        UnknownVariantError: no variant has this name.
        MappingError: the file is no known network, or a backbone without its classifier.
        CheckpointError: the file is damaged, unsafe or of a kind that is not read.
        FetchError: the file could not be downloaded.

    Examples:
        >>> import torch
        >>> from r2convert import load_model
        >>> model = load_model("res2net50_w14_s8")
        >>> with torch.inference_mode():
        ...     model(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 1000])
        >>> backbone = load_model("res2net50_w14_s8", features_only=True)
        >>> backbone.channels, backbone.reductions
        ((256, 512, 1024, 2048), (4, 8, 16, 32))
    """
    from r2convert.models.build import load_features, load_network

    load = load_features if features_only else load_network
    located = locate(checkpoint, fetch=fetch)
    with _opened(located, variant, layout, key, prefix, leave_out, digest=True) as (tables, opened, resolution):
        return load(opened, _weighed(tables, opened, resolution))


def preprocess(weights: str) -> Preprocessor:
    """How images are made ready for a network: as the publisher of its weights has measured.

    Args:
        weights: any name of a variant, for the weights that ``fetch`` gets first, or the id of particular weights, e.g.
            ``res2net50_w26_s8.timm``.

    Returns:
        A function: the path of a file, its bytes, or a Pillow image -> float32 (3, crop, crop), RGB, normalised: what
        ``verify`` shows the network, to the last bit. Its ``protocol`` has the sizes, the filter, the mean and the
        standard deviation.

    Raises:
        UnknownVariantError: no variant and no weights have this name.
        UsageError: the weights were measured with OpenCV, and it is not installed.

    Examples:
        >>> from PIL import Image
        >>> from r2convert import preprocess
        >>> ready = preprocess("res2net50_w14_s8")
        >>> print(ready.protocol)
        resize 256 bilinear (pil), crop 224
        >>> ready(Image.new("RGB", (500, 375))).shape
        torch.Size([3, 224, 224])
    """
    from r2convert.catalog.protocol import Protocol
    from r2convert.evaluation.preprocessor import Preprocessor

    known = load_catalog().find(weights).weights
    return Preprocessor(known[0].protocol if known else Protocol())


def compare(
    a: FileOrVariant,
    b: FileOrVariant,
    *,
    variant: str | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
) -> Comparison:
    """Compare two checkpoints tensor by tensor, across containers and layouts.

    If both are known variants, tensors are compared under their ``mm`` names, and counters of training batches and
    layers that nothing reads do not count; otherwise under their own names.

    Args:
        a: a checkpoint, or the name of a variant in the cache.
        b: another.
        variant: the variant of both, where names and shapes fit several.
        key: which of several state dicts in a file that has several, e.g. ``ema``.
        prefix: only the tensors under this prefix, in a file that has it.
        leave_out: shell patterns; tensors whose names match one are left out of both.

    Returns:
        Whether they are equal, what each is, both content hashes, and every tensor that differs: its name, how, and by
        how much.

    Raises:
        MappingError: a file is not the variant that it is said to be.
        CheckpointError: a file is damaged, unsafe or of a kind that is not read.
        AccessError: a file is not there or cannot be read.

    Examples:
        >>> from r2convert import compare, map_checkpoint
        >>> conversion = map_checkpoint("res2net50_w14_s8", "timm.safetensors", to="timm")
        >>> compare("res2net50_w14_s8", "timm.safetensors").equal
        True
    """
    from r2convert.mapping.comparison import compare as compare_files

    with _both(a, b, variant, key, prefix, leave_out) as ((one, first), (other, second)):
        return compare_files(one, first, other, second)


def compare_activations(
    a: FileOrVariant,
    b: FileOrVariant,
    *,
    variant: str | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
) -> ActivationComparison:
    """Run two networks of one architecture on one random image in float64, and compare them layer by layer.

    Args:
        a: a checkpoint, or the name of a variant in the cache.
        b: another.
        variant: the variant of both, where names and shapes fit several.
        key: which of several state dicts in a file that has several.
        prefix: only the tensors under this prefix, in a file that has it.
        leave_out: shell patterns; tensors whose names match one are left out of both.

    Raises:
        UsageError: they are not known networks of one architecture.
        MappingError, CheckpointError, AccessError: as :func:`compare`.
    """
    from r2convert.checks.parity import compare_activations as compare_outputs
    from r2convert.checks.parity import random_input
    from r2convert.models.build import load_network

    with _both(a, b, variant, key, prefix, leave_out) as ((one, first), (other, second)):
        if first is not None and second is not None:
            # Equal names do not tell two networks apart; a digest or a receipt may.
            tables = _tables()
            first, second = _weighed(tables, one, first), _weighed(tables, other, second)
        known = [resolution.identity.variant for resolution in (first, second) if resolution is not None]
        if first is None or second is None or known[0].architecture != known[1].architecture:
            raise UsageError(
                "activations can be compared of two checkpoints of one network only",
                expected="two files of the same variant",
                got=" and ".join(variant.id for variant in known) or "a file that holds no known network",
            )
        return compare_outputs(load_network(one, first), load_network(other, second), random_input(known[0]))


@contextmanager
def _both(
    a: FileOrVariant, b: FileOrVariant, variant: str | None, key: str | None, prefix: str, leave_out: Sequence[str]
) -> Iterator[tuple[tuple[Checkpoint, Resolution | None], tuple[Checkpoint, Resolution | None]]]:
    """Two open files and what they are; if one is unknown, both keep their own names."""
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.identity import recogniser

    tables = _tables()
    said = tables.catalog.find_architecture(variant) if variant is not None else None
    with ExitStack() as stack:
        opened: list[Checkpoint] = []
        problems: list[UsageError] = []
        for each in (a, b):
            path, recognise = _locate(tables.catalog.find, each).path, recogniser(tables)
            try:
                opened.append(open_checkpoint(path, key=key, prefix=prefix, leave_out=leave_out, recognise=recognise))
            except UsageError as error:
                # What is asked for need be in one of the two only: the average of one file against another file.
                problems.append(error)
                opened.append(open_checkpoint(path, recognise=recognise))
            stack.enter_context(opened[-1])
        if len(problems) == len(opened):
            raise problems[0]
        one, other = opened
        first, second = (_resolve_or_reason(tables, each, said)[0] for each in (one, other))
        if first is None or second is None:
            first = second = None
        yield (one, first), (other, second)


def compare_predictions(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    network_a: str | None = None,
    network_b: str | None = None,
) -> PredictionsComparison:
    """Compare two files that ``verify`` has written predictions into, image by image.

    Args:
        a: a prediction file.
        b: another.
        network_a: which network of the first, if it holds several.
        network_b: which network of the second.

    Raises:
        UsageError: it is not clear which networks are meant, or they were shown other images.
        InputError: a file is damaged.
        AccessError: a file cannot be read.
    """
    from r2convert.evaluation.prediction_comparison import compare_predictions as compare_files
    from r2convert.evaluation.prediction_store import read_measurement
    from r2convert.results.documents import PredictionsComparison

    one, other = Path(a), Path(b)
    comparisons = compare_files(one, other, network_a=network_a, network_b=network_b)
    return PredictionsComparison(
        equal=all(comparison.equal for comparison in comparisons),
        a=_summary(one, read_measurement(one)),
        b=_summary(other, read_measurement(other)),
        comparisons=comparisons,
    )


def _summary(path: Path, question: Measurement) -> PredictionFileSummary:
    from r2convert.results.documents import PredictionFileSummary

    return PredictionFileSummary(str(path), question.precision, question.accelerations, question.pipeline)


def synsets() -> Sequence[str]:
    """The WordNet ids of the classes of ImageNet-1k, by class index."""
    from r2convert.imagenet.labels import synsets as by_index

    return by_index()


# --- verify and doctor -----------------------------------------------------------------------------------------------


class ImageSet(NamedTuple):
    """Labelled images to measure on.

    Args:
        images: the images.
        full_set: whether they are the validation set of ImageNet-1k, or a sample of it.
    """

    images: ValidationSet
    full_set: bool


def open_images(
    path: str | os.PathLike[str], *, limit: int | None = None, seed: int = 0, warn: Warn = _ignore
) -> ImageSet:
    """Open the validation images of ImageNet-1k.

    Args:
        path: a folder, an uncompressed tar or a list file.
        limit: use a random sample of this many images, stratified by class.
        seed: random seed of the sample.
        warn: told what is odd about the images.

    Raises:
        DatasetError: they cannot be used as a validation set.
        UsageError: ``limit`` is not positive.
    """
    from r2convert.imagenet.datasets import open_validation_set
    from r2convert.imagenet.validation_set import stratified_sample

    images = open_validation_set(Path(path))
    for warning in images.warnings:
        warn(warning)
    return ImageSet(images if limit is None else stratified_sample(images, limit, seed=seed), images.is_full)


class VerifyRun(NamedTuple):
    """The results of one run.

    Args:
        results: one a checkpoint that could be checked.
        device: where networks ran; ``None`` if none did.
    """

    results: tuple[CheckpointResult, ...]
    device: str | None = None
    unchecked: tuple[tuple[Path, R2ConvertError], ...] = ()


def verify(
    checkpoint: FileOrVariant,
    *,
    imagenet: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "strict",
    pipeline: Pipeline | None = None,
    image_size: int | None = None,
    crop_pct: float | None = None,
    interpolation: Interpolation | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
) -> CheckpointResult:
    """Check a checkpoint against what was published about it.

    Without images: names, shapes, values, the receipt if there is one, parameters, FLOPs and activations. With
    images: top-1, top-5 and, where the files have the official names, ReaL top-1 and top-5 too.
    :func:`r2convert.api.verify_all` has every option of the command line, and runs several checkpoints in one pass over
    the images.

    Args:
        checkpoint: a checkpoint, or the name of a variant in the cache.
        imagenet: the validation images of ImageNet-1k: a folder, an uncompressed tar or a list file.
        limit: use a random sample of this many images, stratified by class; judged as a sample.
        device: where the network runs, e.g. ``cuda:1``; by default a GPU where there is one.
        batch_size: initial batch size; by default the device's. It is halved when memory runs out.
        precision: ``strict`` is float32 with TF32 off; ``fast`` gives the same counts sooner on a GPU.
        pipeline: ``pil`` as torchvision and timm, ``opencv`` as PaddleClas; by default, like all that follows, what the
            publisher of the weights measured with.
        image_size: pixels of the crop.
        crop_pct: share of the resized short side that the crop takes.
        interpolation: ``bilinear`` or ``bicubic``.
        mean: of red, green and blue, for pixels from 0 to 1.
        std: their standard deviations.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the file's layout, instead of detecting it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``model.``.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.

    Returns:
        Every check with what was published and measured (parameters; operations for one 224x224 image; correct images)
        and its verdict; ``verdict`` is that over all of them: ``pass``, ``fail``, ``known-deviation``,
        ``inconclusive`` or ``not-comparable``. A check that fails is a result, not an error.

    Raises:
        MappingError: the file is no known network.
        CheckpointError: the file is damaged, unsafe or of a kind that is not read.
        DatasetError: the images cannot be used as a validation set.
        UsageError: the device or the precision is not available here, or ``limit`` is not positive.
        AccessError: the file is not there or cannot be read.

    Examples:
        >>> from r2convert import verify
        >>> result = verify("res2net50_w14_s8")
        >>> check = result.checks[3]
        >>> check.metric, check.source, check.published, check.unit, check.measured, check.verdict
        ('parameters', 'official README', '25.06', 'M', 25059816, 'pass')
        >>> result.verdict
        'pass'
    """
    return verify_all(
        [checkpoint],
        images=open_images(imagenet, limit=limit) if imagenet is not None else None,
        device=device,
        batch_size=batch_size,
        precision=precision,
        pipeline=pipeline,
        image_size=image_size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        mean=mean,
        std=std,
        variant=variant,
        layout=layout,
        key=key,
        prefix=prefix,
        leave_out=leave_out,
    ).results[0]


def verify_all(
    checkpoints: Sequence[FileOrVariant] = (),
    *,
    images: ImageSet | None = None,
    fail_fast: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "strict",
    accelerate: Sequence[Acceleration] = (),
    pipeline: Pipeline | None = None,
    image_size: int | None = None,
    crop_pct: float | None = None,
    interpolation: Interpolation | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    predictions: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    crop_cache: str | os.PathLike[str] | None = None,
    wiring: str | os.PathLike[str] | bool = False,
    peer: str | None = None,
    input_size: tuple[int, int] = (224, 224),
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    following: Callable[[Sequence[Request]], Iterable[Request]] = iter,
    progress: Callable[[AccuracyProgress], None] = _ignore,
) -> VerifyRun:
    """Check several checkpoints; with images, all networks see them in one pass.

    One file among several that cannot be read is told with the results, and the others are checked; a single one
    raises its error.

    Args:
        checkpoints: checkpoints, or names of variants in the cache; none for everything in the cache.
        images: measure accuracy on these.
        fail_fast: stop once a published accuracy is certainly missed.
        device: where networks run; by default a GPU where there is one.
        batch_size: initial batch size; by default the device's.
        precision: how networks compute.
        accelerate: what else makes them faster, in any precision but ``strict``.
        pipeline: how images become crops; by default, like all that follows, as the publisher of the weights has it.
        image_size: pixels of the crop.
        crop_pct: share of the resized short side that the crop takes.
        interpolation: ``bilinear`` or ``bicubic``.
        mean: of red, green and blue, for pixels from 0 to 1.
        std: their standard deviations.
        predictions: a file to keep every image's prediction in.
        resume: continue what an interrupted run left in ``predictions``.
        overwrite: replace the ``predictions`` file.
        crop_cache: a folder to keep crops in; later runs decode no image.
        wiring: compare what BatchNorms see with what they remember, on synthetic images (``True``) or on those of a
            folder.
        peer: an independent implementation to compare with: ``timm`` or ``mmpretrain``.
        input_size: height and width of the image that operations are counted for.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the layout, instead of detecting it from the names.
        key: which of several state dicts in the files.
        prefix: only the tensors under this prefix.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.
        following: gives out the files one by one, and so knows how far the work is; not with images.
        progress: told after every batch.

    Raises:
        InputError: a file cannot be used.
        UsageError: options do not fit together, the device is not available, or a package is not installed.
        AccessError: a file cannot be read or written.
    """
    from r2convert.checks.run import verify_checkpoints

    tables = _tables()
    requests = _requests(tables, checkpoints, variant, layout, key, prefix, leave_out)
    if not requests:
        raise UsageError(
            "there is nothing to verify: the cache is empty",
            expected="a checkpoint, or a variant in the cache",
            next_step="give the path of a file, or `r2convert fetch VARIANT` one",
        )
    unchecked: list[tuple[Path, R2ConvertError]] = []

    def note(request: Request, error: R2ConvertError) -> None:
        unchecked.append((request.path, error))

    # One bad file among several must not cost the results of the others.
    on_error = note if len(requests) > 1 else None
    chosen = _device(device) if images is not None or wiring else None
    if images is None:
        probes = _probes(input_size, wiring, peer, chosen)
        results = [
            result
            for request in following(requests)
            for result in verify_checkpoints(tables, [request], None, probes, on_error)
        ]
        return VerifyRun(tuple(results), _device_name(chosen), tuple(unchecked))
    from r2convert.evaluation.processes import joined_processes

    with joined_processes():
        run = _image_run(
            images,
            chosen,
            batch_size=batch_size,
            protocol=_protocol_options(pipeline, image_size, crop_pct, interpolation, mean, std),
            precision=precision,
            accelerate=accelerate,
            progress=progress if is_first_process() else _ignore,
            fail_fast=fail_fast,
            predictions=(predictions, resume, overwrite),
            crop_cache=crop_cache,
        )
        probes = _probes(input_size, wiring, peer, chosen)
        results = verify_checkpoints(tables, requests, run, probes, on_error)
        return VerifyRun(tuple(results), _device_name(chosen), tuple(unchecked))


def evaluate(
    network: Network,
    imagenet: str | os.PathLike[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "strict",
    accelerate: Sequence[Acceleration] = (),
    pipeline: Pipeline | None = None,
    image_size: int | None = None,
    crop_pct: float | None = None,
    interpolation: Interpolation | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    predictions: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    crop_cache: str | os.PathLike[str] | None = None,
    progress: Callable[[AccuracyProgress], None] = _ignore,
    warn: Warn = _ignore,
) -> Accuracy:
    """Measure any network on labelled images; nothing is held against published numbers.

    Args:
        network: takes normalised images (N, 3, H, W) and returns a logit for each class of the images. It is moved to
            the device, converted to float32 and put into evaluation mode.
        imagenet: the images: ImageNet-1k, one of its relatives, or a set with classes of its own.
        limit: use a random sample of this many images, stratified by class.
        seed: random seed of the sample.
        device: where the network runs, e.g. ``cuda:1``; by default a GPU where there is one.
        batch_size: initial batch size; by default the device's. It is halved when memory runs out.
        precision: ``strict`` is float32 with TF32 off; ``fast`` gives the same counts sooner.
        accelerate: what else makes it faster, in any precision but ``strict``.
        pipeline: ``pil`` as torchvision and timm (the default), ``opencv`` as PaddleClas.
        image_size: pixels of the crop, by default 224.
        crop_pct: share of the resized short side that the crop takes, by default 0.875.
        interpolation: ``bilinear`` (the default) or ``bicubic``.
        mean: of red, green and blue, for pixels from 0 to 1; by default ImageNet's.
        std: their standard deviations.
        predictions: a file to keep every image's prediction in.
        resume: continue what an interrupted run left in ``predictions``.
        overwrite: replace the ``predictions`` file.
        crop_cache: a folder to keep crops in; later runs decode no image.
        progress: told after every batch, from another thread.
        warn: told what is odd about the images.

    Returns:
        Exact counts, scores by class, confusions, images that could not be read, and how fast it was.

    Raises:
        DatasetError: the images cannot be used.
        CheckpointError: the network does not take RGB images, or has another number of classes.
        UsageError: options do not fit together, or the device or a package is not available.
        AccessError: predictions or crops cannot be written, or the device is too small.

    Examples:
        >>> from r2convert import evaluate, load_model
        >>> accuracy = evaluate(load_model("res2net50_w14_s8"), "val", device="cpu")
        >>> print(f"{accuracy.top1_correct} of {accuracy.images} right, {accuracy.top5_correct} among the first five")
        6 of 10 right, 8 among the first five
    """
    from r2convert.evaluation.engine import measure_accuracy
    from r2convert.evaluation.processes import joined_processes

    with joined_processes():
        run = _image_run(
            open_images(imagenet, limit=limit, seed=seed, warn=warn),
            device,
            batch_size=batch_size,
            protocol=_protocol_options(pipeline, image_size, crop_pct, interpolation, mean, std),
            precision=precision,
            accelerate=accelerate,
            progress=progress if is_first_process() else _ignore,
            fail_fast=False,
            predictions=(predictions, resume, overwrite),
            crop_cache=crop_cache,
        )
        return measure_accuracy(
            {"network": network},
            run.images,
            device=run.device,
            batch_size=run.batch_size,
            protocol=run.protocol.applied_to(Protocol()),
            precision=run.precision,
            accelerations=run.accelerations,
            progress=run.progress,
            predictions=run.predictions,
            crop_cache=run.crop_cache,
        )["network"]


def verify_references(*, input_size: tuple[int, int] = (224, 224)) -> VerifyRun:
    """Check the reference networks themselves against the published sizes; needs no file.

    Args:
        input_size: height and width of the image that operations are counted for.

    Raises:
        UsageError: a network cannot be shown images of that size.
    """
    from r2convert.checks.run import verify_references as verify_every_reference

    return VerifyRun(tuple(verify_every_reference(_tables(), input_size)))


def cached_checkpoints() -> list[Located]:
    """The file of every variant that has a sound one in the cache.

    Raises:
        CacheError: the cache cannot be read.
    """
    from r2convert.download.locating import cached_path

    found = [(cached_path(variant), variant) for variant in variants()]
    return [Located(path, variant) for path, variant in found if path is not None]


def is_first_process() -> bool:
    """Whether this process is alone or the first that ``torchrun`` has started: the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def _requests(
    tables: Tables,
    checkpoints: Sequence[FileOrVariant],
    variant: str | None,
    layout: str | None,
    key: str | None,
    prefix: str,
    leave_out: Sequence[str],
) -> list[Request]:
    """The files to verify, each with what the caller says of it."""
    from r2convert.checks.run import Request

    said = tables.catalog.find_architecture(variant) if variant is not None else None
    located = [_locate(tables.catalog.find, each) for each in checkpoints] if checkpoints else cached_checkpoints()
    return [Request(each.path, said or each.variant, layout, key, prefix, tuple(leave_out)) for each in located]


def _device(name: str | None) -> str:
    from r2convert.evaluation.precision import choose_device

    return str(choose_device(name))


def _device_name(device: str | None) -> str | None:
    if device is None:
        return None
    from r2convert.evaluation.precision import device_name

    return device_name(device)


def _image_run(
    opened: ImageSet,
    device: str | None,
    *,
    batch_size: int | None,
    protocol: ProtocolOptions,
    precision: str,
    accelerate: Sequence[Acceleration],
    progress: Callable[[AccuracyProgress], None],
    fail_fast: bool,
    predictions: tuple[str | os.PathLike[str] | None, bool, bool],
    crop_cache: str | os.PathLike[str] | None,
) -> ImageRun:
    from r2convert.checks.run import ImageRun
    from r2convert.evaluation.precision import accelerations_for, choose_device
    from r2convert.evaluation.prediction_store import PredictionFile

    place, resume, overwrite = predictions
    if resume and place is None:
        raise UsageError("--resume continues a prediction file", expected="--predictions FILE --resume")
    chosen_precision = _one_of(PRECISIONS, precision, "precision")
    chosen = choose_device(device)
    # Said before files are read and images shown.
    accelerations = accelerations_for(
        chosen_precision, [_one_of(ACCELERATIONS, each, "acceleration") for each in accelerate], chosen
    )
    kept = PredictionFile(Path(place), resume=resume, overwrite=overwrite) if place is not None else None
    if kept is not None:
        kept.require_place()
    return ImageRun(
        opened.images,
        opened.full_set,
        chosen,
        batch_size=batch_size,
        protocol=protocol,
        precision=chosen_precision,
        accelerations=accelerations,
        progress=progress,
        fail_fast=fail_fast,
        predictions=kept,
        crop_cache=Path(crop_cache) if crop_cache is not None else None,
    )


def _protocol_options(
    pipeline: str | None,
    image_size: int | None,
    crop_pct: float | None,
    interpolation: str | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
) -> ProtocolOptions:
    options = ProtocolOptions(
        pipeline=None if pipeline is None else _one_of(PIPELINES, pipeline, "pipeline"),
        image_size=image_size,
        crop_pct=crop_pct,
        interpolation=None if interpolation is None else _one_of(INTERPOLATIONS, interpolation, "interpolation"),
        mean=mean,
        std=std,
    )
    options.applied_to(Protocol())  # says so before any file is read if no image can be prepared like this
    return options


def _probes(
    input_size: tuple[int, int], wiring: str | os.PathLike[str] | bool, peer: str | None, device: str | None
) -> Probes:
    from r2convert.checks.run import Probes

    images, opened_peer = None, None
    if wiring:
        from r2convert.checks.wiring import images_from, synthetic_images

        images = synthetic_images() if wiring is True else images_from(Path(wiring).expanduser())
    if peer is not None:
        from r2convert.checks.parity import open_peer

        opened_peer = open_peer(_one_of(PEERS, peer, "peer"))
    return Probes(input_size, images, opened_peer, device or "cpu")


def _one_of(choices: tuple[Choice, ...], value: str, what: str) -> Choice:
    """A value as one of those that are known: calls need not be type-checked."""
    for choice in choices:
        if choice == value:
            return choice
    raise UsageError(f"there is no {what} {value!r}", expected=" or ".join(choices))


def diagnose(
    checkpoint: FileOrVariant,
    imagenet: str | os.PathLike[str],
    *,
    measured: Decimal | None = None,
    measured_top5: Decimal | None = None,
    expected: Decimal | None = None,
    limit: int = 256,
    seed: int = 0,
    thorough: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    progress: Callable[[Progress], None] = _ignore,
    warn: Warn = _ignore,
) -> Diagnosis:
    """Find out why an accuracy is off: try the usual causes and rank them.

    Args:
        checkpoint: a checkpoint, or the name of a variant in the cache.
        imagenet: the validation images.
        measured: top-1 in per cent that was measured elsewhere on all of these images; its digits say how exact it is.
        measured_top5: the same for top-5.
        expected: top-1 in per cent that these images ought to give; by default the published one.
        limit: how many images to try causes on.
        seed: random seed of that sample.
        thorough: try every cause on every image.
        device: where the network runs; by default a GPU where there is one.
        batch_size: images that run at once.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the layout, instead of detecting it from the names.
        key: which of several state dicts in the file.
        prefix: only the tensors under this prefix.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.
        progress: told before every setting is tried on some images.
        warn: told what is odd about the images.

    Raises:
        InputError: the file or the images cannot be used.
        UsageError: options do not fit together, or the device is not available.
        AccessError: the file is not there, or memory ran out.
    """
    from r2convert.checks.run import Request
    from r2convert.doctor.consultation import consult
    from r2convert.doctor.trials import Device
    from r2convert.imagenet.datasets import open_validation_set

    if measured_top5 is not None and measured is None:
        raise UsageError("--measured-top5 says more of --measured", expected="--measured 76.3 --measured-top5 93.1")
    images = open_validation_set(Path(imagenet))
    for warning in images.warnings:
        warn(warning)
    tables = _tables()
    located = _locate(tables.catalog.find, checkpoint)
    said = tables.catalog.find_architecture(variant) if variant is not None else located.variant
    chosen = _device(device)
    return consult(
        tables,
        Request(located.path, said, layout, key, prefix, tuple(leave_out)),
        images,
        limit=limit,
        seed=seed,
        measured=_known_score(measured, measured_top5),
        expected=_known_score(expected),
        device=Device.of(chosen, batch_size),
        device_name=_device_name(chosen) or chosen,
        thorough=thorough,
        progress=progress,
    )


def _known_score(top1: Decimal | None, top5: Decimal | None = None) -> KnownScore | None:
    from r2convert.results.diagnosis import KnownScore

    if top1 is None:
        return None
    exponents = [int(value.as_tuple().exponent) for value in (top1, top5) if value is not None]
    digit = Decimal(1).scaleb(max(exponents) - 2)
    return KnownScore(float(top1 / 100), None if top5 is None else float(top5 / 100), float(digit))


# --- report, selftest, demo ------------------------------------------------------------------------------------------

ReportKind = Literal["html", "markdown", "metafile"]


def read_results(paths: Sequence[str]) -> list[Run]:
    """Read what ``verify --json`` has written.

    Args:
        paths: the files; ``-`` is standard input.

    Raises:
        InputError: a file is no such document.
        AccessError: a file cannot be read.
    """
    from r2convert.results.reading import read_run

    return [read_run(path) for path in paths]


def render_report(
    runs: Sequence[Run],
    kind: ReportKind,
    *,
    imagenet: str | os.PathLike[str] | None = None,
    predictions: PredictionsComparison | None = None,
) -> str:
    """Results as the text of a report.

    Args:
        runs: what to report.
        kind: ``html``: one self-contained page; ``markdown``: the table as model zoos print it; ``metafile``:
            OpenMMLab's model-index YAML with the measured numbers.
        imagenet: the images that were measured on, to show those that were confused in the page.
        predictions: of two runs, what :func:`compare_predictions` says, to show in the page which images changed.

    Raises:
        UsageError: a page needs packages that are not installed, or the predictions are not those of the runs.
        DatasetError: the images cannot be used.
    """
    if kind == "html":
        return _page(runs, Path(imagenet) if imagenet is not None else None, predictions)
    if kind == "markdown":
        from r2convert.report.markdown import markdown_table

        return markdown_table(runs, load_catalog())
    from r2convert.report.metafile import model_index

    return model_index(runs)


def _page(runs: Sequence[Run], imagenet: Path | None, predictions: PredictionsComparison | None) -> str:
    from importlib.util import find_spec

    if find_spec("jinja2") is None:
        raise UsageError(
            "--html needs a package that is not installed",
            expected="jinja2",
            got="no jinja2",
            next_step="pip install jinja2; --markdown and --metafile work without",
        )
    from r2convert.report.page import render_page
    from r2convert.report.thumbnails import Thumbnails

    return render_page(runs, load_catalog(), Thumbnails.from_images(imagenet), predictions)


def selftest(*, against: Literal["torch"] | None = None) -> tuple[list[Trial], list[str] | None]:
    """Make every file of the catalogue of bad files and see that the reader refuses it as it should.

    Args:
        against: also load each file with ``torch.load(weights_only=True)``, in a confined process of its own.

    Returns:
        One trial a file, and what torch did with each if that was asked for.
    """
    import tempfile

    from r2convert.selftest.bad_files import bad_files
    from r2convert.selftest.trial import try_bad_file

    with tempfile.TemporaryDirectory(prefix="r2convert-selftest-") as folder:
        trials = [
            try_bad_file(bad_file, Path(folder) / f"{index:03}{bad_file.suffix}")
            for index, bad_file in enumerate(bad_files())
        ]
        if against is None:
            return trials, None
        from r2convert.selftest.torch_judge import judge_with_torch

        return trials, judge_with_torch([trial.path for trial in trials])


def demo_stage(folder: Path) -> AbstractContextManager[DemoStage]:
    """Build what ``r2convert demo`` works on: a stand-in for an official file, served on the loopback, and images.

    Args:
        folder: an empty folder to build it in.
    """
    from r2convert.selftest.demo import prepare_demo

    return prepare_demo(folder)
