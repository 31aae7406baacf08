"""A verification from end to end: files in, one result per file out.

torch is imported when a network runs, not before: checking a file without images needs neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from r2convert.catalog.protocol import Protocol, ProtocolOptions
from r2convert.catalog.variant import DATASETS, IMAGENET_CLASSES, Dataset, Variant
from r2convert.checkpoint.open import Checkpoint, open_checkpoint
from r2convert.checks.claims import PublishedNumbers, accuracy_checks, likely_weights, lowest_published_top1
from r2convert.checks.counting import require_input_size
from r2convert.checks.static import file_checks, file_numbers, receipt_check
from r2convert.download.cache import recorded_digests
from r2convert.errors import AccessError, InputError, MappingError, R2ConvertError, UsageError
from r2convert.evaluation.statistics import is_certainly_below
from r2convert.mapping.evidence import Clues, weigh
from r2convert.mapping.identity import Identity, Resolution, recogniser, resolve
from r2convert.mapping.inspection import warnings_about
from r2convert.mapping.receipt import read_receipt
from r2convert.mapping.tables import CANONICAL, Tables
from r2convert.mapping.values import read_values
from r2convert.results.verdicts import Check
from r2convert.results.verification import IMAGENET_INPUT, Accuracy, CheckpointResult

if TYPE_CHECKING:
    import torch

    from r2convert.catalog.protocol import Acceleration, Precision
    from r2convert.checks.parity import Peer
    from r2convert.checks.wiring import WiringImages
    from r2convert.evaluation.engine import AccuracyProgress
    from r2convert.evaluation.prediction_store import PredictionFile
    from r2convert.imagenet.validation_set import ValidationSet
    from r2convert.models.blocks import Classifier
    from r2convert.results.verification import ParityResult, WiringResult

_RGB_CHANNELS = 3
_CHECK_THE_REST = "`r2convert verify` without --imagenet checks the rest"
_OWN_CLASSES = (
    "images of other classes than ImageNet's must be in one folder per class, or beside a classes.txt that names them"
)


@dataclass(frozen=True, slots=True)
class Request:
    """A checkpoint to verify.

    Args:
        path: the file.
        variant: what the user says it holds, if anything.
        layout: whose names the user says it has, if anything.
        key: which of several state dicts in it.
        prefix: only the tensors under this prefix.
        leave_out: shell patterns of names to leave out.
    """

    path: Path
    variant: Variant | None = None
    layout: str | None = None
    key: str | None = None
    prefix: str = ""
    leave_out: tuple[str, ...] = ()

    def open(self, tables: Tables, *, digest: bool = True) -> Checkpoint:
        """Open the part of the file that is to be verified; the file is hashed while its names are read."""
        return open_checkpoint(
            self.path,
            key=self.key,
            prefix=self.prefix,
            leave_out=self.leave_out,
            recognise=recogniser(tables),
            digest=digest,
        )


@dataclass(frozen=True, slots=True)
class Probes:
    """What to do with every network besides reading its file.

    Args:
        input_size: height and width of the image to count operations for.
        wiring: images for the wiring check.
        peer: an independent implementation to compare with.
        device: where the wiring check runs.
    """

    input_size: tuple[int, int] = IMAGENET_INPUT
    wiring: WiringImages | None = None
    peer: Peer | None = None
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Examined:
    """One file, examined.

    Args:
        identity: what it is.
        result: what was found so far.
        network: the network with its weights, if requested.
        other_key: takes the file's other weights: its moving average, or the raw ones.
    """

    identity: Identity
    result: CheckpointResult
    network: Classifier | None
    other_key: str | None

    def require_network(self) -> Classifier:
        """The network, for a caller that requested it."""
        assert self.network is not None  # noqa: S101 - loaded whenever there are images
        return self.network


def examine(
    tables: Tables, request: Request, probes: Probes, *, classes: int | None, background: bool = False
) -> Examined:
    """Check one file.

    Args:
        tables: the tables of the catalogue.
        request: the file, and what the user says about it.
        probes: what to do with its network.
        classes: keep the network, to be measured on images of this many classes.
        background: allow one more class, for the background.

    Raises:
        InputError: the file cannot be read, is none of the known networks, or cannot be measured on ImageNet.
        AccessError: the file is not there.
        UsageError: the network cannot run on images of the input size.
    """
    with request.open(tables) as checkpoint:
        resolution = resolve(tables, checkpoint, request.variant, request.layout)
        require_input_size(resolution.identity.variant, probes.input_size)
        if classes is not None:
            _require_classifier(request.path, resolution, classes, background=background)
        content, problems = read_values(checkpoint, resolution)
        checks = file_checks(checkpoint, resolution, problems)
        sha256 = checkpoint.sha256()
        receipt = read_receipt(request.path)
        pins = recorded_digests()
        resolution = weigh(tables, resolution, Clues(sha256, content, receipt, checkpoint.metadata, pins))
        if receipt is not None:
            checks.insert(0, receipt_check(tables, receipt, resolution, sha256=sha256, content_hash=content))
        resolution, wiring = _weigh_wiring(tables, checkpoint, resolution, probes, checks)
        identity = resolution.identity
        numbers = file_numbers(tables, checkpoint, resolution, probes.input_size)
        claims, operations = numbers.checks(), numbers.operations_of(identity.layout)
        parity = _run_parity(checkpoint, resolution, probes, checks)
        network = _load(checkpoint, resolution) if classes is not None else None
    result = CheckpointResult(
        identity.variant.id,
        str(request.path),
        sha256,
        content,
        identity.layout,
        (*checks, *claims),
        dtypes=dict(Counter(tensor.dtype.value for tensor in checkpoint.tensors.values())),
        operations=operations,
        wiring=wiring,
        parity=parity,
        architectures=tuple(variant.id for variant in identity.fits),
        weights=identity.weights.id if identity.weights else None,
        evidence=identity.evidence,
        warnings=tuple(warnings_about(tables, checkpoint, identity)),
    )
    return Examined(identity, result, network, checkpoint.other_key)


def _weigh_wiring(
    tables: Tables, checkpoint: Checkpoint, resolution: Resolution, probes: Probes, checks: list[Check]
) -> tuple[Resolution, WiringResult | None]:
    """Run the wiring check if requested, and let it decide between networks with equal names."""
    if probes.wiring is None:
        return resolution, None
    import torch

    from r2convert.checks.wiring import wiring_check
    from r2convert.checks.wiring_evidence import weigh_wiring
    from r2convert.models.build import load_features

    load, device = partial(load_features, checkpoint), torch.device(probes.device)
    resolution, wiring = weigh_wiring(tables, resolution, load, probes.wiring, device)
    checks.append(wiring_check(wiring))
    return resolution, wiring


def _run_parity(
    checkpoint: Checkpoint, resolution: Resolution, probes: Probes, checks: list[Check]
) -> ParityResult | None:
    if probes.peer is None:
        return None
    if not resolution.identity.has_classifier:
        note = "a backbone: the network cannot be run without its classifier"
        checks.append(Check("parity", "not-comparable", note=note))
        return None
    from r2convert.checks.parity import parity_check, run_parity

    result = run_parity(probes.peer, resolution, checkpoint.path, _load(checkpoint, resolution))
    checks.append(parity_check(result))
    return result


def _load(checkpoint: Checkpoint, resolution: Resolution) -> Classifier:
    from r2convert.models.build import load_network

    return load_network(checkpoint, resolution)


def _require_classifier(path: Path, resolution: Resolution, classes: int, *, background: bool) -> None:
    identity = resolution.identity
    if not identity.has_classifier or identity.classes not in (classes, classes + background):
        raise MappingError(
            "this file cannot be measured on these images",
            where=str(path),
            expected=f"a classifier of {classes:,} classes" + ", or one more for the background" * background,
            got=f"{identity.classes:,} classes" if identity.has_classifier else "a backbone without classifier",
            next_step=_OWN_CLASSES if classes == IMAGENET_CLASSES and identity.has_classifier else _CHECK_THE_REST,
        )
    channels = identity.variant.architecture.in_channels
    if channels != _RGB_CHANNELS:
        raise MappingError(
            "this file cannot be measured on images",
            where=str(path),
            expected=f"a network that takes images of {_RGB_CHANNELS} channels",
            got=f"one that takes {channels}",
            next_step=_CHECK_THE_REST,
        )


@dataclass(frozen=True, slots=True)
class ImageRun:
    """The images to run every network on, and how.

    Args:
        images: the validation set.
        device: where the networks run.
        batch_size: images per batch, or ``None`` for the device's default.
        protocol: what overrides the protocols of the weights.
        precision: how the networks are run, see :mod:`r2convert.evaluation.precision`.
        accelerations: the optimisations in use, see :mod:`r2convert.evaluation.precision`.
        progress: called after every batch.
        fail_fast: stop as soon as every network certainly misses a published top-1.
        predictions: where every image's prediction is kept.
        crop_cache: folder in which crops are kept for later runs.
    """

    images: ValidationSet
    device: torch.device
    batch_size: int | None = None
    protocol: ProtocolOptions = field(default_factory=ProtocolOptions)
    precision: Precision = "strict"
    accelerations: tuple[Acceleration, ...] = ()
    progress: Callable[[AccuracyProgress], None] | None = None
    fail_fast: bool = False
    predictions: PredictionFile | None = None
    crop_cache: Path | None = None


def verify_references(tables: Tables, input_size: tuple[int, int] = IMAGENET_INPUT) -> list[CheckpointResult]:
    """Check every variant's reference network, without any file, against what was published about its size.

    Raises:
        UsageError: a network cannot be shown images of the input size.
    """
    return [_verify_reference(tables, variant, input_size) for variant in tables.catalog.variants.values()]


def _verify_reference(tables: Tables, variant: Variant, input_size: tuple[int, int]) -> CheckpointResult:
    numbers = PublishedNumbers(tables, tables.of(variant), input_size=input_size)
    checks, operations = tuple(numbers.checks()), numbers.operations_of(CANONICAL)
    return CheckpointResult(variant.id, None, None, None, None, checks, operations=operations)


def verify_checkpoints(
    tables: Tables,
    requests: Sequence[Request],
    image_run: ImageRun | None = None,
    probes: Probes | None = None,
    on_error: Callable[[Request, R2ConvertError], None] | None = None,
) -> list[CheckpointResult]:
    """Verify files; with images, all networks see them in one pass.

    Args:
        tables: the tables of the catalogue.
        requests: the files, and what the user says about them.
        image_run: images to measure accuracy on.
        probes: what to do with every network besides reading its file.
        on_error: told about a file that cannot be checked, so that the others are; by default its error is raised.

    Returns:
        One result a file that can be checked, in order.

    Raises:
        InputError: a file cannot be read, or is none of the known networks.
        AccessError: a file is not there.
        UsageError: a network cannot be shown images of the input size.
    """
    examined = []
    classes = None if image_run is None else len(image_run.images.classes)
    for request in requests:
        try:
            examined.append(examine(tables, request, probes or Probes(), classes=classes))
        except (InputError, AccessError) as error:
            if on_error is None:
                raise
            on_error(request, error)
    if image_run is None or not examined:
        return [each.result for each in examined]
    # A number in front keeps two files of one name apart.
    named = {f"{index} {each.result.variant}": each for index, each in enumerate(examined)}
    measured = _measure(named, image_run)
    results, dataset = [], image_run.images.dataset
    for name, each in named.items():
        accuracy = replace(measured[name], dataset=dataset)
        identity = each.identity
        checks = accuracy_checks(
            identity.variant, accuracy, identity.weights, dataset=dataset, classes=identity.classes
        )
        results.append(replace(each.result, checks=(*each.result.checks, *checks), accuracy=accuracy))
    return results


def _measure(examined: Mapping[str, Examined], image_run: ImageRun) -> dict[str, Accuracy]:
    """Accuracies by name; networks that are shown the same crops are measured together."""
    from r2convert.evaluation.engine import measure_accuracy

    groups: dict[Protocol, list[str]] = {}
    for name, each in examined.items():
        protocol = image_run.protocol.applied_to(default_protocol(each.identity))
        require_input_size(each.identity.variant, (protocol.crop, protocol.crop))
        groups.setdefault(protocol, []).append(name)
    if image_run.predictions is not None and len(groups) > 1:
        raise UsageError(
            "one file of predictions cannot hold those of networks that are shown different crops",
            expected="files of one protocol, or options that are the same for all",
            got="; ".join(f"{protocol} for {', '.join(names)}" for protocol, names in groups.items()),
            next_step="verify them one by one, or say --pipeline, --image-size, --crop-pct, --interpolation",
        )
    stop = _certain_failure(examined, image_run.images.dataset or "imagenet") if image_run.fail_fast else None
    measured: dict[str, Accuracy] = {}
    for protocol, names in groups.items():
        measured |= measure_accuracy(
            {name: examined[name].require_network() for name in names},
            image_run.images,
            device=image_run.device,
            batch_size=image_run.batch_size,
            protocol=protocol,
            precision=image_run.precision,
            accelerations=image_run.accelerations,
            progress=image_run.progress,
            stop_when=stop,
            predictions=image_run.predictions,
            crop_cache=image_run.crop_cache,
        )
    return measured


def default_protocol(identity: Identity) -> Protocol:
    """How the publisher of the weights measured; for unknown weights that of the architecture's official ones."""
    if identity.weights is not None:
        return identity.weights.protocol
    known = identity.variant.weights
    official = [each for each in known if each.publisher == "official"]
    return next((each.protocol for each in (*official, *known)), Protocol())


def _certain_failure(examined: Mapping[str, Examined], dataset: Dataset) -> Callable[[AccuracyProgress], bool]:
    """Whether a network has by now certainly missed the lowest top-1 that was published about its likely weights."""
    lowest = {name: lowest_published_top1(likely_weights(each.identity), dataset) for name, each in examined.items()}

    def stop(progress: AccuracyProgress) -> bool:
        low = lowest[progress.network]
        correct = progress.top1_correct[progress.network]
        return low is not None and is_certainly_below(correct, progress.done, low, DATASETS[dataset].images)

    return stop
