"""Several processes, on one machine or many, share the images of one measurement: each image in exactly one of them.

Started by ``torchrun``. Nothing is padded and nothing counted twice: a process takes a stretch of the set, and at the
end all of them have all answers. Only those travel between processes, so gloo is enough, whatever the devices are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from r2convert.errors import UsageError
from r2convert.evaluation.predictions import AnsweredPart, NetworkAnswers, Predictions
from r2convert.imagenet.validation_set import LoadedImage, ValidationImage
from r2convert.results.verification import PrecisionAudit


@contextmanager
def joined_processes() -> Iterator[int]:
    """Joins the processes that ``torchrun`` has started, if it has; gives the number of this one, from 0.

    Raises:
        UsageError: this build of torch cannot.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    if not distributed.is_available():
        raise UsageError(
            "this build of torch has no distributed package", next_step="run one process, without torchrun"
        )
    distributed.init_process_group("gloo")
    try:
        yield distributed.get_rank()
    finally:
        distributed.destroy_process_group()


def is_shared() -> bool:
    """Whether this process is one of several."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is alone or the first of several: the one that writes and prints."""
    return not is_shared() or distributed.get_rank() == 0


def local_device(device: torch.device) -> torch.device:
    """The device of this process: with several on one machine and ``cuda`` without a number, each has its own."""
    if str(device) == "cuda" and is_shared():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def own_number() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if is_shared() else 0


def own_stretch(image_count: int) -> slice:
    """Which of so many images are this process's: all, if it is alone."""
    if not is_shared():
        return slice(0, image_count)
    rank, count = distributed.get_rank(), distributed.get_world_size()
    return slice(rank * image_count // count, (rank + 1) * image_count // count)


def wait_for_all() -> None:
    """Returns once every process has come here."""
    if is_shared():
        distributed.barrier()


def gather(own: AnsweredPart, images: Sequence[ValidationImage]) -> list[AnsweredPart]:
    """Everybody's answers, those of this process among them.

    Args:
        own: what this process has found out.
        images: the whole set.
    """
    if not is_shared():
        return [own]
    predictions = own.predictions
    message = {
        "places": list(own.places)[: predictions.done],
        "loaded": [(loaded.crop_digest, loaded.problem) for loaded in predictions.loaded],
        "answers": {name: (each.top, each.rank, each.margins) for name, each in predictions.answers.items()},
    }
    return [_unpack(each, images) for each in _exchange(message)]


def merged_audits(audits: Mapping[str, PrecisionAudit]) -> dict[str, PrecisionAudit]:
    """Everybody's audits as one, by network."""
    if not is_shared():
        return dict(audits)
    everybodys = _exchange(dict(audits))
    names = dict.fromkeys(name for each in everybodys for name in each)
    return {name: _merge([each[name] for each in everybodys if name in each]) for name in names}


def _exchange(message: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(messages, message)
    return messages


def _unpack(message: Mapping[str, Any], images: Sequence[ValidationImage]) -> AnsweredPart:
    chosen = [images[place] for place in message["places"]]
    part = Predictions(chosen, ())
    part.answers = {name: NetworkAnswers(*arrays) for name, arrays in message["answers"].items()}
    part.loaded += [LoadedImage(image, *found) for image, found in zip(chosen, message["loaded"], strict=True)]
    return AnsweredPart(message["places"], part)


def _merge(audits: list[PrecisionAudit]) -> PrecisionAudit:
    bounds = [audit.bound for audit in audits if audit.bound is not None]
    return PrecisionAudit(
        first_precision=audits[0].first_precision,
        images=sum(audit.images for audit in audits),
        changed_top1=sum(audit.changed_top1 for audit in audits),
        changed_top1_correct=sum(audit.changed_top1_correct for audit in audits),
        changed_top5_correct=sum(audit.changed_top5_correct for audit in audits),
        largest_drift=max(audit.largest_drift for audit in audits),
        bound=max(bounds) if bounds else None,
    )
