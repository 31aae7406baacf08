"""One network on a device: crops in, ranked classes out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from r2convert.catalog.protocol import Acceleration, ComputePrecision, Protocol
from r2convert.errors import AccessError, CheckpointError
from r2convert.evaluation.precision import accelerated, computing_in, prepacked
from r2convert.files import counted
from r2convert.imagenet.device_resize import is_out_of_memory, on_device
from r2convert.imagenet.labels import CLASS_COUNT, TOP
from r2convert.imagenet.preprocessing import STANDARD

SomeNetwork = TypeVar("SomeNetwork", bound=nn.Module)

_NOT_ONE_IMAGE = "the device has no memory for a single image"


class Backend:
    """One network on a device.

    What runs at once has always the same shape, filled up with zeros if need be, so that an image's logits do not
    depend on how many others there are. When the device's memory runs out, half as many images run at once from
    then on.

    Args:
        name: the network's, for messages.
        network: takes float32 (batch, 3, crop, crop), normalised, and returns logits (batch, classes). It is moved
            to the device, converted to float32, put into evaluation mode and, on a CPU, into channels-last order with
            packed weights, which runs up to a third faster there and multiplies the same numbers.
        device: where it runs.
        batch_size: initial batch size, halved when memory runs out.
        precision: what it runs in besides ``strict``.
        accelerations: the optimisations in use.
        protocol: how crops are normalised.
        classes: number of its logits.
        ranked: the class indices that are ranked, for a set with some of the classes; by default all of them.

    Raises:
        UsageError: an acceleration does not exist on the device, or not for the network.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        device: torch.device,
        batch_size: int,
        *,
        precision: ComputePrecision = "strict",
        accelerations: Sequence[Acceleration] = (),
        protocol: Protocol = STANDARD,
        classes: int = CLASS_COUNT,
        ranked: Sequence[int] | None = None,
    ) -> None:
        self.name, self.device, self.images_at_once = name, device, batch_size
        self._classes = classes
        on_cpu = device.type == "cpu"
        self._layout = memory_format(device)
        self._faster_layout = torch.channels_last if on_cpu or "channels-last" in accelerations else self._layout
        network = prepared(network, device)
        self._network, self._faster = network, accelerated(network, accelerations, device)
        if on_cpu:
            self._network = prepacked(network)
            if precision == "fp32" and "compile" not in accelerations:
                self._faster = prepacked(self._faster)
        self._mean, self._deviation = _channel_values(protocol, device)
        self._ignored = ignored_classes(ranked, classes, device)

    @property
    def batches_ahead(self) -> int:
        """How many batches to launch before waiting for the first; on a CPU launching is all the work."""
        return 2 if self.device.type == "cuda" else 1

    def predict(
        self, crops: torch.Tensor, labels: npt.NDArray[np.int64], precision: ComputePrecision = "strict"
    ) -> PendingBatch:
        """Launches the network on a batch of crops, and the ranking of its logits.

        Args:
            crops: uint8, shape (labels or more, crop, crop, 3), on the device.
            labels: int64, shape (images,): the class index of each of the first so many.
            precision: what the settings of torch are now; without ``strict`` the accelerated network runs.

        Raises:
            CheckpointError: the network gives another number of logits.
            AccessError: the device has no memory for a single image.
        """
        classes = on_device(torch.from_numpy(labels), self.device)
        while True:
            started = self._now()
            try:
                ranking = self._predict(crops[: len(labels)], classes, strict=precision == "strict")
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.images_at_once == 1:
                    raise out_of_memory(f"{self.name} on {self.device}", error, what=_NOT_ONE_IMAGE) from error
            else:
                return PendingBatch(ranking, started, self._now())
            # Outside the handler, whose traceback would keep the tensors alive that did not fit.
            self.images_at_once = (self.images_at_once + 1) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _predict(self, crops: torch.Tensor, labels: torch.Tensor, *, strict: bool) -> Ranking:
        network, layout = (self._network, self._layout) if strict else (self._faster, self._faster_layout)
        rankings = []
        at_once = self.images_at_once
        for start in range(0, len(crops), at_once):
            part = crops[start : start + at_once]
            count = len(part)
            if count < at_once:
                part = torch.cat((part, part.new_zeros((at_once - count, *part.shape[1:]))))
            logits = network(_normalise(part, self._mean, self._deviation, layout))
            _require_logits(logits, at_once, self._classes, self.name)
            rankings.append(rank_logits(logits[:count].float(), labels[start : start + count], self._ignored))
        beside = self.device.type == "cuda"
        fields = zip(*((each.top, each.rank, each.margins) for each in rankings), strict=True)
        return Ranking(*(torch.cat(parts).to("cpu", non_blocking=beside) for parts in fields))

    def _now(self) -> Any:
        """Now, on the device's clock."""
        if self.device.type != "cuda":
            return time.perf_counter()
        cuda: Any = torch.cuda  # whose streams and events have no type hints
        event = cuda.Event(enable_timing=True)
        event.record(cuda.current_stream(self.device))
        return event


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch that was launched, and perhaps has not been computed yet.

    Args:
        ranking: on the processor, but only to be read after :meth:`wait`.
        started: when the device began with it.
        ended: when it is done.
    """

    ranking: Ranking
    started: Any
    ended: Any

    def wait(self) -> tuple[Ranking, float]:
        """The ranking, and the seconds that the device worked on it."""
        if isinstance(self.ended, float):
            return self.ranking, self.ended - self.started
        self.ended.synchronize()
        return self.ranking, self.started.elapsed_time(self.ended) / 1000


@dataclass(frozen=True, slots=True)
class Ranking:
    """The part of a batch of logits that every score is computed from.

    Equal logits are ranked by class index, the smaller one first, as ``argmax`` does. A row with a NaN in it ranks
    nothing: its classes are -1, its rank is the number of classes and its margins are NaN.

    Args:
        top: int16, shape (images, 5): the five classes ranked first.
        rank: int16, shape (images,): how many classes are ranked before the labelled one.
        margins: float32, shape (images, 2): first logit minus second; and how far the labelled class is from
            changing sides at the cut below the fifth: its logit minus the sixth (positive, if it is among the first
            five) or minus the fifth (negative, if not).
    """

    top: torch.Tensor
    rank: torch.Tensor
    margins: torch.Tensor


def ignored_classes(ranked: Sequence[int] | None, classes: int, device: torch.device) -> torch.Tensor | None:
    """The classes to leave out in :func:`rank_logits`; ``None`` if all are ranked."""
    if ranked is None:
        return None
    ignored = torch.ones(classes, dtype=torch.bool)
    ignored[list(ranked)] = False
    return ignored.to(device)


def rank_logits(logits: torch.Tensor, labels: torch.Tensor, ignored: torch.Tensor | None = None) -> Ranking:
    """Ranks the classes of each image.

    Args:
        logits: float, shape (images, classes).
        labels: int64, shape (images,): class indices.
        ignored: bool, shape (classes,): classes that are not ranked, whatever their logits.

    Returns:
        The ranking, on the device of the logits.
    """
    class_count = logits.shape[1]
    not_a_number = logits.isnan().any(1)
    if ignored is not None:
        logits = logits.masked_fill(ignored, -torch.inf)
    own = logits.gather(1, labels[:, None])
    before = torch.arange(class_count, device=logits.device)[None, :] < labels[:, None]
    rank = ((logits > own) | ((logits == own) & before)).sum(1)
    # With five classes or fewer the label is always among the first five, whatever lies beyond them.
    missing = max(0, TOP + 1 - class_count)
    padded = nn.functional.pad(logits, (0, missing), value=-torch.inf)
    values, order = torch.sort(padded, dim=1, descending=True, stable=True)
    at_the_cut = torch.where(rank < TOP, values[:, TOP], values[:, TOP - 1])
    margins = torch.stack((values[:, 0] - values[:, 1], own[:, 0] - at_the_cut), 1)
    top = order[:, :TOP]
    return Ranking(
        top=top.masked_fill(not_a_number[:, None] | (top >= class_count), -1).to(torch.int16),
        rank=rank.masked_fill(not_a_number, class_count).to(torch.int16),
        margins=margins.masked_fill(not_a_number[:, None], float("nan")).to(torch.float32),
    )


def normalise(crops: torch.Tensor, protocol: Protocol = STANDARD) -> torch.Tensor:
    """Pixels to what the networks were trained on, in the same float32 steps as torchvision takes them.

    Args:
        crops: uint8, shape (images, height, width, 3).
        protocol: has the mean and the standard deviation.

    Returns:
        float32, shape (images, 3, height, width), in the memory order of the crops.
    """
    return _normalise(crops, *_channel_values(protocol, crops.device))


def _normalise(
    crops: torch.Tensor,
    mean: torch.Tensor,
    deviation: torch.Tensor,
    layout: torch.memory_format = torch.preserve_format,
) -> torch.Tensor:
    pixels = crops.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout)
    return pixels.div_(255).sub_(mean).div_(deviation)


def _channel_values(protocol: Protocol, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    mean, deviation = (on_device(torch.tensor(values), device) for values in (protocol.mean, protocol.std))
    return mean[:, None, None], deviation[:, None, None]


def require_classifier(name: str, network: nn.Module, device: torch.device, classes: int, side: int) -> None:
    """Shows a network one blank image on the device, so that an unfit one is refused before hours are spent.

    Args:
        name: of the network, for messages.
        network: moved and converted as :class:`Backend` does.
        device: where it is to run.
        classes: how many logits it has to give.
        side: pixels of the image, each way.

    Raises:
        CheckpointError: it does not take RGB images of this size, or gives another number of logits.
        AccessError: the device has no memory for a single image.
    """
    try:
        network = prepared(network, device)
        with computing_in("strict", device), torch.inference_mode():
            logits = network(torch.zeros((1, 3, side, side), device=device))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory(name, error, what=_NOT_ONE_IMAGE) from error
        raise CheckpointError(
            "the network cannot be shown RGB images of this size",
            where=name,
            expected=f"a network that takes images of 3 channels and {side}x{side} pixels",
            got=str(error).partition("\n")[0],
            next_step="measure classifiers of RGB images, at a size that the network takes",
        ) from error
    _require_logits(logits, 1, classes, name)


def prepared(network: SomeNetwork, device: torch.device) -> SomeNetwork:
    """A network moved to a device: float32, in evaluation mode, in the memory order that it is shown images in."""
    moved: SomeNetwork = network.to(  # type: ignore[call-overload]
        device=device, dtype=torch.float32, memory_format=memory_format(device)
    )
    return moved.eval()


def memory_format(device: torch.device) -> torch.memory_format:
    """The order in memory in which a device runs networks in strict: channels last is a fifth faster on a CPU."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def _require_logits(logits: object, images: int, classes: int, where: str) -> None:
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else None
    if shape == (images, classes):
        return
    output = f"a {type(logits).__name__}" if shape is None else f"an output of shape {shape}"
    raise CheckpointError(
        "the network's output does not fit the classes of the images",
        where=where,
        expected=f"{classes:,} logits per image",
        got=f"{output} for {counted(images, 'image')}",
        next_step="measure a classifier on images of its own classes"
        + (", in a module that returns the logits alone" if shape is None else ""),
    )


def out_of_memory(where: str, error: RuntimeError, *, what: str = "out of memory") -> AccessError:
    """The error for a device that is too small."""
    return AccessError(
        what,
        where=where,
        got=str(error).partition("\n")[0],
        next_step="free memory, choose a smaller --batch-size, or use --device cpu",
    )


def network_fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and values of all tensors of a network."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
