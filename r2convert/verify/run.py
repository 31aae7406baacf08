"""A verification from end to end: files in, one result a file out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from r2convert.catalog.variant import Variant
from r2convert.checkpoint.reading import open_checkpoint
from r2convert.errors import MappingError
from r2convert.imagenet.pipelines import Pipeline
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.mapping.conversion import content_hash_of
from r2convert.mapping.expansion import IMAGENET_CLASSES
from r2convert.mapping.receipt import Receipt, read_receipt
from r2convert.mapping.resolution import Resolution, resolve
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from r2convert.verify.accuracy import measure_accuracy
from r2convert.verify.accuracy_claims import Origin, accuracy_checks, lowest_published_top1, origin_of
from r2convert.verify.image_pass import AccuracyProgress
from r2convert.verify.network import load_network
from r2convert.verify.precision import Precision
from r2convert.verify.prediction_file import PredictionFile
from r2convert.verify.receipts import receipt_check
from r2convert.verify.results import CheckpointResult
from r2convert.verify.significance import is_certainly_below
from r2convert.verify.static import file_checks, reference_checks


@dataclass(frozen=True, slots=True)
class Request:
    """A checkpoint to verify.

    Args:
        path: the file.
        variant: what it is said to hold, if anything.
        layout: whose names it is said to have, if anything.
        key: which of several state dicts in it.
        prefix: only the tensors under this prefix.
    """

    path: Path
    variant: Variant | None = None
    layout: str | None = None
    key: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ImageRun:
    """Images to show every network, and how.

    Args:
        images: the validation set.
        full_set: whether they are the validation set of ImageNet-1k, or a random part of it.
        device: where the networks run.
        batch_size: images a batch, or ``None`` for the device's default.
        pipeline: how crops are made, see :mod:`r2convert.imagenet.pipelines`.
        precision: how the networks are run, see :mod:`r2convert.verify.precision`.
        progress: told after every batch.
        fail_fast: stop as soon as every network certainly misses a published top-1.
        predictions: where every image's answer is kept.
        crop_cache: folder in which crops are kept for later runs.
    """

    images: ValidationSet
    full_set: bool
    device: torch.device
    batch_size: int | None = None
    pipeline: Pipeline = "pil"
    precision: Precision = "strict"
    progress: Callable[[AccuracyProgress], None] | None = None
    fail_fast: bool = False
    predictions: PredictionFile | None = None
    crop_cache: Path | None = None


def verify_references(tables: Tables) -> list[CheckpointResult]:
    """Check every variant's reference network, without any file, against what was published about its size."""
    return [
        CheckpointResult(variant.id, None, None, None, None, tuple(reference_checks(tables.of(variant))))
        for variant in tables.catalog.variants.values()
    ]


def verify_checkpoints(
    tables: Tables, requests: Sequence[Request], image_run: ImageRun | None = None
) -> list[CheckpointResult]:
    """Verify files; with images, all networks see them in one pass.

    Raises:
        InputError: a file cannot be read, or is none of the known networks.
        AccessError: a file is not there.
    """
    examined = [_examine(tables, request, load=image_run is not None) for request in requests]
    if image_run is None:
        return [each.result for each in examined]
    # A number in front keeps two files of one name apart.
    networks = {f"{index} {each.result.variant}": each.require_network() for index, each in enumerate(examined)}
    measured = measure_accuracy(
        networks,
        image_run.images,
        device=image_run.device,
        batch_size=image_run.batch_size,
        pipeline=image_run.pipeline,
        precision=image_run.precision,
        progress=image_run.progress,
        stop_when=_certain_failure(dict(zip(networks, examined, strict=True))) if image_run.fail_fast else None,
        predictions=image_run.predictions,
        crop_cache=image_run.crop_cache,
    )
    results = []
    for each, accuracy in zip(examined, measured.values(), strict=True):
        checks = accuracy_checks(each.variant, accuracy, each.origin, full_set=image_run.full_set)
        results.append(replace(each.result, checks=(*each.result.checks, *checks), accuracy=accuracy))
    return results


def _certain_failure(examined: Mapping[str, _Examined]) -> Callable[[AccuracyProgress], bool]:
    """Whether every network has by now certainly missed the lowest top-1 that counts for it."""
    lowest = {name: lowest_published_top1(each.variant, each.origin) for name, each in examined.items()}

    def stop(progress: AccuracyProgress) -> bool:
        return all(
            low is not None and is_certainly_below(progress.top1_correct[name], progress.done, low)
            for name, low in lowest.items()
        )

    return stop


@dataclass(frozen=True, slots=True)
class _Examined:
    variant: Variant
    result: CheckpointResult
    origin: Origin
    network: Classifier | None

    def require_network(self) -> Classifier:
        assert self.network is not None  # noqa: S101 - loaded whenever there are images
        return self.network


def _examine(tables: Tables, request: Request, *, load: bool) -> _Examined:
    with open_checkpoint(request.path, key=request.key, prefix=request.prefix) as checkpoint:
        resolution = resolve(tables, checkpoint, request.variant, request.layout)
        identity = resolution.identity
        if load:
            _require_imagenet_classifier(request.path, resolution)
        sha256 = checkpoint.sha256()
        content = content_hash_of(checkpoint, resolution)
        receipt = read_receipt(request.path)
        checks = file_checks(checkpoint, resolution)
        if receipt is not None:
            checks.insert(0, receipt_check(receipt, resolution, sha256=sha256, content_hash=content))
        network = load_network(checkpoint, resolution) if load else None
    result = CheckpointResult(identity.variant.id, str(request.path), sha256, content, identity.layout, tuple(checks))
    return _Examined(
        identity.variant, result, origin_of(identity.variant, identity.layout, _digests(sha256, receipt)), network
    )


def _digests(sha256: str, receipt: Receipt | None) -> tuple[str, ...]:
    # A receipt speaks for a file only if it is about these very bytes.
    if receipt is None or receipt.output_sha256 != sha256:
        return (sha256,)
    return sha256, receipt.source_sha256


def _require_imagenet_classifier(path: Path, resolution: Resolution) -> None:
    identity = resolution.identity
    if not identity.has_classifier or identity.classes != IMAGENET_CLASSES:
        raise MappingError(
            "this file cannot be measured on ImageNet",
            where=str(path),
            expected=f"a classifier of {IMAGENET_CLASSES} classes",
            got=f"{identity.classes} classes" if identity.has_classifier else "a backbone without classifier",
            next_step="leave out --imagenet to check the rest",
        )
