"""Shows batches of crops to networks and ranks what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from r2convert.errors import AccessError, CheckpointError
from r2convert.imagenet.labels import CLASS_COUNT
from r2convert.imagenet.pipeline import Crop
from r2convert.verify.ranking import Ranking, rank_logits

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)


class Inference:
    """Networks on a device.

    What runs at once has always the same shape, filled up with zeros if need be, so that an image's logits do not
    depend on how many others there are. When the device's memory runs out, half as many images run at once from
    then on.

    Args:
        networks: by name; each takes float32 (batch, 3, 224, 224), normalised, and returns logits (batch, 1000).
            They are moved to the device, put into evaluation mode and, on a CPU, into channels-last order, which
            runs about a fifth faster there and multiplies the same numbers.
        device: where they run.
        batch_size: images that run at once, to begin with.
    """

    def __init__(self, networks: Mapping[str, torch.nn.Module], device: torch.device, batch_size: int) -> None:
        self.device = device
        self.images_at_once = batch_size
        self._layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self._networks = {
            name: network.to(device=device, memory_format=self._layout).eval()  # type: ignore[call-overload]
            for name, network in networks.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The networks' names."""
        return tuple(self._networks)

    def rank(self, crops: Crop, rows: Sequence[int], labels: Sequence[int]) -> dict[str, Ranking]:
        """What every network answers to some of the crops.

        Args:
            crops: uint8, shape (batch, 224, 224, 3).
            rows: which of them to rank; the rest is run, too, and ignored.
            labels: the class index of each of these.

        Returns:
            By network, rankings on the CPU, one image a row.

        Raises:
            CheckpointError: a network does not return 1,000 logits an image.
            AccessError: the device has no memory for a single image.
        """
        inputs = normalise(torch.from_numpy(crops).to(self.device)).contiguous(memory_format=self._layout)
        chosen = torch.tensor(rows, dtype=torch.int64, device=self.device)
        classes = torch.tensor(labels, dtype=torch.int64, device=self.device)
        rankings = {}
        for name, network in self._networks.items():
            ranking = rank_logits(self._logits(name, network, inputs)[chosen], classes)
            rankings[name] = Ranking(ranking.top.cpu(), ranking.rank.cpu(), ranking.margins.cpu())
        return rankings

    def _logits(self, name: str, network: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                parts = [self._answer(name, network, part) for part in torch.split(inputs, self.images_at_once)]
                return torch.cat(parts)
            except torch.OutOfMemoryError as error:
                if self.images_at_once == 1:
                    raise AccessError(
                        "the device has no memory for a single image",
                        where=f"{name} on {self.device}",
                        got=str(error).partition("\n")[0],
                        next_step="free memory on the device, or use --device cpu",
                    ) from error
            # Outside the handler, whose traceback would keep the tensors alive that did not fit.
            self.images_at_once = (self.images_at_once + 1) // 2

    def _answer(self, name: str, network: torch.nn.Module, part: torch.Tensor) -> torch.Tensor:
        count = len(part)
        if count < self.images_at_once:
            filling = part.new_zeros((self.images_at_once - count, *part.shape[1:]))
            part = torch.cat((part, filling)).contiguous(memory_format=self._layout)
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


def normalise(crops: torch.Tensor) -> torch.Tensor:
    """Pixels to what the networks were trained on, in the same float32 steps as torchvision takes them.

    Args:
        crops: uint8, shape (images, height, width, 3).

    Returns:
        float32, shape (images, 3, height, width), in the memory order of the crops.
    """
    mean = torch.tensor(MEAN, device=crops.device)[:, None, None]
    deviation = torch.tensor(STANDARD_DEVIATION, device=crops.device)[:, None, None]
    return crops.permute(0, 3, 1, 2).to(torch.float32).div_(255).sub_(mean).div_(deviation)
