"""``r2convert.verify``: a checkpoint -> its checks against the published numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from r2convert.api.locating import FileOrVariant
from r2convert.catalog.variant import Layout
from r2convert.errors import UsageError

if TYPE_CHECKING:
    from r2convert.catalog.protocol import Pipeline
    from r2convert.checks.run import CheckpointResult, ImageRun
    from r2convert.evaluation.backends import Precision

Choice = TypeVar("Choice", bound=str)


def verify(
    checkpoint: FileOrVariant,
    *,
    imagenet: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "strict",
    pipeline: Pipeline = "pil",
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
) -> CheckpointResult:
    """Check a checkpoint against what was published about it.

    Without images: names, shapes, values, the receipt if there is one, parameters, FLOPs and activations. With
    images: top-1, top-5 and, where the files have the official names, ReaL top-1 too.

    Args:
        checkpoint: a checkpoint, or the name of a variant in the cache.
        imagenet: the validation images of ImageNet-1k: a folder, an uncompressed tar or a list file.
        limit: show this many images only, drawn over all classes; judged as a sample.
        device: where the network runs, e.g. ``cuda:1``; by default a GPU where there is one.
        batch_size: images a batch, to begin with; by default the device's.
        precision: ``strict`` is float32 with TF32 off; ``fast`` gives the same counts sooner on a GPU.
        pipeline: ``pil`` for all published accuracies but Paddle's, ``opencv`` for those.
        variant: the variant, instead of telling it from names and shapes.
        layout: the file's layout, instead of telling it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``model.``.

    Returns:
        Every check with what was published and measured (parameters; operations for one 224x224 image; correct images)
        and its verdict; ``verdict`` is that over all of them: ``pass``, ``fail``, ``known-deviation``,
        ``inconclusive`` or ``not-comparable``. A check that fails is a result, not an error.

    Raises:
        MappingError: the file is no known network.
        CheckpointError: the file is damaged, unsafe or of a kind that is not read.
        DatasetError: the images cannot be used as a validation set.
        UsageError: the device or the precision cannot be had here, or ``limit`` is not positive.
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
    from r2convert.api.locating import locate
    from r2convert.catalog import load_catalog
    from r2convert.checks.run import Request, verify_checkpoints
    from r2convert.mapping.tables import Tables

    tables = Tables(load_catalog())
    path, named = locate(tables.catalog, checkpoint)
    said = tables.catalog.find(variant) if variant is not None else named
    images = None
    if imagenet is not None:
        images = _image_run(Path(imagenet), limit, device, batch_size, precision, pipeline)
    (result,) = verify_checkpoints(tables, [Request(path, said, layout, key, prefix)], images)
    return result


def _image_run(
    imagenet: Path, limit: int | None, device: str | None, batch_size: int | None, precision: str, pipeline: str
) -> ImageRun:
    from r2convert.catalog.protocol import PIPELINES
    from r2convert.checks.run import ImageRun
    from r2convert.evaluation.backends import PRECISIONS, choose_device
    from r2convert.imagenet.datasets import open_validation_set
    from r2convert.imagenet.validation_set import stratified_sample

    images = open_validation_set(imagenet)
    return ImageRun(
        images if limit is None else stratified_sample(images, limit),
        images.is_full,
        choose_device(device),
        batch_size=batch_size,
        pipeline=_one_of(PIPELINES, pipeline, "pipeline"),
        precision=_one_of(PRECISIONS, precision, "precision"),
    )


def _one_of(choices: tuple[Choice, ...], value: str, what: str) -> Choice:
    """A value as one of those that are known: calls need not be type-checked."""
    for choice in choices:
        if choice == value:
            return choice
    raise UsageError(f"there is no {what} {value!r}", expected=" or ".join(choices))
