"""Copies between the processor and a GPU that wait for nothing the networks compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def on_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values from the processor, for whatever is called next on the current stream.

    A plain copy to a GPU waits until that stream has done everything it was given before: the networks' whole batch.
    From pinned memory it takes its turn there, and nobody waits.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class Uploads:
    """Copies to a device and back beside what the networks compute there; on a CPU nothing is copied.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device) -> None:
        cuda: Any = torch.cuda  # whose streams and events have no type hints
        self._device = device
        # First in line: the little there is to do for a batch must not wait for all of the networks' kernels.
        self._stream = cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._uploaded = cuda.Event() if device.type == "cuda" else None

    @contextmanager
    def beside_the_networks(self) -> Iterator[None]:
        """What is called in here waits for nothing that the networks were given."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def upload(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Pixels on the device; the buffer may be filled again after :meth:`wait`."""
        uploaded = torch.from_numpy(pixels).to(self._device, non_blocking=self._stream is not None)
        if self._uploaded is not None:
            self._uploaded.record(self._stream)
        return uploaded

    def hand_over(self, crops: torch.Tensor) -> None:
        """Lets the networks wait for crops, and their memory for the networks."""
        if self._stream is None:
            return
        networks: Any = torch.cuda.current_stream(self._device)
        networks.wait_event(self._stream.record_event())
        crops.record_stream(networks)

    def fetch(self, crops: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Crops in the processor's memory, once they have arrived there."""
        if self._stream is None:
            fetched = crops.cpu()
            return lambda: fetched
        fetched = crops.to("cpu", non_blocking=True)
        arrived = self._stream.record_event()

        def wait() -> torch.Tensor:
            arrived.synchronize()
            return fetched

        return wait

    def wait(self) -> None:
        """Until the last upload has left its buffer."""
        if self._uploaded is not None:
            self._uploaded.synchronize()
