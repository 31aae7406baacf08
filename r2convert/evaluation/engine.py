"""Measures top-1 and top-5 of one or many networks in one pass over a validation set."""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from r2convert.catalog.protocol import Pipeline
from r2convert.errors import UsageError
from r2convert.evaluation.backends import (
    Acceleration,
    Asked,
    ComputePrecision,
    Inference,
    Precision,
    computing_in,
    first_precision,
    is_out_of_memory,
    network_fingerprint,
    no_memory,
)
from r2convert.evaluation.prediction_store import PredictionFile, Question, Record
from r2convert.evaluation.predictions import AnsweredPart, Predictions, merge
from r2convert.evaluation.processes import (
    gather,
    is_first,
    is_shared,
    local_device,
    merged_audits,
    own_number,
    own_stretch,
    wait_for_all,
)
from r2convert.evaluation.recheck import answer_and_audit, answer_and_settle
from r2convert.imagenet.crop_store import CropCache, KeptCrops
from r2convert.imagenet.device_resize import resamples_exactly
from r2convert.imagenet.loader import CropSource, DeviceBatch, DeviceCrops, HostCrops, reader
from r2convert.imagenet.preprocessing import crop_function, pixel_function
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet
from r2convert.results.verification import Accuracy, PrecisionAudit

__all__ = ["Accuracy", "AccuracyProgress", "measure_accuracy"]


def measure_accuracy(
    networks: Mapping[str, torch.nn.Module],
    images: ValidationSet,
    *,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    pipeline: Pipeline = "pil",
    precision: Precision = "strict",
    accelerations: Sequence[Acceleration] = (),
    progress: Callable[[AccuracyProgress], None] | None = None,
    stop_when: Callable[[AccuracyProgress], bool] | None = None,
    predictions: PredictionFile | None = None,
    crop_cache: Path | None = None,
    workers: int | None = None,
) -> dict[str, Accuracy]:
    """Shows every image of a set to every network and counts right answers.

    Each image is decoded once; where another precision than ``strict`` shows some of them again, their crops are kept
    on the device if they fit there. Networks are prepared as :class:`~r2convert.evaluation.inference.Inference` says.
    Inside :func:`~r2convert.evaluation.partition.joined_processes`, several processes share the images, and all return
    the counts of all.

    Args:
        networks: by name; each takes float32 (batch, 3, 224, 224), normalised, and returns logits (batch, 1000).
        images: what to measure on.
        device: where the networks run.
        batch_size: images a batch; by default four a thread on a CPU (8 to 64), else 256. Halved if memory runs out.
        pipeline: see :mod:`r2convert.imagenet.preprocessing`.
        precision: see :mod:`r2convert.evaluation.backends`.
        accelerations: see :mod:`r2convert.evaluation.backends`; not for ``strict``.
        progress: called after every batch.
        stop_when: called after every batch; once it is true the measurement ends, and counts the images so far.
            For ``strict`` only.
        predictions: where to keep every answer, and from where to continue an interrupted run. With ``fast``
            answers are kept at the end only: any of them may be settled anew until then.
        crop_cache: a folder to keep crops in, so that the next run over these images need not decode them.
        workers: decode threads; by default one a core.

    Returns:
        The counts by network, in the order of ``networks``.

    Raises:
        CheckpointError: a network does not return 1,000 logits an image.
        AccessError: predictions or crops cannot be written, or the device is too small.
        UsageError: ``predictions`` holds the answers to other questions, the device lacks the precision or an
            acceleration, or a package that the pipeline needs is missing.
    """
    _refuse_impossible(precision, accelerations, can_end_early=stop_when is not None)
    device = local_device(torch.device(device))
    keeper = None
    if predictions is not None:
        question = _question(networks, images, pipeline, precision, accelerations)
        keeper = _Keeper(predictions, question)
    try:
        inference = Inference(networks, device, batch_size or _default_batch_size(device), accelerations)
        source = _crop_source(images, pipeline, device, workers or _core_count(), crop_cache)
        if precision != "strict":
            source = KeptCrops(source, device, images.images)
        with warnings.catch_warnings(), torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            # Pillow warns of odd metadata in pictures it reads well; here, not in the threads: filters are global.
            warnings.filterwarnings("ignore", module="PIL")
            image_pass = ImagePass(inference, source, progress, stop_when)
            answered, audits = _answer_all(image_pass, images, precision, keeper)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise no_memory(str(device), error) from error
        raise
    return {
        name: answered.accuracy(
            name, pipeline=pipeline, precision=precision, accelerations=accelerations, audit=audits.get(name)
        )
        for name in networks
    }


def _crop_source(
    images: ValidationSet, pipeline: Pipeline, device: torch.device, workers: int, crop_cache: Path | None
) -> CropSource:
    """Resized on the device, where there is one that does it to the last bit; otherwise by the processor."""
    cache = None if crop_cache is None else CropCache(crop_cache, images, pipeline)
    if device.type != "cpu" and pipeline == "pil" and resamples_exactly(device):
        return DeviceCrops(pixel_function(), device, workers, cache)
    read_crop = reader(crop_function(pipeline))
    return HostCrops(read_crop if cache is None else cache.through(read_crop), device, workers)


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Where answers are kept, and to what question."""

    file: PredictionFile
    question: Question

    def recording(self) -> AbstractContextManager[Record]:
        """Gives what writes answers down."""
        return self.file.recording(self.question, own_number())

    def finish(self, answered: Predictions) -> None:
        """Puts the file together once every image is answered."""
        if answered.done < self.question.images:
            return
        if is_first():
            self.file.complete(self.question, answered)
        # Another process may see the same folder: no part goes before its answers have a new place.
        wait_for_all()
        self.file.remove_parts()


def _refuse_impossible(precision: Precision, accelerations: Sequence[Acceleration], *, can_end_early: bool) -> None:
    if accelerations and precision == "strict":
        raise UsageError(
            "strict is the reference and takes no shortcut",
            expected="--precision fast, or fp32, bf16, ... with --accelerate",
            got=f"strict with {', '.join(accelerations)}",
        )
    if can_end_early and precision != "strict":
        raise UsageError("only a strict measurement can be ended early", got=f"precision {precision}")
    if can_end_early and is_shared():
        raise UsageError(
            "a measurement that several processes share cannot be ended early",
            next_step="run one process, without torchrun",
        )


def _question(
    networks: Mapping[str, torch.nn.Module],
    images: ValidationSet,
    pipeline: Pipeline,
    precision: Precision,
    accelerations: Sequence[Acceleration],
) -> Question:
    fingerprints = {name: network_fingerprint(network) for name, network in networks.items()}
    count = len(images.images)
    return Question(images.fingerprint, count, pipeline, precision, fingerprints, tuple(accelerations))


def _answer_all(
    image_pass: ImagePass, images: ValidationSet, precision: Precision, keeper: _Keeper | None
) -> tuple[Predictions, dict[str, PrecisionAudit]]:
    """What earlier runs have left, this process's share of the rest, and everybody else's."""
    names = image_pass.inference.names
    known = [] if keeper is None else gather(keeper.file.known(keeper.question, images), images.images)
    earlier = merge(images.images, known, names)
    answered_places = {place for part in known for place in part.places}
    places = [place for place in range(len(images.images)) if place not in answered_places]
    places = places[own_stretch(len(places))]
    with nullcontext(_keep_nothing) if keeper is None else keeper.recording() as record:
        own, audits = _answer(
            replace(image_pass, earlier=earlier), [images.images[place] for place in places], precision, record
        )
        record(own)
    parts = gather(AnsweredPart(places, own), images.images)
    whole = merge(images.images, [*known, *parts], names)
    if keeper is not None:
        keeper.finish(whole)
    return whole, merged_audits(audits)


def _answer(
    image_pass: ImagePass, images: Sequence[ValidationImage], precision: Precision, record: Record
) -> tuple[Predictions, dict[str, PrecisionAudit]]:
    """What the networks answer to some images, and what was found out about the precision."""
    if precision == "strict":
        return image_pass.answer(images, "strict", record), {}
    if not images:
        return Predictions((), image_pass.inference.names), {}
    if precision == "fast":
        return answer_and_settle(image_pass.answer, images, first_precision(image_pass.inference.device))

    def answer(some: Sequence[ValidationImage], shown_in: ComputePrecision) -> Predictions:
        # What strict says of a sample is evidence, not an answer to be kept.
        return image_pass.answer(some, shown_in, record if shown_in == precision else None)

    return answer_and_audit(answer, images, precision)


def _keep_nothing(answered: Predictions) -> None:
    """What is called after every batch when no answers are kept."""


def _default_batch_size(device: torch.device) -> int:
    """Small on a CPU: there, larger batches leave its caches and run slower."""
    return min(64, max(8, 4 * torch.get_num_threads())) if device.type == "cpu" else 256


def _core_count() -> int:
    """Cores for this process: those it may run on, or its part of them if several processes share the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


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
