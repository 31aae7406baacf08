"""Several processes, on one machine or many, share the images of one measurement: each image in exactly one of them.

Started by ``torchrun``. Nothing is padded and nothing counted twice: a process takes a stretch of the set, and at the
end all of them have all predictions. Only those travel between processes, so gloo is enough, whatever the devices are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed

from r2convert.errors import UsageError
from r2convert.evaluation.predictions import Predictions, merged_audit
from r2convert.evaluation.resources import joint_speed
from r2convert.results.verification import PrecisionAudit, Speed

Message = TypeVar("Message")


@contextmanager
def joined_processes() -> Iterator[int]:
    """Joins the processes that ``torchrun`` has started, if it has; gives the rank of this one, from 0.

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
    with _stdout_on_stderr():
        distributed.init_process_group("gloo")
    try:
        yield distributed.get_rank()
    finally:
        distributed.destroy_process_group()


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Sends what libraries print to stderr: Gloo of torch 2.9 and 2.10 tells of its connections on stdout."""
    sys.stdout.flush()
    stdout = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def is_shared() -> bool:
    """Whether this process is one of several."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is alone or the first of several: the one that writes and prints."""
    return not is_shared() or distributed.get_rank() == 0


def local_device(device: torch.device) -> torch.device:
    """The device of this process, by its number: ``cuda`` without one is the current one, or one a process.

    It is made the current one, so that whatever allocates without naming a device does it there. A process that is
    shown fewer devices than there are processes here, perhaps only its own, counts on from the first.
    """
    if device.type != "cuda":
        return device
    cuda: Any = torch.cuda  # without type hints
    cuda.init()  # says what is missing, where setting a device would stumble over it
    if str(device) == "cuda":
        own = os.environ.get("LOCAL_RANK")
        index = cuda.current_device() if own is None else int(own) % max(1, cuda.device_count())
        device = torch.device("cuda", index)
    cuda.set_device(device)
    return device


def own_rank() -> int:
    """The rank of this process, from 0."""
    return distributed.get_rank() if is_shared() else 0


def own_stretch(image_count: int) -> slice:
    """This process's slice of the images: all of them, if it is alone."""
    if not is_shared():
        return slice(0, image_count)
    rank, count = distributed.get_rank(), distributed.get_world_size()
    return slice(rank * image_count // count, (rank + 1) * image_count // count)


def wait_for_all() -> None:
    """Returns once every process has called it."""
    if is_shared():
        distributed.barrier()


def gather(predictions: Predictions) -> None:
    """Adds to the predictions of this process those of all others."""
    if not is_shared():
        return
    message = {
        "loaded": predictions.loaded,
        "digests": predictions.digests[predictions.loaded],
        "problems": predictions.problems,
        "networks": {
            name: (network.done, *(array[network.done] for array in network.arrays[1:]))
            for name, network in predictions.networks.items()
        },
    }
    for each in _exchange(message):
        predictions.merge(_unpack(each, predictions))


def gather_audits(audits: Mapping[str, PrecisionAudit]) -> dict[str, PrecisionAudit]:
    """The audits of all processes as one, by network."""
    if not is_shared():
        return dict(audits)
    everybodys = _exchange(dict(audits))
    names = dict.fromkeys(name for each in everybodys for name in each)
    return {name: merged_audit([each[name] for each in everybodys if name in each]) for name in names}


def gather_speeds(speeds: Mapping[str, Speed | None]) -> dict[str, Speed | None]:
    """How fast all processes were together, by network."""
    if not is_shared():
        return dict(speeds)
    everybodys = _exchange(dict(speeds))
    return {name: joint_speed([each[name] for each in everybodys]) for name in speeds}


def _exchange(message: Message) -> list[Message]:
    messages: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(messages, message)
    return messages


def _unpack(message: Mapping[str, Any], like: Predictions) -> Predictions:
    part = Predictions(like.images, like.networks)
    part.loaded[...] = message["loaded"]
    part.digests[part.loaded] = message["digests"]
    part.problems.update(message["problems"])
    for name, (done, *values) in message["networks"].items():
        network = part.networks[name]
        network.done[...] = done
        for array, found in zip(network.arrays[1:], values, strict=True):
            array[done] = found
    return part
