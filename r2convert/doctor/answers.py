"""What a network answers to images in a setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from r2convert.doctor.feeds import feed_pixels
from r2convert.doctor.network_changes import changed_network
from r2convert.doctor.setting import Feed, NetworkChange
from r2convert.errors import AccessError
from r2convert.evaluation.backends import computing_in, rank_logits
from r2convert.imagenet.preprocessing import Crop
from r2convert.models.blocks import Classifier

Top = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Network:
    """A network on a device.

    Args:
        network: in evaluation mode, in float32, on the device.
        device: where it runs.
        batch_size: images that run at once.
    """

    network: Classifier
    device: torch.device
    batch_size: int

    def answer(self, crops: Crop, feed: Feed, change: NetworkChange) -> Top:
        """The five classes ranked first for each crop, int16, shape (images, 5); -1 where an answer is not a number.

        Raises:
            AccessError: the device has no memory for a batch.
        """
        with computing_in("strict", self.device), torch.inference_mode(), changed_network(self.network, change):
            try:
                parts = [self._rank(part, feed) for part in self._parts(crops)]
            except torch.OutOfMemoryError as error:
                raise AccessError(
                    "the device has no memory for a batch",
                    where=str(self.device),
                    got=f"{self.batch_size} images at once",
                    next_step="name a smaller --batch-size, or use --device cpu",
                ) from error
        return np.concatenate(parts)

    def _parts(self, crops: Crop) -> tuple[torch.Tensor, ...]:
        # Even parts: the statistics of a last batch of two or three images would be no batch's statistics.
        count = -(-len(crops) // self.batch_size)
        return torch.from_numpy(crops).tensor_split(count)

    def _rank(self, part: torch.Tensor, feed: Feed) -> Top:
        inputs = feed_pixels(part.to(self.device), feed).contiguous(memory_format=self._memory_format)
        logits = self.network(inputs).float()
        unused = torch.zeros(len(part), dtype=torch.int64, device=self.device)
        return cast("Top", rank_logits(logits, unused).top.cpu().numpy())

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.device.type == "cpu" else torch.contiguous_format


def prepared(network: Classifier, device: torch.device, batch_size: int | None) -> Network:
    """A network made ready to answer: float32, and on a CPU channels last, which is a fifth faster there.

    Args:
        network: the network, in evaluation mode; it is moved to the device.
        device: where it is to run.
        batch_size: images that run at once; by default 32 on a CPU, else 128.
    """
    on_cpu = device.type == "cpu"
    layout = torch.channels_last if on_cpu else torch.contiguous_format
    moved = network.to(device=device, dtype=torch.float32, memory_format=layout)  # type: ignore[call-overload]
    return Network(moved, device, batch_size or (32 if on_cpu else 128))
