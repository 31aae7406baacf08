"""One pass of networks over images: decode ahead, show, rank, report."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch

from r2convert.evaluation.inference import Asked, Inference
from r2convert.evaluation.precision import ComputePrecision, computing_in
from r2convert.evaluation.predictions import Predictions
from r2convert.imagenet.crop_source import CropSource, DeviceBatch
from r2convert.imagenet.validation_set import ValidationImage


@dataclass(frozen=True, slots=True)
class AccuracyProgress:
    """How far a measurement has come.

    Args:
        done: images finished, those of an earlier run that is continued included.
        total: images this process has to show, those of an earlier run included.
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
        source: where crops come from.
        progress: called after every batch.
        stop_when: called after every batch; once it is true the pass ends.
        earlier: what an interrupted run has answered already; progress counts it in.
    """

    inference: Inference
    source: CropSource
    progress: Callable[[AccuracyProgress], None] | None = None
    stop_when: Callable[[AccuracyProgress], bool] | None = None
    earlier: Predictions | None = None

    def answer(
        self,
        images: Sequence[ValidationImage],
        precision: ComputePrecision,
        record: Callable[[Predictions], None] | None = None,
    ) -> Predictions:
        """What the networks answer to all of these images, or to the first so many if the pass is ended.

        Args:
            images: what to show.
            precision: how networks are run.
            record: called after every batch with all answers so far.
        """
        answered = Predictions(images, self.inference.names)
        asked: deque[tuple[DeviceBatch, Asked]] = deque()
        started = time.monotonic()

        def take_in() -> bool:
            batch, question = asked.popleft()
            answered.add(batch.outcome(), question.answers())
            if record is not None:
                record(answered)
            return self._ends_here(answered, time.monotonic() - started)

        reading = self.source.batches(images, self.inference.images_at_once)
        with closing(reading) as batches, computing_in(precision, self.inference.device), torch.inference_mode():
            for batch in batches:
                asked.append((batch, self._ask(batch, precision)))
                if len(asked) > self.inference.batches_ahead and take_in():
                    return answered
            while asked:
                if take_in():
                    break
        return answered

    def _ask(self, batch: DeviceBatch, precision: ComputePrecision) -> Asked:
        rows = [row for row, problem in enumerate(batch.problems) if problem is None]
        labels = [batch.images[row].label for row in rows]
        return self.inference.ask(batch.crops, rows, labels, precision)

    def _ends_here(self, answered: Predictions, seconds: float) -> bool:
        """Tells whoever listens how far it is; whether that is enough."""
        before = self.earlier.done if self.earlier is not None else 0
        top1 = {name: answers.top1_correct for name, answers in answered.answers.items()}
        if self.earlier is not None:
            for name, answers in self.earlier.answers.items():
                top1[name] += answers.top1_correct
        total = before + len(answered.images)
        progress = AccuracyProgress(before + answered.done, total, seconds, top1, answered.done / seconds)
        if self.progress is not None:
            self.progress(progress)
        return self.stop_when is not None and self.stop_when(progress)
