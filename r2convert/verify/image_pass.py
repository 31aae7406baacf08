"""One pass of networks over images: decode ahead, show, rank, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch

from r2convert.imagenet.crop_cache import ReadCrop
from r2convert.imagenet.loading import load_batches
from r2convert.imagenet.pipeline import CROP_SIDE, Crop
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.verify.inference import Inference
from r2convert.verify.precision import ComputePrecision, computing_in
from r2convert.verify.predictions import Predictions

# Batches that decode threads may be ahead of the network: one shown, one ready, one being filled.
_BUFFERS = 3


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


@dataclass(frozen=True, slots=True)
class ImagePass:
    """How images are shown.

    Args:
        inference: the networks on their device.
        read_crop: an image to its crop.
        workers: decode threads.
        progress: called after every batch.
        stop_when: called after every batch; once it is true the pass ends.
    """

    inference: Inference
    read_crop: ReadCrop
    workers: int
    progress: Callable[[AccuracyProgress], None] | None = None
    stop_when: Callable[[AccuracyProgress], bool] | None = None

    def answer(self, images: Sequence[ValidationImage], precision: ComputePrecision) -> Predictions:
        """What the networks answer to all of these images."""
        answered = Predictions(images, self.inference.names)
        self.finish(answered, precision)
        return answered

    def finish(
        self, answered: Predictions, precision: ComputePrecision, record: Callable[[], None] = lambda: None
    ) -> None:
        """Goes on where ``answered`` ends; calls ``record`` after every batch."""
        buffers = [_pixel_buffer(self.inference) for _ in range(_BUFFERS)]
        started, before = time.monotonic(), answered.done
        reading = load_batches(answered.images[before:], self.read_crop, buffers, workers=self.workers)
        with closing(reading) as batches, computing_in(precision, self.inference.device), torch.inference_mode():
            for batch in batches:
                rows = [row for row, loaded in enumerate(batch.images) if loaded.problem is None]
                labels = [batch.images[row].image.label for row in rows]
                answered.add(batch.images, self.inference.rank(batch.crops, rows, labels))
                record()
                if self._ends_here(answered, before, time.monotonic() - started):
                    break

    def _ends_here(self, answered: Predictions, before: int, seconds: float) -> bool:
        """Tells whoever listens how far it is; whether that is enough."""
        top1 = {name: answers.top1_correct for name, answers in answered.answers.items()}
        speed = (answered.done - before) / seconds
        progress = AccuracyProgress(answered.done, len(answered.images), seconds, top1, speed)
        if self.progress is not None:
            self.progress(progress)
        return self.stop_when is not None and self.stop_when(progress)


def _pixel_buffer(inference: Inference) -> Crop:
    # Pinned memory is what lets a copy to the device run at full speed.
    shape = (inference.images_at_once, CROP_SIDE, CROP_SIDE, 3)
    pinned = inference.device.type == "cuda"
    pixels: Crop = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned).numpy()
    return pixels
