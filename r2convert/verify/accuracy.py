"""Measures top-1 and top-5 of one or many networks in one pass over a validation set."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from r2convert.errors import CheckpointError
from r2convert.imagenet.labels import CLASS_COUNT
from r2convert.imagenet.loading import CropBatch, LoadedImage, load_batches
from r2convert.imagenet.pipeline import CROP_SIDE, PIPELINE, Crop, fast_crop_function
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet
from r2convert.verify.precision import strict_float32
from r2convert.verify.predictions import Predictions, no_predictions
from r2convert.verify.ranking import rank_logits

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)

# Batches that decode threads may be ahead of the network: one shown, one ready, one being filled.
_BUFFERS = 3


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Exact counts of one network on one set; every count is out of ``images``.

    Args:
        images: images of the set, missing and unreadable ones included; those count as wrong.
        top1_correct: images whose label is ranked first.
        top5_correct: images whose label is among the first five.
        missing: images the set ought to have and does not.
        unreadable: images that are there and could not be decoded.
        not_a_number: images for which the network answered NaN; they count as wrong.
        pipeline: how crops were made: ``pil`` (see :mod:`r2convert.imagenet.pipeline`).
        precision: how the network was run: ``strict`` (see :mod:`r2convert.verify.precision`).
        crops_sha256: SHA-256 over the SHA-256 digests of all crops in order (32 zero bytes where there is none):
            two measurements with the same one have shown their networks the same pixels.
        problems: id and reason of every missing or unreadable image, in order.
    """

    images: int
    top1_correct: int
    top5_correct: int
    missing: int
    unreadable: int
    not_a_number: int
    pipeline: str
    precision: str
    crops_sha256: str
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AccuracyProgress:
    """How far a measurement has come.

    Args:
        done: images finished.
        total: images of the set.
        seconds: time since the start.
        top1_correct: images right so far, by network.
    """

    done: int
    total: int
    seconds: float
    top1_correct: Mapping[str, int]


def measure_accuracy(
    networks: Mapping[str, torch.nn.Module],
    images: ValidationSet,
    *,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    progress: Callable[[AccuracyProgress], None] | None = None,
    workers: int | None = None,
) -> dict[str, Accuracy]:
    """Shows every image of a set to every network and counts right answers.

    Each image is decoded once. Networks are moved to ``device`` and put into evaluation mode. Images go through in
    batches of one size (the last is filled up and the filling ignored), so an image's logits do not depend on how
    many others there are.

    Args:
        networks: by name; each takes float32 (batch, 3, 224, 224), normalised, and returns logits (batch, 1000).
        images: what to measure on.
        device: where the networks run.
        batch_size: images a batch; by default 8 on a CPU and 256 elsewhere.
        progress: called after every batch.
        workers: decode threads; by default one a core.

    Returns:
        The counts by network, in the order of ``networks``.

    Raises:
        CheckpointError: a network does not return 1,000 logits an image.
    """
    device = torch.device(device)
    batch_size = batch_size or (8 if device.type == "cpu" else 256)
    buffers: list[Crop] = [_pixel_buffer(batch_size, device) for _ in range(_BUFFERS)]
    networks = {name: network.to(device).eval() for name, network in networks.items()}
    answers = {name: no_predictions(len(images.images), CLASS_COUNT) for name in networks}
    loaded: list[LoadedImage] = []
    started = time.monotonic()
    with warnings.catch_warnings(), strict_float32(), torch.inference_mode():
        # Pillow warns of odd metadata in pictures it reads well; here, not in the threads, since filters are global.
        warnings.filterwarnings("ignore", module="PIL")
        reading = load_batches(images.images, fast_crop_function(), buffers, workers=workers or _core_count())
        with closing(reading) as batches:
            for batch in batches:
                _answer(networks, batch, answers, device)
                loaded += batch.images
                if progress is not None:
                    top1 = {name: answer.top1_correct for name, answer in answers.items()}
                    progress(AccuracyProgress(len(loaded), len(images.images), time.monotonic() - started, top1))
    return {name: _accuracy(answer, loaded) for name, answer in answers.items()}


def normalise(crops: torch.Tensor) -> torch.Tensor:
    """Pixels to what the networks were trained on, in the same float32 steps as torchvision takes them.

    Args:
        crops: uint8, shape (images, height, width, 3).

    Returns:
        float32, shape (images, 3, height, width).
    """
    mean = torch.tensor(MEAN, device=crops.device)[:, None, None]
    deviation = torch.tensor(STANDARD_DEVIATION, device=crops.device)[:, None, None]
    scaled = crops.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return scaled.sub_(mean).div_(deviation)


def _answer(
    networks: Mapping[str, torch.nn.Module], batch: CropBatch, answers: Mapping[str, Predictions], device: torch.device
) -> None:
    pixels = torch.from_numpy(batch.crops).to(device, non_blocking=True)
    rows = [row for row, loaded in enumerate(batch.images) if loaded.problem is None]
    labels = torch.tensor([batch.images[row].image.label for row in rows], dtype=torch.int64, device=device)
    inputs = normalise(pixels)
    for name, network in networks.items():
        logits = network(inputs)
        _check_shape(name, logits, len(batch.crops))
        ranking = rank_logits(logits[rows], labels)
        at = [batch.start + row for row in rows]
        answers[name].top[at] = ranking.top.cpu().numpy()
        answers[name].rank[at] = ranking.rank.cpu().numpy()
        answers[name].margins[at] = ranking.margins.cpu().numpy()


def _check_shape(name: str, logits: torch.Tensor, batch_size: int) -> None:
    if tuple(logits.shape) != (batch_size, CLASS_COUNT):
        raise CheckpointError(
            "the network does not answer with ImageNet-1k logits",
            where=name,
            expected=f"{CLASS_COUNT} logits an image",
            got=f"an output of shape {tuple(logits.shape)} for {batch_size} images",
            next_step="accuracy is measured for classifiers of the 1,000 ImageNet classes only",
        )


def _accuracy(answer: Predictions, loaded: Sequence[LoadedImage]) -> Accuracy:
    missing = sum(_is_missing(entry.image) for entry in loaded)
    problems = tuple((entry.image.id, entry.problem) for entry in loaded if entry.problem is not None)
    digests = hashlib.sha256(b"".join(entry.crop_digest for entry in loaded))
    shown = np.array([entry.problem is None for entry in loaded], bool)
    return Accuracy(
        images=len(loaded),
        top1_correct=answer.top1_correct,
        top5_correct=answer.top5_correct,
        missing=missing,
        unreadable=len(problems) - missing,
        not_a_number=int(np.count_nonzero(shown & (answer.top[:, 0] < 0))),
        pipeline=PIPELINE,
        precision="strict",
        crops_sha256=digests.hexdigest(),
        problems=problems,
    )


def _is_missing(image: ValidationImage) -> bool:
    return image.location is None


def _pixel_buffer(batch_size: int, device: torch.device) -> Crop:
    # Pinned memory is what lets a copy to the device overlap with the network.
    shape = (batch_size, CROP_SIDE, CROP_SIDE, 3)
    pixels: Crop = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda").numpy()
    return pixels


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
