"""Measures top-1 and top-5 of one or many networks in one pass over a validation set."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import torch

from r2convert.imagenet.loading import load_batches
from r2convert.imagenet.pipeline import CROP_SIDE, PIPELINE, Crop, fast_crop_function
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.verify.inference import Inference
from r2convert.verify.precision import strict_float32
from r2convert.verify.prediction_file import PredictionFile, Question, network_fingerprint
from r2convert.verify.predictions import Accuracy, Predictions

__all__ = ["Accuracy", "AccuracyProgress", "measure_accuracy"]

# Batches that decode threads may be ahead of the network: one shown, one ready, one being filled.
_BUFFERS = 3
_PRECISION = "strict"


@dataclass(frozen=True, slots=True)
class AccuracyProgress:
    """How far a measurement has come.

    Args:
        done: images finished, those of an earlier run that is continued included.
        total: images of the set.
        seconds: time since the start of this run.
        top1_correct: images right so far, by network.
        images_per_second: speed of this run.
    """

    done: int
    total: int
    seconds: float
    top1_correct: Mapping[str, int]
    images_per_second: float


def measure_accuracy(
    networks: Mapping[str, torch.nn.Module],
    images: ValidationSet,
    *,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    progress: Callable[[AccuracyProgress], None] | None = None,
    stop_when: Callable[[AccuracyProgress], bool] | None = None,
    predictions: PredictionFile | None = None,
    workers: int | None = None,
) -> dict[str, Accuracy]:
    """Shows every image of a set to every network and counts right answers.

    Each image is decoded once. Networks are prepared as :class:`~r2convert.verify.inference.Inference` says.

    Args:
        networks: by name; each takes float32 (batch, 3, 224, 224), normalised, and returns logits (batch, 1000).
        images: what to measure on.
        device: where the networks run.
        batch_size: images a batch; by default 8 on a CPU and 256 elsewhere. Halved when memory runs out.
        progress: called after every batch.
        stop_when: called after every batch; once it is true the measurement ends, and counts the images so far.
        predictions: where to keep every answer, and from where to continue an interrupted run.
        workers: decode threads; by default one a core.

    Returns:
        The counts by network, in the order of ``networks``.

    Raises:
        CheckpointError: a network does not return 1,000 logits an image.
        AccessError: the predictions cannot be written, or the device is too small.
        UsageError: ``predictions`` holds the answers to other questions.
    """
    device = torch.device(device)
    inference = Inference(networks, device, batch_size or (8 if device.type == "cpu" else 256))
    answered = Predictions(images.images, networks)
    report = _Report(progress, stop_when)
    workers = workers or _core_count()
    with warnings.catch_warnings(), strict_float32(), torch.inference_mode():
        # Pillow warns of odd metadata in pictures it reads well; here, not in the threads, since filters are global.
        warnings.filterwarnings("ignore", module="PIL")
        if predictions is None:
            _answer_all(inference, answered, workers, report)
        else:
            fingerprints = {name: network_fingerprint(network) for name, network in networks.items()}
            question = Question(images.fingerprint, len(images.images), PIPELINE, _PRECISION, fingerprints)
            with predictions.recording(question, images, answered) as record:
                _answer_all(inference, answered, workers, report, record)
    return {name: answered.accuracy(name, pipeline=PIPELINE, precision=_PRECISION) for name in networks}


@dataclass(frozen=True, slots=True)
class _Report:
    progress: Callable[[AccuracyProgress], None] | None
    stop_when: Callable[[AccuracyProgress], bool] | None

    def ends_it(self, answered: Predictions, before: int, started: float) -> bool:
        """Tells whoever listens how far it is; whether that is enough."""
        seconds = time.monotonic() - started
        top1 = {name: answers.top1_correct for name, answers in answered.answers.items()}
        speed = (answered.done - before) / seconds
        progress = AccuracyProgress(answered.done, len(answered.images), seconds, top1, speed)
        if self.progress is not None:
            self.progress(progress)
        return self.stop_when is not None and self.stop_when(progress)


def _answer_all(
    inference: Inference,
    answered: Predictions,
    workers: int,
    report: _Report,
    record: Callable[[], None] = lambda: None,
) -> None:
    """Goes on where ``answered`` ends; calls ``record`` after every batch."""
    buffers = [_pixel_buffer(inference) for _ in range(_BUFFERS)]
    started, before = time.monotonic(), answered.done
    rest = answered.images[answered.done :]
    with closing(load_batches(rest, fast_crop_function(), buffers, workers=workers)) as batches:
        for batch in batches:
            rows = [row for row, loaded in enumerate(batch.images) if loaded.problem is None]
            labels = [batch.images[row].image.label for row in rows]
            answered.add(batch.images, inference.rank(batch.crops, rows, labels))
            record()
            if report.ends_it(answered, before, started):
                break


def _pixel_buffer(inference: Inference) -> Crop:
    # Pinned memory is what lets a copy to the device run at full speed.
    shape = (inference.images_at_once, CROP_SIDE, CROP_SIDE, 3)
    pinned = inference.device.type == "cuda"
    pixels: Crop = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned).numpy()
    return pixels


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
