"""The Python API, one typed function per command; the command line calls these and prints what they return.

No function prints. Long operations report to a callback, and warnings about a data set go to ``warn``. Every error is
an :class:`~r2convert.errors.R2ConvertError`. What ``r2convert`` exports is documented in full; the other functions are
for the command line, and their docstrings say only what differs.

Slow imports are inside functions, since most commands need only one of them. Beyond what ``r2convert list`` needs, the
tables and the reader take as long to import as the whole of click, HTTP and numpy five times that, and torch seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args, overload

from r2convert.catalog.loading import load_catalog, load_layouts
from r2convert.catalog.protocol import ACCELERATIONS as ACCELERATIONS
from r2convert.catalog.protocol import INTERPOLATIONS as INTERPOLATIONS
from r2convert.catalog.protocol import PIPELINES as PIPELINES
from r2convert.catalog.protocol import PRECISIONS as PRECISIONS
from r2convert.catalog.protocol import Protocol, one_of
from r2convert.catalog.protocol import ProtocolOptions as ProtocolOptions
from r2convert.catalog.variant import PEERS as PEERS
from r2convert.catalog.variant import WEIGHTS_LICENCE as WEIGHTS_LICENCE
from r2convert.catalog.variant import Layout as Layout
from r2convert.catalog.variant import Publisher as Publisher
from r2convert.catalog.variant import Source
from r2convert.catalog.variant import Variant as Variant
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.tensor_names import patterns_of
from r2convert.download import cache as download_cache
from r2convert.download import listing, locating
from r2convert.download.cache import Cache, recorded_digests
from r2convert.download.cache import copy_to as copy_to
from r2convert.download.listing import ListedVariant as ListedVariant
from r2convert.download.listing import ListedWeights as ListedWeights
from r2convert.download.locating import HUB, cached_path
from r2convert.download.locating import Located as Located
from r2convert.errors import AccessError, R2ConvertError, UsageError

if TYPE_CHECKING:
    from r2convert.catalog.protocol import Acceleration, Interpolation, Pipeline, Precision
    from r2convert.checkpoint.open import Checkpoint
    from r2convert.checks.run import ImageRun, Probes, Request
    from r2convert.doctor.trials import Progress as Progress
    from r2convert.download.cache import CachedFile as CachedFile
    from r2convert.download.cache import CacheEntry
    from r2convert.download.cache import Verified as Verified
    from r2convert.download.download import Imported as Imported
    from r2convert.download.pins import Pin
    from r2convert.download.transfer import ProgressSink
    from r2convert.evaluation.engine import AccuracyProgress as AccuracyProgress
    from r2convert.evaluation.engine import Network as Network
    from r2convert.evaluation.prediction_store import PredictionFile
    from r2convert.evaluation.preprocessor import Preprocessor as Preprocessor
    from r2convert.imagenet.validation_set import ValidationSet
    from r2convert.mapping.conversion import Conversion as Conversion
    from r2convert.mapping.identity import Resolution
    from r2convert.mapping.plan import Plan as Plan
    from r2convert.mapping.readers import ListedLayout as ListedLayout
    from r2convert.mapping.readers import TensorNames as TensorNames
    from r2convert.mapping.tables import Tables
    from r2convert.models.blocks import Classifier, FeatureExtractor
    from r2convert.results.diagnosis import Diagnosis as Diagnosis
    from r2convert.results.diagnosis import KnownScore
    from r2convert.results.documents import ChangedImage as ChangedImage
    from r2convert.results.documents import Comparison as Comparison
    from r2convert.results.documents import Inspection as Inspection
    from r2convert.results.documents import LearnedLayout as LearnedLayout
    from r2convert.results.documents import PredictionComparison as PredictionComparison
    from r2convert.results.documents import PredictionsComparison as PredictionsComparison
    from r2convert.results.reading import Run as Run
    from r2convert.results.verification import Accuracy as Accuracy
    from r2convert.results.verification import ActivationComparison as ActivationComparison
    from r2convert.results.verification import CheckpointResult as CheckpointResult
    from r2convert.selftest.demo import DemoStage as DemoStage
    from r2convert.selftest.trial import Trial as Trial

    _Opened = tuple[Checkpoint, Resolution | None, str | None]

TargetLayout = Layout
CastTo = Literal["float32", "float16", "bfloat16"]
CASTS: tuple[CastTo, ...] = get_args(CastTo)
FileOrVariant = str | os.PathLike[str] | Located
Channels = tuple[float, float, float]
Warn = Callable[[str], None]


def _ignore(_: object) -> None:
    """The default callback."""


class Part(NamedTuple):
    """Which tensors of a file to use, and what the caller says they are: see :func:`map_checkpoint`."""

    variant: str | None = None
    layout: Layout | None = None
    key: str | None = None
    prefix: str = ""
    leave_out: Sequence[str] = ()


_WHOLE = Part()
_AS_PUBLISHED = ProtocolOptions()


def _tables() -> Tables:
    from r2convert.mapping.tables import Tables

    return Tables(load_catalog())


# --- Variants and where their files are ------------------------------------------------------------------------------


def variants() -> tuple[Variant, ...]:
    """Every variant of the catalogue."""
    return tuple(load_catalog().variants.values())


def publishers() -> tuple[str, ...]:
    """Every publisher in the catalogue."""
    return load_catalog().publishers


def layouts(*, written: bool = False) -> tuple[str, ...]:
    """The names of the layouts; with ``written``, only of those that can be written."""
    return tuple(layout.name for layout in load_layouts() if layout.written_as or not written)


def list_variants(
    *, publisher: Publisher | None = None, layout: Layout | None = None, cached: bool = False
) -> list[ListedVariant]:
    """Every architecture with its weights, their published numbers, and which files are in the cache.

    ``publisher``, ``layout`` and ``cached`` select weights of one publisher, in one layout, or in the cache.
    """
    look_up = Cache.default().lookup
    return listing.list_variants(load_catalog(), look_up, publisher=publisher, layout=layout, cached=cached)


def list_layouts() -> list[ListedLayout]:
    """Every layout: who reads it, what can be built there, and what is computed differently."""
    from r2convert.mapping.readers import list_layouts as by_reader

    return by_reader(_tables())


def tensor_names(variant: str, *, source: Layout | None = None, target: Layout = "mm") -> TensorNames:
    """The names of a variant's tensors in two layouts, by default its official file's and ``mm``, with their shapes."""
    from r2convert.mapping.readers import tensor_names as in_layouts

    return in_layouts(_tables(), variant, source, target)


def locate(checkpoint: FileOrVariant, *, fetch: bool = False, progress: ProgressSink | None = None) -> Located:
    """Tell a path from a variant's name, and find the variant's file in the cache: see :func:`locating.locate`."""
    # A path is recognised without the catalogue, which takes longer to read than a small file.
    return locating.locate(lambda name: load_catalog().find(name), checkpoint, fetch=fetch, progress=progress)


# --- fetch and cache -------------------------------------------------------------------------------------------------


class FetchedFiles(NamedTuple):
    """The outcome of fetching several files.

    Args:
        files: variant (none for a file of the hub) and file, in the requested order.
        errors: why the others could not be fetched.
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

    An interrupted download is resumed by the next call. The environment variables ``R2CONVERT_CACHE`` (the cache
    folder) and ``R2CONVERT_MIRROR`` (a base URL or a folder to try first) apply as on the command line.

    Args:
        variant: any name of the variant, e.g. ``res2net50_w14_s8`` or ``Res2Net-50-14w-8s``; or a file on the Hugging
            Face hub, ``hf://ORG/REPO[@REVISION][/FILE]``.
        publisher: whose file: ``official``, ``openmmlab``, ``timm`` or ``paddle``; by default the variant's first.
        offline: use no network: the file must be in the cache, or in a mirror that is a folder.
        progress: receives the progress of the transfer, from another thread.

    Returns:
        The file's path, its size in bytes, its SHA-256, and whether that was published.

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
    from r2convert.download.download import fetch_source
    from r2convert.download.hub import fetch_hub_file

    if variant.startswith(HUB):
        return fetch_hub_file(variant, Cache.default(), offline=offline, progress=progress)
    source = listing.choose_source(load_catalog().find(variant), publisher)
    return fetch_source(source, Cache.default(), offline=offline, progress=progress)


def fetch_all(
    names: Sequence[str],
    *,
    publisher: Publisher | None = None,
    offline: bool = False,
    at_once: int = 4,
    display: Callable[[int], ProgressSink] | None = None,
) -> FetchedFiles:
    """Fetch several files as :func:`fetch` does, ``at_once`` in parallel; one that fails does not stop the others.

    Without names, the first weights of every architecture are fetched, but no detectors; with a publisher, all of its
    weights. ``display`` takes the number of files and returns the sink for their progress.
    """
    from r2convert.download.download import fetch_sources

    on_hub = [name for name in names if name.startswith(HUB)]
    variants = [name for name in names if name not in on_hub]
    wanted = [] if on_hub and not variants else listing.choose_sources(load_catalog(), variants, publisher)
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


def import_file(
    path: str | os.PathLike[str],
    names: Sequence[str] = (),
    *,
    publisher: Publisher | None = None,
    progress: ProgressSink | None = None,
) -> Imported:
    """Import a file downloaded by hand into the cache, recognised by its hash, or else by its names and shapes.

    ``names`` are the variants that it may be, by default all; see :func:`r2convert.download.download.import_file`.
    """
    from r2convert.download.download import import_file as take
    from r2convert.mapping.inspection import recogniser_of_files

    tables = _tables()
    possible = [tables.catalog.find(name) for name in names] or list(tables.catalog.variants.values())
    fits = recogniser_of_files(tables)
    return take(Path(path), possible, Cache.default(), fits=fits, publisher=publisher, progress=progress)


def cache_folder() -> Path:
    """Where the cache is: ``R2CONVERT_CACHE``, or the platform's folder for user caches."""
    return Cache.default().folder


def cache_is_new() -> bool:
    """Whether nothing has been downloaded yet."""
    return not Cache.default().pins.all()


def _sources() -> list[Source]:
    return [source for variant in variants() for source in variant.sources]


def cache_entries() -> list[CacheEntry]:
    """The files in the cache folder; one that changed since it was last hashed is hashed again."""
    return download_cache.checked_entries(Cache.default(), _sources())


def verify_cache(following: Callable[[Sequence[CacheEntry]], Iterable[CacheEntry]] = iter) -> list[Verified]:
    """Hash every file in the cache again; damaged ones are set aside.

    ``following`` wraps the files, as a progress bar does.
    """
    return download_cache.verify_cache(Cache.default(), _sources(), following)


def clean_cache() -> tuple[list[CacheEntry], list[CacheEntry]]:
    """Remove partial downloads and bad files; return what was removed, and what was in use and left alone."""
    return download_cache.clean_cache(Cache.default())


def forget_hash(file_name: str) -> Pin:
    """Forget the recorded hash of a file, so that a new one is accepted; return what was recorded."""
    return download_cache.forget_hash(Cache.default(), file_name)


# --- inspect, map, compare -------------------------------------------------------------------------------------------


def inspect(
    checkpoint: FileOrVariant,
    part: Part = _WHOLE,
    *,
    digests: bool = True,
) -> Inspection:
    """Describe what a file really is: container, layout, variant, tensors, parameters and digests.

    Arguments and errors are those of :func:`map_checkpoint`. Without ``digests``, only names and shapes are read.
    """
    from r2convert.mapping.inspection import inspect as describe

    read_tables = cache(_tables)
    with _open(read_tables, locate(checkpoint), part, digest=digests) as opened:
        tables = read_tables()
        return describe(tables, opened, _said(tables, part), digests=digests, pins=recorded_digests())


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

    ``like`` is the architecture it holds, any id or alias such as ``res2net152_v1b_w26_s4``; ``name`` what to call the
    layout; ``output`` a folder to write the draft into, for ``R2CONVERT_MAPPINGS``. See
    :func:`r2convert.mapping.draft.learn_layout`; ``key``, ``prefix`` and ``leave_out`` are those of
    :func:`map_checkpoint`.
    """
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.draft import learn_layout as learn

    tables, path = _tables(), locate(checkpoint).path
    variant, folder = tables.catalog.find_architecture(like), None if output is None else Path(output)
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

    Nothing is written unless every tensor is accounted for; the output is read back and compared before it is moved
    into place. Nothing in the source is executed, and torch is not needed.

    Args:
        src: the checkpoint, or the name of a variant in the cache.
        dst: where to write; the suffix selects the format: ``.pth``, ``.pt`` or ``.safetensors``, ``.pdparams`` for
            Paddle, ``.pkl`` for detectron2.
        to: the layout of the output.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the source's layout, instead of detecting it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``backbone.``, which is removed from their names.
        leave_out: shell patterns; tensors whose names match one are left out, and the receipt says so.
        backbone_only: leave the classifier out.
        dtype: cast floating-point tensors to this type, rounding to nearest, ties to even.
        overwrite: replace the output if it exists.
        receipt: write a receipt beside the output: an in-toto statement that binds it to the source's bytes.
        check: read the output back and compare it before it is moved into place.
        digests: compute SHA-256 of both files and the content hash; a receipt needs them.

    Returns:
        The plan that was carried out (``plan.rows``: what happened to each tensor; ``plan.warnings``: caveats about
        source and target), the file that was written with its size and SHA-256, and the network's content hash.

    Raises:
        MappingError: the file is no known network, or not every tensor is accounted for; all problems are named.
        CheckpointError: the source is damaged, unsafe or of a kind that is not read.
        UsageError: the options cannot be combined, or the variant does not exist in that layout.
        AccessError: the source is not there, or the output exists or cannot be written.

    Examples:
        >>> from r2convert import map_checkpoint
        >>> conversion = map_checkpoint("res2net50_w14_s8", "mm.safetensors")
        >>> conversion.plan.source_layout, conversion.plan.target_layout
        ('official', 'mm')
        >>> len(conversion.plan.rows_of("rename")), conversion.plan.rows_of("drop")
        (896, ())
    """
    part, digest, place = Part(variant, layout, key, prefix, leave_out), digests or receipt, Path(dst)
    chosen = {"overwrite": overwrite, "receipt": receipt, "check": check}
    with _planned(src, part, to, backbone_only, place=place, digest=digest) as (opened, plan, settle):
        from r2convert.mapping.conversion import convert

        return convert(opened, plan, place, **chosen, digest=digest, dtype=_dtype(dtype), settle=settle)


def plan_conversion(
    src: FileOrVariant,
    dst: str | os.PathLike[str] | None = None,
    part: Part = _WHOLE,
    *,
    to: TargetLayout = "mm",
    backbone_only: bool = False,
    overwrite: bool = False,
) -> Planned:
    """What :func:`map_checkpoint` would do, with the same arguments and errors; nothing is written.

    Without ``dst``, the destination is not checked.
    """
    from r2convert.mapping.conversion import require_possible

    place = None if dst is None else Path(dst)
    with _planned(src, part, to, backbone_only, place=place, digest=True) as (opened, plan, settle):
        plan.require_clean(str(opened.path))
        if place is not None:
            require_possible(plan, place, overwrite=overwrite)
        return Planned(opened.path, settle(opened.sha256()))


def publish(
    src: FileOrVariant,
    folder: str | os.PathLike[str],
    part: Part = _WHOLE,
    *,
    backbone_only: bool = False,
    dtype: CastTo | None = None,
    overwrite: bool = False,
    receipt: bool = True,
    check: bool = True,
) -> Conversion:
    """Convert to the mm layout under the name that OpenMMLab's model zoo would give the file, its hash included.

    ``folder`` is created if needed; everything else, errors included, is as in :func:`map_checkpoint`.
    """
    from r2convert.mapping.conversion import publish as publish_in

    chosen = {"overwrite": overwrite, "receipt": receipt, "check": check}
    with _planned(src, part, "mm", backbone_only, digest=True) as (opened, plan, settle):
        return publish_in(opened, plan, Path(folder), **chosen, dtype=_dtype(dtype), settle=settle)


def _dtype(name: CastTo | None) -> DType | None:
    return None if name is None else DType(one_of(CASTS, name, "dtype"))


@contextmanager
def _planned(
    src: FileOrVariant, part: Part, to: str, backbone_only: bool, *, place: Path | None = None, digest: bool
) -> Iterator[tuple[Checkpoint, Plan, Callable[[str], Plan]]]:
    """The open source, its plan with the warnings of both, and what weighs the evidence once the source is hashed."""
    from msgspec.structs import replace

    from r2convert.mapping.plan import plan_conversion as plan_for
    from r2convert.mapping.plan import with_evidence

    with _opened(src, part, digest=digest) as (tables, checkpoint, resolution):
        plan = plan_for(tables, resolution, to, checkpoint.tensors, backbone_only=backbone_only)
        if place is not None:
            from r2convert.mapping.conversion import require_file  # here: by now the source is being hashed

            require_file(tables, checkpoint.path, place, to)

        def with_all_warnings(plan: Plan) -> Plan:
            unread = ((name, f"{each.kind}, which is not read") for name, each in checkpoint.unread.items())
            left_out = (*((each.name, each.reason) for each in checkpoint.left_out), *unread)
            return replace(plan, warnings=(*checkpoint.warnings, *plan.warnings), left_out=left_out)

        def settle(_: str) -> Plan:
            return with_all_warnings(with_evidence(tables, plan, _weighed(tables, checkpoint, resolution)))

        yield checkpoint, with_all_warnings(plan), settle


@contextmanager
def _opened(
    checkpoint: FileOrVariant, part: Part, *, digest: bool = False
) -> Iterator[tuple[Tables, Checkpoint, Resolution]]:
    """An open file and what it is."""
    from r2convert.mapping.identity import resolve

    located, read_tables = locate(checkpoint), cache(_tables)
    with _open(read_tables, located, part, digest=digest) as opened:
        tables = read_tables()  # here: by now the file is being hashed
        yield tables, opened, resolve(tables, opened, _said(tables, part) or located.variant, part.layout)


def _open(read_tables: Callable[[], Tables], located: Located, part: Part, *, digest: bool = False) -> Checkpoint:
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.identity import recogniser

    return open_checkpoint(
        located.path,
        key=part.key,
        prefix=part.prefix,
        leave_out=part.leave_out,
        recognise=lambda shapes: recogniser(read_tables())(shapes),
        digest=digest,
    )


def _said(tables: Tables, part: Part) -> Variant | None:
    return None if part.variant is None else tables.catalog.find_architecture(part.variant)


def _weighed(tables: Tables, opened: Checkpoint, resolution: Resolution) -> Resolution:
    """What an open file is, with all evidence weighed; the whole file is read for its SHA-256."""
    from r2convert.mapping.evidence import clues_of, weigh

    return weigh(tables, resolution, clues_of(opened, sha256=opened.sha256(), pins=recorded_digests()))


@overload
def load_model(
    checkpoint: FileOrVariant,
    *,
    fetch: bool = False,
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    features_only: Literal[False] = False,
) -> Classifier: ...


@overload
def load_model(
    checkpoint: FileOrVariant,
    *,
    fetch: bool = False,
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    features_only: Literal[True],
) -> FeatureExtractor: ...


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
        fetch: download the variant's file if it is not in the cache.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the file's layout, instead of detecting it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``model.``.
        leave_out: shell patterns; tensors whose names match one are left out.
        features_only: the backbone alone, as detection and segmentation use it; the file need not have a classifier.

    Returns:
        A ``torch.nn.Module`` on the CPU, float32 (float64 if the file is): images (N, 3, H, W) -> logits (N, classes).
        Images are RGB in 0..1, 224x224 for the published accuracies, normalised by ImageNet's mean
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
    located, part = locate(checkpoint, fetch=fetch), Part(variant, layout, key, prefix, leave_out)
    with _opened(located, part, digest=True) as (tables, opened, resolution):
        return load(opened, _weighed(tables, opened, resolution))


def preprocess(weights: str) -> Preprocessor:
    """Return the preprocessing with which the publisher of the weights measured.

    Args:
        weights: any name of a variant, for the weights that ``fetch`` gets first, or the id of particular weights, e.g.
            ``res2net50_w26_s8.timm``.

    Returns:
        A function: the path of a file, its bytes, or a Pillow image -> float32 (3, crop, crop), RGB, normalised: what
        ``verify`` feeds the network, to the last bit. Its ``protocol`` has the sizes, the filter, the mean and the
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

    If both are known variants, tensors are compared under their ``mm`` names, without batch counters and unused
    layers; otherwise under their own names.

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
        MappingError: a file is not the given variant.
        CheckpointError: a file is damaged, unsafe or of a kind that is not read.
        AccessError: a file is not there or cannot be read.

    Examples:
        >>> from r2convert import compare, map_checkpoint
        >>> conversion = map_checkpoint("res2net50_w14_s8", "timm.safetensors", to="timm")
        >>> compare("res2net50_w14_s8", "timm.safetensors").equal
        True
    """
    from msgspec.structs import replace

    from r2convert.mapping.comparison import compare as compare_files

    tables, part = _tables(), Part(variant, None, key, prefix, leave_out)
    with _both(tables, a, b, part) as ((one, first, why), (other, second, why_not)):
        said = [f"A: {each}" for each in (*one.warnings, why) if each]
        said += [f"B: {each}" for each in (*other.warnings, why_not) if each]
        return replace(compare_files(tables, one, first, other, second), warnings=tuple(said))


def compare_activations(
    a: FileOrVariant,
    b: FileOrVariant,
    part: Part = _WHOLE,
) -> ActivationComparison:
    """Run two networks of one architecture on one random image in float64, and compare them layer by layer.

    Arguments and errors are those of :func:`compare`, and :class:`UsageError` if the architectures differ.
    """
    from r2convert.checks.parity import compare_activations as compare_outputs
    from r2convert.checks.parity import random_input
    from r2convert.models.build import load_network

    tables = _tables()
    with _both(tables, a, b, part) as ((one, first, _), (other, second, _)):
        if first is not None and second is not None:
            # Equal names do not tell two networks apart; a digest or a receipt may.
            first, second = _weighed(tables, one, first), _weighed(tables, other, second)
        known = [resolution.identity.variant for resolution in (first, second) if resolution is not None]
        if first is None or second is None or known[0].architecture != known[1].architecture:
            raise UsageError(
                "activations can only be compared between two checkpoints of the same network",
                expected="two files of the same variant",
                got=" and ".join(variant.id for variant in known) or "a file that holds no known network",
            )
        return compare_outputs(load_network(one, first), load_network(other, second), random_input(known[0]))


@contextmanager
def _both(tables: Tables, a: FileOrVariant, b: FileOrVariant, part: Part) -> Iterator[tuple[_Opened, _Opened]]:
    """Two open files, what they are, and why not; if one is unknown, both keep their own names."""
    from r2convert.mapping.inspection import resolve_or_reason

    said = _said(tables, part)
    with ExitStack() as stack:
        opened: list[Checkpoint] = []
        problems: list[UsageError] = []
        for located in (locate(a), locate(b)):
            try:
                opened.append(_open(lambda: tables, located, part))
            except UsageError as error:
                # The requested part need only be in one of the two: one file's average against another file.
                problems.append(error)
                opened.append(_open(lambda: tables, located, _WHOLE))
            stack.enter_context(opened[-1])
        if len(problems) == len(opened):
            raise problems[0]
        one, other = opened
        (first, why), (second, why_not) = (resolve_or_reason(tables, each, said) for each in (one, other))
        if first is None or second is None:
            first = second = None
        yield (one, first, why), (other, second, why_not)


def compare_predictions(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    network_a: str | None = None,
    network_b: str | None = None,
) -> PredictionsComparison:
    """Compare two files of predictions written by ``verify``, image by image.

    ``network_a`` and ``network_b`` choose from files that hold several networks.

    Raises:
        UsageError: it is not clear which networks are meant, or they were run on different images.
        InputError: a file is damaged.
    """
    from r2convert.evaluation.prediction_comparison import compare_files

    return compare_files(Path(a), Path(b), network_a=network_a, network_b=network_b)


def synsets() -> Sequence[str]:
    """The WordNet ids of the classes of ImageNet-1k, by class index."""
    from r2convert.imagenet.labels import synsets as by_index

    return by_index()


# --- verify and doctor -----------------------------------------------------------------------------------------------


class ImageSet(NamedTuple):
    """Labelled images to measure on.

    Args:
        images: the images.
        full_set: whether accuracies are published for the set that they are, or are a sample of.
    """

    images: ValidationSet
    full_set: bool


def open_images(
    path: str | os.PathLike[str], *, limit: int | None = None, seed: int = 0, warn: Warn = _ignore
) -> ImageSet:
    """Open the validation images of ImageNet-1k: a folder, an uncompressed tar or a list file.

    With ``limit``, a random sample of this many images is taken, stratified by class. ``warn`` receives warnings about
    them.

    Raises:
        DatasetError: they cannot be used as a validation set.
        UsageError: ``limit`` is not positive.
    """
    from r2convert.imagenet.datasets import open_validation_set
    from r2convert.imagenet.validation_set import stratified_sample

    images = open_validation_set(Path(path))
    for warning in images.warnings:
        warn(warning)
    return ImageSet(
        images if limit is None else stratified_sample(images, limit, seed=seed), images.dataset is not None
    )


class VerifyRun(NamedTuple):
    """The results of one run.

    Args:
        results: one per checkpoint that could be checked.
        device: where networks ran; ``None`` if none did.
        unchecked: the other checkpoints, each with the reason.
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
    mean: Channels | None = None,
    std: Channels | None = None,
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
        device: where the network runs, e.g. ``cuda:1``; by default a GPU if there is one.
        batch_size: initial batch size; by default the device's. It is halved when memory runs out.
        precision: ``strict`` is float32 with TF32 off; ``fast`` gives the same counts sooner on a GPU.
        pipeline: ``pil`` as torchvision and timm, ``opencv`` as PaddleClas; by default, like all that follows, what the
            publisher of the weights measured with.
        image_size: side of the crop in pixels.
        crop_pct: the crop's share of the resized short side.
        interpolation: ``bilinear`` or ``bicubic``.
        mean: of red, green and blue, for pixels from 0 to 1.
        std: their standard deviations.
        variant: the variant, instead of detecting it from names and shapes.
        layout: the file's layout, instead of detecting it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``model.``.
        leave_out: shell patterns; tensors whose names match one are left out.

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
        Part(variant, layout, key, prefix, leave_out),
        images=open_images(imagenet, limit=limit) if imagenet is not None else None,
        device=device,
        batch_size=batch_size,
        precision=precision,
        protocol=ProtocolOptions(pipeline, image_size, crop_pct, interpolation, mean, std),
    ).results[0]


def verify_all(
    checkpoints: Sequence[FileOrVariant] = (),
    part: Part = _WHOLE,
    *,
    images: ImageSet | None = None,
    fail_fast: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "strict",
    accelerate: Sequence[Acceleration] = (),
    protocol: ProtocolOptions = _AS_PUBLISHED,
    predictions: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    crop_cache: str | os.PathLike[str] | None = None,
    wiring: str | os.PathLike[str] | bool = False,
    peer: str | None = None,
    input_size: tuple[int, int] = (224, 224),
    following: Callable[[Sequence[Request]], Iterable[Request]] = iter,
    progress: Callable[[AccuracyProgress], None] = _ignore,
) -> VerifyRun:
    """Check several checkpoints, by default those in the cache; with images, all networks see them in one pass.

    If one of several files cannot be read, its error is returned with the results of the others; a single file raises
    it. Arguments and errors are those of :func:`verify`, and the options of the command line: ``fail_fast`` stops once
    a published accuracy is certainly missed, ``accelerate`` enables optimisations in any precision but ``strict``,
    ``predictions`` is a file to keep every image's prediction in, which ``resume`` continues and ``overwrite``
    replaces, ``crop_cache`` a folder to keep crops in, ``wiring`` runs synthetic images (``True``) or those of a
    folder, ``peer`` is another implementation to compare with, and operations are counted for images of ``input_size``
    (height, width). ``following`` wraps the files, as a progress bar does; ``progress`` is called after every batch.
    """
    from r2convert.checks.run import verify_checkpoints

    tables = _tables()
    requests = _requests(tables, checkpoints, part)
    unchecked: list[tuple[Path, R2ConvertError]] = []

    def note(request: Request, error: R2ConvertError) -> None:
        unchecked.append((request.path, error))

    # One bad file among several must not cost the results of the others.
    on_error = note if len(requests) > 1 else None
    place = _device(device) if images is not None or wiring else None
    if images is None or place is None:
        probes = _probes(input_size, wiring, peer, place)
        results = [
            result
            for request in following(requests)
            for result in verify_checkpoints(tables, [request], None, probes, on_error)
        ]
        return VerifyRun(tuple(results), place and _device_name(place), tuple(unchecked))
    from r2convert.evaluation.processes import joined_processes

    with joined_processes():
        run = _image_run(
            images,
            place,
            precision,
            accelerate,
            protocol=protocol,
            batch_size=batch_size,
            progress=progress,
            fail_fast=fail_fast,
            predictions=_prediction_file(predictions, resume, overwrite),
            crop_cache=crop_cache,
        )
        probes = _probes(input_size, wiring, peer, place)
        results = verify_checkpoints(tables, requests, run, probes, on_error)
        return VerifyRun(tuple(results), _device_name(place), tuple(unchecked))


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
    mean: Channels | None = None,
    std: Channels | None = None,
    predictions: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    crop_cache: str | os.PathLike[str] | None = None,
    progress: Callable[[AccuracyProgress], None] = _ignore,
    warn: Warn = _ignore,
) -> Accuracy:
    """Measure any network on labelled images; nothing is compared with published numbers.

    Args:
        network: takes normalised images (N, 3, H, W) and returns a logit for each class of the images. It is moved to
            the device, converted to float32 and put into evaluation mode.
        imagenet: the images: ImageNet-1k, one of its relatives, or a set with classes of its own.
        limit: use a random sample of this many images, stratified by class.
        seed: random seed of the sample.
        device: where the network runs, e.g. ``cuda:1``; by default a GPU if there is one.
        batch_size: initial batch size; by default the device's. It is halved when memory runs out.
        precision: ``strict`` is float32 with TF32 off; ``fast`` gives the same counts sooner.
        accelerate: further optimisations, for any precision but ``strict``.
        pipeline: ``pil`` as torchvision and timm (the default), ``opencv`` as PaddleClas.
        image_size: side of the crop in pixels, by default 224.
        crop_pct: the crop's share of the resized short side, by default 0.875.
        interpolation: ``bilinear`` (the default) or ``bicubic``.
        mean: of red, green and blue, for pixels from 0 to 1; by default ImageNet's.
        std: their standard deviations.
        predictions: a file to keep every image's prediction in.
        resume: continue an interrupted run from its ``predictions`` file.
        overwrite: replace the ``predictions`` file.
        crop_cache: a folder to keep crops in; later runs decode no image.
        progress: called after every batch, from another thread.
        warn: called with warnings about the images.

    Returns:
        Exact counts, scores by class, confusions, images that could not be read, and how fast it was.

    Raises:
        DatasetError: the images cannot be used.
        CheckpointError: the network does not take RGB images, or has another number of classes.
        UsageError: options cannot be combined, or the device or a package is not available.
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
            _device(device),
            precision,
            accelerate,
            protocol=ProtocolOptions(pipeline, image_size, crop_pct, interpolation, mean, std),
            batch_size=batch_size,
            progress=progress,
            predictions=_prediction_file(predictions, resume, overwrite),
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
    """Check the reference networks themselves against the published sizes; needs no file."""
    from r2convert.checks.run import verify_references as verify_every_reference

    return VerifyRun(tuple(verify_every_reference(_tables(), input_size)))


def cached_checkpoints() -> list[Located]:
    """The file of every variant that has an intact one in the cache."""
    found = [(cached_path(variant), variant) for variant in variants()]
    return [Located(path, variant) for path, variant in found if path is not None]


def is_first_process() -> bool:
    """Whether this process is alone or the first that ``torchrun`` has started: the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def _requests(tables: Tables, checkpoints: Sequence[FileOrVariant], part: Part) -> list[Request]:
    """The files to verify, each with what the caller says of it."""
    located = [locate(each) for each in checkpoints] if checkpoints else cached_checkpoints()
    if not located:
        raise UsageError(
            "there is nothing to verify: the cache is empty",
            expected="a checkpoint, or a variant in the cache",
            next_step="give the path of a file, or `r2convert fetch VARIANT` one",
        )
    return [_request(tables, each, part) for each in located]


def _request(tables: Tables, located: Located, part: Part) -> Request:
    from r2convert.checks.run import Request

    said = _said(tables, part) or located.variant
    return Request(located.path, said, part.layout, part.key, part.prefix, patterns_of(part.leave_out))


def _device(name: str | None) -> str:
    from r2convert.evaluation.precision import choose_device

    return str(choose_device(name))


def _device_name(device: str) -> str:
    from r2convert.evaluation.precision import device_name

    return device_name(device)


def _image_run(
    images: ImageSet,
    device: str,
    precision: str,
    accelerate: Sequence[str],
    *,
    protocol: ProtocolOptions,
    batch_size: int | None,
    progress: Callable[[AccuracyProgress], None],
    predictions: PredictionFile | None,
    crop_cache: str | os.PathLike[str] | None,
    fail_fast: bool = False,
) -> ImageRun:
    """Images and how to run them; options that cannot be combined are refused before files are read."""
    from r2convert.checks.run import ImageRun
    from r2convert.evaluation.precision import accelerations_for, choose_device

    chosen, place = one_of(PRECISIONS, precision, "precision"), choose_device(device)
    accelerations = [one_of(ACCELERATIONS, each, "acceleration") for each in accelerate]
    return ImageRun(
        images.images,
        place,
        batch_size=batch_size,
        protocol=protocol,
        precision=chosen,
        accelerations=accelerations_for(chosen, accelerations, place),
        progress=progress if is_first_process() else _ignore,
        fail_fast=fail_fast,
        predictions=predictions,
        crop_cache=None if crop_cache is None else Path(crop_cache),
    )


def _prediction_file(place: str | os.PathLike[str] | None, resume: bool, overwrite: bool) -> PredictionFile | None:
    from r2convert.evaluation.prediction_store import PredictionFile

    if place is None:
        return None
    kept = PredictionFile(Path(place), resume=resume, overwrite=overwrite)
    kept.require_place()
    return kept


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

        opened_peer = open_peer(one_of(PEERS, peer, "peer"))
    return Probes(input_size, images, opened_peer, device or "cpu")


def diagnose(
    checkpoint: FileOrVariant,
    images: ImageSet,
    part: Part = _WHOLE,
    *,
    measured: Decimal | None = None,
    measured_top5: Decimal | None = None,
    expected: Decimal | None = None,
    limit: int = 256,
    seed: int = 0,
    thorough: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] = _ignore,
) -> Diagnosis:
    """Find out why an accuracy is off: try the usual causes and rank them.

    Arguments and errors are those of :func:`verify`, and these: ``measured`` and ``measured_top5`` are percentages
    measured elsewhere on all of the images, whose digits say how precise they are; ``expected`` is the top-1 that
    they ought to give, by default the published one; causes are tried on ``limit`` images, sampled by ``seed``,
    and all of them on every image if ``thorough``. ``progress`` is called before every setting is tried.
    """
    from r2convert.doctor.consultation import consult
    from r2convert.doctor.trials import Device

    tables, place = _tables(), _device(device)
    return consult(
        tables,
        _request(tables, locate(checkpoint), part),
        images.images,
        limit=limit,
        seed=seed,
        measured=_known_score(measured, measured_top5),
        expected=_known_score(expected),
        device=Device.of(place, batch_size),
        device_name=_device_name(place),
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
    """Read what ``verify --json`` has written; ``-`` is standard input."""
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

    ``html`` is one self-contained page, ``markdown`` the table as model zoos print it, ``metafile`` OpenMMLab's
    model-index YAML with the measured numbers. In the page, ``imagenet``, the images of the measurement, shows
    confused ones, and ``predictions``, the result of :func:`compare_predictions` for two runs, which images changed.
    """
    if kind == "html":
        return _page(runs, Path(imagenet) if imagenet is not None else None, predictions)
    if kind == "markdown":
        from r2convert.report.markdown import markdown_table

        return markdown_table(runs, load_catalog())
    from r2convert.report.metafile import model_index

    return model_index(runs)


def _page(runs: Sequence[Run], imagenet: Path | None, predictions: PredictionsComparison | None) -> str:
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
    """Write every file of the catalogue of bad files and check that the reader refuses it as it should.

    With ``against``, each is also loaded with ``torch.load(weights_only=True)``, in a confined process of its own.
    """
    from r2convert.selftest.bad_files import try_every_file

    return try_every_file(with_torch=against is not None)


def demo_stage(folder: Path) -> AbstractContextManager[DemoStage]:
    """Build what ``r2convert demo`` needs in an empty folder: a served stand-in for an official file, and images."""
    from r2convert.selftest.demo import prepare_demo

    return prepare_demo(folder)
