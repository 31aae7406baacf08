"""The evaluation loop: runs networks on the images of a validation set and counts correct predictions.

To read it: :func:`measure_accuracy` documents inputs and results, :meth:`Run.measure` decides in which order networks
see the images, :meth:`Run.show` is the loop over batches.

Images are decoded once. The first network sees them as they come from the loader; if they are shown again, to another
network or in another precision, their crops stay in memory, and each network then runs over them alone, at full speed.
This thread launches batches; another one collects, records and reports their predictions.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import numpy.typing as npt
import torch

from r2convert.catalog.protocol import Acceleration, ComputePrecision, Precision, Protocol
from r2convert.errors import UsageError
from r2convert.evaluation.backends import Backend, PendingBatch, network_fingerprint, out_of_memory, require_classifier
from r2convert.evaluation.precision import accelerations_for, computing_in, first_precision, without_gradients
from r2convert.evaluation.prediction_store import Measurement, PredictionFile, Record
from r2convert.evaluation.predictions import NetworkPredictions, Places, Predictions, merged_audit
from r2convert.evaluation.processes import (
    gather,
    gather_audits,
    gather_speeds,
    is_first,
    is_shared,
    local_device,
    own_rank,
    own_stretch,
    wait_for_all,
)
from r2convert.evaluation.recheck import audit_precision, recheck
from r2convert.evaluation.resources import Stopwatch, core_count, default_batch_size, keeping_freed_memory
from r2convert.imagenet.crop_store import CropStore, ResidentCrops, memory_for
from r2convert.imagenet.device_resize import is_out_of_memory
from r2convert.imagenet.loader import CropBatch, Loader
from r2convert.imagenet.preprocessing import STANDARD
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.results.verification import Accuracy, PrecisionAudit

Network = torch.nn.Module
"""For callers that do not import torch."""


@dataclass(frozen=True, slots=True)
class AccuracyProgress:
    """The progress of a measurement.

    Args:
        network: the one that runs now.
        done: images it has run on, those of an earlier run included.
        total: images it has to run on in this process, those of an earlier run included.
        seconds: time since the start of this network.
        top1_correct: correct images so far, by network.
        images_per_second: speed of this network.
    """

    network: str
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
    protocol: Protocol = STANDARD,
    precision: Precision = "strict",
    accelerations: Sequence[Acceleration] = (),
    progress: Callable[[AccuracyProgress], None] | None = None,
    stop_when: Callable[[AccuracyProgress], bool] | None = None,
    predictions: PredictionFile | None = None,
    crop_cache: Path | None = None,
    workers: int | None = None,
) -> dict[str, Accuracy]:
    """Runs every network on every image of a set and counts correct predictions.

    Networks are prepared as :class:`~r2convert.evaluation.backends.Backend` says. Inside
    :func:`~r2convert.evaluation.processes.joined_processes`, several processes share the images, and all return the
    counts of all.

    Args:
        networks: by name; each takes float32 (batch, 3, crop, crop), normalised, and returns logits (batch, classes).
        images: what to measure on.
        device: where the networks run.
        batch_size: images per batch, by default the device's. Halved if memory runs out.
        protocol: how images are prepared.
        precision: see :mod:`r2convert.evaluation.precision`.
        accelerations: see there; not for ``strict``.
        progress: called after every batch, from another thread.
        stop_when: called after every batch, from another thread; once it returns true, the network is done,
            and the images so far are counted. For ``strict`` only.
        predictions: where to keep every prediction, and from where to continue an interrupted run. With ``fast``
            those of a network are kept at its end only: any of them may be rechecked until then.
        crop_cache: a folder to keep crops in, so that the next run over these images need not decode them.
        workers: decode threads; by default one per core.

    Returns:
        The counts by network, in the order of ``networks``.

    Raises:
        CheckpointError: a network does not take RGB images, or does not return one logit per class.
        AccessError: predictions or crops cannot be written, or the device is too small.
        UsageError: ``predictions`` is of another measurement, the device lacks the precision or an acceleration,
            a package that the protocol needs is missing, or ``batch_size`` is below 1.
    """
    device = local_device(torch.device(device))
    accelerations = accelerations_for(precision, accelerations, device)
    if batch_size is not None and batch_size < 1:
        raise UsageError("a batch needs at least one image", expected="1 or more", got=str(batch_size))
    if stop_when is not None:
        _require_one_strict_process(precision)
    found = Predictions(images, networks)
    recording: AbstractContextManager[Record | None] = nullcontext()
    if predictions is not None:
        measurement = _measurement(networks, images, protocol, precision, accelerations)
        predictions.restore(measurement, found)
        gather(found)
        recording = predictions.recording(measurement, found, own_rank())
    store = None if crop_cache is None else CropStore(crop_cache, images, protocol)
    loader = Loader(images.images, protocol, device, workers=workers or core_count(), store=store)
    with (
        warnings.catch_warnings(),
        torch.cuda.device(device) if device.type == "cuda" else keeping_freed_memory(),
        recording as record,
    ):
        # Pillow warns about odd metadata in images it reads well. Set here, not in the threads: filters are global.
        warnings.filterwarnings("ignore", module="PIL")
        run = Run(
            found,
            loader,
            device,
            batch_size or default_batch_size(device),
            protocol,
            precision,
            accelerations,
            record,
            progress,
            stop_when,
        )
        try:
            run.measure(networks)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise out_of_memory(str(device), error) from error
            raise
    gather(found)
    speeds = gather_speeds({name: run.watches[name].speed() if name in run.watches else None for name in networks})
    audits = gather_audits({name: merged_audit(each) for name, each in run.audits.items()})
    if predictions is not None:
        _finish(predictions, measurement, found)
    return {
        name: found.accuracy(
            name,
            protocol=protocol,
            precision=precision,
            accelerations=accelerations,
            audit=audits.get(name),
            speed=speeds[name],
        )
        for name in networks
    }


class CropSource(Interface):
    """Where batches of crops come from: the loader, or memory."""

    def batches(self, places: Sequence[int], batch_size: int) -> Generator[CropBatch, None, None]:
        """Crops of the images at some places, in their order."""


@dataclass
class Run:
    """A measurement: everything that stays the same from batch to batch, and its results.

    Args:
        found: predictions, those of earlier runs included.
        loader: decodes images.
        device: where the networks run.
        batch_size: initial batch size, halved when memory runs out.
        protocol: how images are prepared.
        precision: how networks are run.
        accelerations: the optimisations in use.
        record: writes predictions down.
        progress: called after every batch.
        stop_when: whether a network is done, called after every batch.
    """

    found: Predictions
    loader: Loader
    device: torch.device
    batch_size: int
    protocol: Protocol
    precision: Precision
    accelerations: tuple[Acceleration, ...]
    record: Record | None = None
    progress: Callable[[AccuracyProgress], None] | None = None
    stop_when: Callable[[AccuracyProgress], bool] | None = None
    audits: dict[str, list[PrecisionAudit]] = field(default_factory=dict)
    watches: dict[str, Stopwatch] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    totals: dict[str, int] = field(default_factory=dict)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index of every image of the set."""
        return np.array([image.label for image in self.found.images.images], np.int64)

    @cached_property
    def first_precision(self) -> ComputePrecision:
        """The precision of the first pass; for ``fast`` the device's fastest."""
        return first_precision(self.device) if self.precision == "fast" else self.precision

    def measure(self, networks: Mapping[str, torch.nn.Module]) -> None:
        """Run every network on this process's share of the images that it has not seen yet.

        Raises:
            CheckpointError: one of them does not take RGB images, or does not return one logit per class.
        """
        for name, network in networks.items():
            require_classifier(name, network, self.device, len(self.found.images.classes), self.protocol.crop)
        own = {name: self._own_places(self.found.networks[name]) for name in networks}
        self.totals = {
            name: int(np.count_nonzero(self.found.networks[name].done)) + len(places) for name, places in own.items()
        }
        needed = np.unique(np.concatenate(list(own.values()))) if own else np.empty(0, np.intp)
        for crops, chunk in self._crops(needed, passes=len(networks) + (self.precision != "strict")):
            for name, network in networks.items():
                places = own[name][np.isin(own[name], chunk)]
                if len(places) and name not in self.stopped:
                    self.measure_network(self.backend(name, network), crops, places)

    def _own_places(self, network: NetworkPredictions) -> Places:
        places = np.flatnonzero(~network.done)
        return places[own_stretch(len(places))]

    def _crops(self, places: Places, passes: int) -> Generator[tuple[CropSource, Places], None, None]:
        """Yield sources of crops, each with its images: one for all, unless memory is short."""
        if passes == 1:
            yield self.loader, places
            return
        if not len(places):
            return
        memory = memory_for(len(places), self.protocol.crop, self.device)
        for start in range(0, len(places), len(memory)):
            chunk = places[start : start + len(memory)]
            yield ResidentCrops(self.loader, memory, chunk.tolist()), chunk

    def measure_network(self, backend: Backend, crops: CropSource, places: Places) -> None:
        """Run one network on images in the chosen precision, with an audit or a recheck unless it is strict."""
        into = self.found.networks[backend.name]
        if self.precision == "strict":
            self.show(backend, crops, places, "strict", into, self.record)
            return

        def show_strict(some: Places) -> NetworkPredictions:
            strict = NetworkPredictions.unknown(len(into.done), len(self.found.images.classes))
            self.show(backend, crops, some, "strict", strict)
            return strict

        ids = [image.id for image in self.found.images.images]
        if self.precision == "fast":
            self.show(backend, crops, places, self.first_precision, into)
            audit = recheck(into, self._with_crop(places), ids, show_strict, self.first_precision)
            if self.record is not None:
                self.record(backend.name, into, places.tolist())
        else:
            self.show(backend, crops, places, self.first_precision, into, self.record)
            audit = audit_precision(into, self._with_crop(places), ids, show_strict, self.first_precision)
        self.audits.setdefault(backend.name, []).append(audit)

    def backend(self, name: str, network: torch.nn.Module) -> Backend:
        """A network on the device."""
        return Backend(
            name,
            network,
            self.device,
            self.batch_size,
            precision=self.first_precision,
            accelerations=self.accelerations,
            protocol=self.protocol,
            classes=len(self.found.images.classes),
            ranked=self.found.images.ranked,
        )

    def _with_crop(self, places: Places) -> Places:
        return np.array([place for place in places.tolist() if place not in self.found.problems], np.intp)

    def show(
        self,
        backend: Backend,
        crops: CropSource,
        places: Places,
        precision: ComputePrecision,
        into: NetworkPredictions,
        record: Record | None = None,
    ) -> None:
        """The loop: one network over some images, in order."""
        watch = self.watches.setdefault(backend.name, Stopwatch(self.device))
        pending: deque[Future[bool]] = deque()
        ahead = 0 if self.stop_when is not None else backend.batches_ahead
        with (
            computing_in(precision, self.device),
            without_gradients(precision),
            closing(crops.batches(places.tolist(), backend.images_at_once)) as batches,
            ThreadPoolExecutor(1, thread_name_prefix="predictions") as other_thread,
            watch.running(),
        ):
            for batch in batches:
                launched = backend.predict(batch.crops, self.labels[list(batch.places)], precision)
                pending.append(other_thread.submit(self._take_in, backend, batch, launched, into, record))
                if len(pending) > ahead and pending.popleft().result():
                    self.stopped.add(backend.name)
                    break
            for each in pending:
                each.result()

    def _take_in(
        self,
        backend: Backend,
        batch: CropBatch,
        launched: PendingBatch,
        into: NetworkPredictions,
        record: Record | None,
    ) -> bool:
        """Waits for a batch, keeps its predictions and reports progress; returns whether to stop."""
        ranking, seconds = launched.wait()
        if batch.digests is not None:
            self.found.note(batch.places, batch.problems, batch.digests())
        self.found.add(into, batch.places, batch.problems, ranking)
        if record is not None:
            record(backend.name, into, batch.places)
        watch = self.watches[backend.name]
        is_first_pass = into is self.found.networks[backend.name]
        watch.add(len(batch.places) if is_first_pass else 0, seconds, backend.images_at_once)
        if self.progress is None and self.stop_when is None:
            return False
        total = self.totals[backend.name]
        step = AccuracyProgress(
            network=backend.name,
            done=int(np.count_nonzero(into.done)) if is_first_pass else total,
            total=total,
            seconds=watch.seconds,
            top1_correct={name: network.top1_correct for name, network in self.found.networks.items()},
            images_per_second=watch.images / watch.seconds,
        )
        if self.progress is not None:
            self.progress(step)
        return self.stop_when is not None and self.stop_when(step)


def _finish(file: PredictionFile, measurement: Measurement, found: Predictions) -> None:
    """Write the complete prediction file once every prediction is available."""
    if not all(network.done.all() for network in found.networks.values()):
        return
    if is_first():
        file.complete(measurement, found)
    # Processes may share the folder: no part is removed before the complete file holds its predictions.
    wait_for_all()
    file.remove_parts()


def _require_one_strict_process(precision: Precision) -> None:
    if precision != "strict":
        raise UsageError("only a strict measurement can be ended early", got=f"precision {precision}")
    if is_shared():
        raise UsageError(
            "a measurement that several processes share cannot be ended early",
            next_step="run one process, without torchrun",
        )


def _measurement(
    networks: Mapping[str, torch.nn.Module],
    images: ValidationSet,
    protocol: Protocol,
    precision: Precision,
    accelerations: tuple[Acceleration, ...],
) -> Measurement:
    is_standard = protocol == Protocol(pipeline=protocol.pipeline)
    return Measurement(
        images.fingerprint,
        len(images.images),
        protocol.pipeline,
        precision,
        {name: network_fingerprint(network) for name, network in networks.items()},
        accelerations,
        "" if is_standard else repr(protocol),
    )
