"""Measures top-1 and top-5 of one or many networks in one pass over a validation set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch

from r2convert.errors import UsageError
from r2convert.imagenet.crop_cache import CropCache
from r2convert.imagenet.device_resize import crop_function_on
from r2convert.imagenet.loading import reader
from r2convert.imagenet.pipelines import Pipeline, crop_function
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.verify.image_pass import AccuracyProgress, ImagePass
from r2convert.verify.inference import Inference
from r2convert.verify.partition import gather, is_first, is_shared, local_device, own_stretch
from r2convert.verify.precision import Precision
from r2convert.verify.prediction_file import PredictionFile, Question, network_fingerprint
from r2convert.verify.predictions import Accuracy, PrecisionAudit, Predictions
from r2convert.verify.settling import answer_and_audit, answer_and_settle

__all__ = ["Accuracy", "AccuracyProgress", "measure_accuracy"]


def measure_accuracy(
    networks: Mapping[str, torch.nn.Module],
    images: ValidationSet,
    *,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    pipeline: Pipeline = "pil",
    precision: Precision = "strict",
    progress: Callable[[AccuracyProgress], None] | None = None,
    stop_when: Callable[[AccuracyProgress], bool] | None = None,
    predictions: PredictionFile | None = None,
    crop_cache: Path | None = None,
    workers: int | None = None,
) -> dict[str, Accuracy]:
    """Shows every image of a set to every network and counts right answers.

    Each image is decoded once (with another precision than ``strict``, some are decoded once more). Networks are
    prepared as :class:`~r2convert.verify.inference.Inference` says. Inside
    :func:`~r2convert.verify.partition.joined_processes`, several processes share the images, and all return the
    counts of all.

    Args:
        networks: by name; each takes float32 (batch, 3, 224, 224), normalised, and returns logits (batch, 1000).
        images: what to measure on.
        device: where the networks run.
        batch_size: images a batch; by default four a thread on a CPU (8 to 64), else 256. Halved if memory runs out.
        pipeline: see :mod:`r2convert.imagenet.pipelines`.
        precision: see :mod:`r2convert.verify.precision`.
        progress: called after every batch.
        stop_when: called after every batch; once it is true the measurement ends, and counts the images so far.
            For ``strict`` only.
        predictions: where to keep every answer, and from where to continue an interrupted run. With another
            precision than ``strict`` answers are kept at the end only.
        crop_cache: a folder to keep crops in, so that the next run over these images need not decode them.
        workers: decode threads; by default one a core.

    Returns:
        The counts by network, in the order of ``networks``.

    Raises:
        CheckpointError: a network does not return 1,000 logits an image.
        AccessError: predictions or crops cannot be written, or the device is too small.
        UsageError: ``predictions`` holds the answers to other questions, the device lacks the precision, or a package
            that the pipeline needs is missing.
    """
    _refuse_impossible(precision, stop_when is not None, predictions)
    device = local_device(torch.device(device))
    inference = Inference(networks, device, batch_size or _default_batch_size(device))
    on_device = device.type == "cuda" and pipeline == "pil"
    read_crop = reader(crop_function_on(device) if on_device else crop_function(pipeline))
    if crop_cache is not None:
        read_crop = CropCache(crop_cache, images, pipeline).through(read_crop)
    image_pass = ImagePass(inference, read_crop, workers or _core_count(), progress, stop_when)
    answered = Predictions(images.images, networks)
    recording = (
        nullcontext(_keep_nothing)
        if predictions is None or not is_first()
        else predictions.recording(_question(networks, images, pipeline, precision), images, answered)
    )
    with warnings.catch_warnings(), recording as record:
        # Pillow warns of odd metadata in pictures it reads well; here, not in the threads, since filters are global.
        warnings.filterwarnings("ignore", module="PIL")
        if is_shared():
            own = Predictions(images.images[own_stretch(len(images.images))], networks)
            audits = gather(own, _answer(image_pass, own, precision), answered)
        else:
            audits = _answer(image_pass, answered, precision, record)
        record()
    return {
        name: answered.accuracy(name, pipeline=pipeline, precision=precision, audit=audits.get(name))
        for name in networks
    }


def _refuse_impossible(precision: Precision, can_end_early: bool, predictions: PredictionFile | None) -> None:
    if can_end_early and precision != "strict":
        raise UsageError("only a strict measurement can be ended early", got=f"precision {precision}")
    if is_shared() and (can_end_early or (predictions is not None and predictions.resume)):
        raise UsageError(
            "a measurement that several processes share can neither be ended early nor continued",
            next_step="run one process, without torchrun",
        )


def _keep_nothing() -> None:
    """What is called after every batch when no answers are kept."""


def _question(
    networks: Mapping[str, torch.nn.Module], images: ValidationSet, pipeline: Pipeline, precision: Precision
) -> Question:
    fingerprints = {name: network_fingerprint(network) for name, network in networks.items()}
    return Question(images.fingerprint, len(images.images), pipeline, precision, fingerprints)


def _answer(
    image_pass: ImagePass, answered: Predictions, precision: Precision, record: Callable[[], None] = _keep_nothing
) -> dict[str, PrecisionAudit]:
    """Fills ``answered`` from where it ends; calls ``record`` whenever there is more that is final."""
    if precision == "strict":
        image_pass.finish(answered, precision, record)
        return {}
    rest = answered.images[answered.done :]
    if precision == "fast":
        found, audits = answer_and_settle(image_pass.answer, rest, "bf16")
    else:
        found, audits = answer_and_audit(image_pass.answer, rest, precision)
    answered.append(found)
    return audits


def _default_batch_size(device: torch.device) -> int:
    """Small on a CPU: there, larger batches leave its caches and run slower."""
    return min(64, max(8, 4 * torch.get_num_threads())) if device.type == "cpu" else 256


def _core_count() -> int:
    """Cores for this process: those it may run on, or its part of them if several processes share the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
