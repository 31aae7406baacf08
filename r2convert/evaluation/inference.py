"""Shows batches of crops to networks and ranks what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from r2convert.errors import AccessError, CheckpointError
from r2convert.evaluation.acceleration import Acceleration, accelerated
from r2convert.evaluation.precision import ComputePrecision
from r2convert.evaluation.ranking import Ranking, rank_logits
from r2convert.imagenet.labels import CLASS_COUNT
from r2convert.imagenet.uploads import on_device

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)

# What torch says of MPS, cuDNN and the processor's own allocator.
_OUT_OF_MEMORY = ("out of memory", "CUDNN_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch that networks have been asked about, perhaps without having answered yet.

    Args:
        rankings: by network; on the processor, but only to be read after :meth:`answers` has waited for them.
    """

    rankings: dict[str, Ranking]
    _arrived: Any = None

    def answers(self) -> dict[str, Ranking]:
        """By network, rankings on the processor, one image a row; waits for them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self.rankings


class Inference:
    """Networks on a device.

    What runs at once has always the same shape, filled up with zeros if need be, so that an image's logits do not
    depend on how many others there are. When the device's memory runs out, half as many images run at once from
    then on.

    Args:
        networks: by name; each takes float32 (batch, 3, 224, 224), normalised, and returns logits (batch, 1000).
            They are moved to the device, put into evaluation mode and, on a CPU, into channels-last order, which
            runs up to a fifth faster there and multiplies the same numbers.
        device: where they run.
        batch_size: images that run at once, to begin with.
        accelerations: what else makes them run faster in any precision but ``strict``.

    Raises:
        UsageError: an acceleration does not exist on the device, or not for a network.
    """

    def __init__(
        self,
        networks: Mapping[str, torch.nn.Module],
        device: torch.device,
        batch_size: int,
        accelerations: Sequence[Acceleration] = (),
    ) -> None:
        self.device = device
        self.images_at_once = batch_size
        on_cpu = device.type == "cpu"
        self._layout = torch.channels_last if on_cpu else torch.contiguous_format
        self._faster_layout = torch.channels_last if on_cpu or "channels-last" in accelerations else self._layout
        self._networks = {
            name: network.to(device=device, memory_format=self._layout).eval()  # type: ignore[call-overload]
            for name, network in networks.items()
        }
        self._faster = {name: accelerated(each, accelerations, device) for name, each in self._networks.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The networks' names."""
        return tuple(self._networks)

    @property
    def batches_ahead(self) -> int:
        """How many batches to ask about before waiting for the first answer: none, if asking is all the work."""
        return 1 if self.device.type == "cuda" else 0

    def ask(
        self, crops: torch.Tensor, rows: Sequence[int], labels: Sequence[int], precision: ComputePrecision = "strict"
    ) -> Asked:
        """Shows every network a batch of crops, and ranks the answers on the device.

        Args:
            crops: uint8, shape (batch, 224, 224, 3), on the device.
            rows: which of them to rank; the rest is run, too, and ignored.
            labels: the class index of each of these.
            precision: what the settings of torch are now; without ``strict`` the accelerated networks are asked.

        Raises:
            CheckpointError: a network does not return 1,000 logits an image.
            AccessError: the device has no memory for a single image.
        """
        strict = precision == "strict"
        layout = self._layout if strict else self._faster_layout
        inputs = normalise(crops).contiguous(memory_format=layout)
        chosen = on_device(torch.tensor(rows, dtype=torch.int64), self.device)
        classes = on_device(torch.tensor(labels, dtype=torch.int64), self.device)
        beside = self.device.type == "cuda"
        rankings = {}
        for name, network in (self._networks if strict else self._faster).items():
            ranking = rank_logits(self._logits(name, network, inputs, layout)[chosen], classes)
            parts = (ranking.top, ranking.rank, ranking.margins)
            rankings[name] = Ranking(*(part.to("cpu", non_blocking=beside) for part in parts))
        cuda: Any = torch.cuda  # whose streams have no type hints
        return Asked(rankings, cuda.current_stream(self.device).record_event() if beside else None)

    def _logits(
        self, name: str, network: torch.nn.Module, inputs: torch.Tensor, layout: torch.memory_format
    ) -> torch.Tensor:
        while True:
            try:
                parts = [self._answer(name, network, part, layout) for part in torch.split(inputs, self.images_at_once)]
                return torch.cat(parts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.images_at_once == 1:
                    raise no_memory(f"{name} on {self.device}", error) from error
            # Outside the handler, whose traceback would keep the tensors alive that did not fit.
            self.images_at_once = (self.images_at_once + 1) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _answer(
        self, name: str, network: torch.nn.Module, part: torch.Tensor, layout: torch.memory_format
    ) -> torch.Tensor:
        count = len(part)
        if count < self.images_at_once:
            filling = part.new_zeros((self.images_at_once - count, *part.shape[1:]))
            part = torch.cat((part, filling)).contiguous(memory_format=layout)
        logits = network(part)
        if tuple(logits.shape) != (len(part), CLASS_COUNT):
            raise CheckpointError(
                "the network does not answer with ImageNet-1k logits",
                where=name,
                expected=f"{CLASS_COUNT} logits an image",
                got=f"an output of shape {tuple(logits.shape)} for {len(part)} images",
                next_step="accuracy is measured for classifiers of the 1,000 ImageNet classes only",
            )
        answer: torch.Tensor = logits[:count].float()
        return answer


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device has run out of memory; not every one has an exception of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def no_memory(where: str, error: RuntimeError) -> AccessError:
    """The error for a device that is too small."""
    return AccessError(
        "the device has no memory for a single image",
        where=where,
        got=str(error).partition("\n")[0],
        next_step="free memory on the device, or use --device cpu",
    )


def normalise(crops: torch.Tensor) -> torch.Tensor:
    """Pixels to what the networks were trained on, in the same float32 steps as torchvision takes them.

    Args:
        crops: uint8, shape (images, height, width, 3).

    Returns:
        float32, shape (images, 3, height, width), in the memory order of the crops.
    """
    mean = on_device(torch.tensor(MEAN), crops.device)[:, None, None]
    deviation = on_device(torch.tensor(STANDARD_DEVIATION), crops.device)[:, None, None]
    return crops.permute(0, 3, 1, 2).to(torch.float32).div_(255).sub_(mean).div_(deviation)
