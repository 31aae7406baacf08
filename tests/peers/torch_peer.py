"""What timm and mmpretrain have in common: drawing a PyTorch network and computing its logits.

Runs in the peers' own interpreter.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


class TorchPeer(ABC):
    """A peer on PyTorch; see :class:`tests.peers.serving.Peer` for what its methods promise."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Package -> its installed version."""

    @abstractmethod
    def build(self, variant: str) -> nn.Module:
        """The peer's own network, as the peer initialises it."""

    @abstractmethod
    def save(self, network: nn.Module, container: str, path: Path) -> None:
        """Write the network the way the peer does."""

    @abstractmethod
    def load(self, network: nn.Module, path: Path) -> None:
        """Read a file the way the peer does, strictly."""

    def stages(self, variant: str, network: nn.Module) -> nn.Module:
        """The network's backbone the way the peer hands it to detection: images to the outputs of the four stages."""
        raise NotImplementedError

    def make(self, variant: str, files: Mapping[str, str], images: str, logits: str) -> None:
        """Draw a network, save it in every container, and write its logits."""
        torch.manual_seed(zlib.crc32(variant.encode()))
        network = self.build(variant)
        settle_batch_norms(network)
        for container, path in files.items():
            self.save(network, container, Path(path))
        write_logits(network, images, logits)

    def read(self, variant: str, path: str, images: str, logits: str, *, stages: bool = False) -> None:
        """Load a file strictly and write its logits, or the outputs of its stages."""
        network = self.build(variant)
        self.load(network, Path(path))
        write_logits(self.stages(variant, network) if stages else network, images, logits)


def settle_batch_norms(network: nn.Module) -> None:
    """Give every BatchNorm weights of its own, and the statistics of one pass in training mode.

    Fresh ones are all alike, so that a swapped pair would not show; statistics that fit keep the logits sensible.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, 0, 0.1)
            module.momentum = None  # the mean over all passes, of which there is one
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 128, 128))


def write_logits(network: nn.Module, images: str, logits: str) -> None:
    """Compute in float64, so that a difference between two implementations is not one of rounding."""
    network.double().eval()
    computed: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
    with np.load(images) as batches, torch.inference_mode():
        for size in batches.files:
            outputs: Tensor | Sequence[Tensor] = network(torch.from_numpy(batches[size]))
            if isinstance(outputs, Tensor):
                computed[size] = outputs.numpy()
            else:
                computed |= {f"{size}, stage {number}": output.numpy() for number, output in enumerate(outputs, 1)}
    np.savez(logits, allow_pickle=False, **computed)
