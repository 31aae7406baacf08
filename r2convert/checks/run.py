"""A verification from end to end: files in, one result a file out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from r2convert.catalog.protocol import Pipeline
from r2convert.catalog.variant import Variant
from r2convert.checks.accuracy_claims import accuracy_checks, lowest_published_top1
from r2convert.checks.counting import IMAGENET_INPUT
from r2convert.checks.examination import Examined, Probes, Request, examine
from r2convert.checks.published import PublishedNumbers
from r2convert.checks.results import CheckpointResult
from r2convert.evaluation.backends import Acceleration, Precision
from r2convert.evaluation.engine import AccuracyProgress, measure_accuracy
from r2convert.evaluation.prediction_store import PredictionFile
from r2convert.evaluation.statistics import is_certainly_below
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.mapping.tables import CANONICAL, Tables


@dataclass(frozen=True, slots=True)
class ImageRun:
    """Images to show every network, and how.

    Args:
        images: the validation set.
        full_set: whether they are the validation set of ImageNet-1k, or a random part of it.
        device: where the networks run.
        batch_size: images a batch, or ``None`` for the device's default.
        pipeline: how crops are made, see :mod:`r2convert.imagenet.preprocessing`.
        precision: how the networks are run, see :mod:`r2convert.evaluation.backends`.
        accelerations: what else makes them run faster, see :mod:`r2convert.evaluation.backends`.
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
    numbers = PublishedNumbers(tables.of(variant), input_size=input_size)
    checks, operations = tuple(numbers.checks()), numbers.operations_of(CANONICAL)
    return CheckpointResult(variant.id, None, None, None, None, checks, input_size=input_size, operations=operations)


def verify_checkpoints(
    tables: Tables, requests: Sequence[Request], image_run: ImageRun | None = None, probes: Probes | None = None
) -> list[CheckpointResult]:
    """Verify files; with images, all networks see them in one pass.

    Raises:
        InputError: a file cannot be read, or is none of the known networks.
        AccessError: a file is not there.
        UsageError: a network cannot be shown images of the input size.
    """
    examined = [examine(tables, request, probes or Probes(), load=image_run is not None) for request in requests]
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
        accelerations=image_run.accelerations,
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


def _certain_failure(examined: Mapping[str, Examined]) -> Callable[[AccuracyProgress], bool]:
    """Whether every network has by now certainly missed the lowest top-1 that counts for it."""
    lowest = {name: lowest_published_top1(each.variant, each.origin) for name, each in examined.items()}

    def stop(progress: AccuracyProgress) -> bool:
        return all(
            low is not None and is_certainly_below(progress.top1_correct[name], progress.done, low)
            for name, low in lowest.items()
        )

    return stop
