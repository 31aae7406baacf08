"""Pillow's resizing and cropping on a torch device, bit for bit, so that the processor only has to decode.

Pillow resamples 8-bit pictures in integers: weights are computed in double precision, rounded to 22-bit fixed point,
and each of the two passes adds a half, shifts and clips to a byte. All sums stay far below 2**53, so matrix products
in float64 give the same integers in whatever order they add up: two small products a picture, width first, then
height, for the rows and columns of the crop only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from r2convert.imagenet.pipeline import CROP_SIDE, Crop, crop_corner, crop_pixels, fast_crop_function, resized_size

_FRACTION_BITS = 22
_PROBED_SIZES = ((500, 375), (375, 500), (256, 256), (300, 200), (1200, 901))


@dataclass(frozen=True, slots=True)
class _Pass:
    needed: slice
    weights: torch.Tensor


class DeviceCropper:
    """Crops pictures on a device; keeps the weights of sizes it has seen, which are few in ImageNet.

    Any number of threads may use it at once.

    Args:
        device: any that has float64: ``cpu`` or ``cuda``, not ``mps``.
        kept_weights: how many sizes to keep weights of; about a megabyte each.
    """

    def __init__(self, device: torch.device, kept_weights: int = 512) -> None:
        self.device = device
        self._kept_weights = kept_weights
        self._passes: dict[tuple[int, int, int], _Pass] = {}
        self._thread = threading.local()

    def crop_pixels(self, pixels: npt.NDArray[np.uint8]) -> Crop:
        """The same for pixels in the processor's memory; takes turns with nothing else that the device computes."""
        with self._own_stream():
            return self.crop(torch.from_numpy(pixels).to(self.device)).cpu().numpy()

    def _own_stream(self) -> AbstractContextManager[object]:
        # On the common stream a crop would wait for the networks' whole batch that was put there before it.
        if self.device.type != "cuda":
            return nullcontext()
        if not hasattr(self._thread, "stream"):
            cuda: Any = torch.cuda  # whose Stream has no type hints
            self._thread.stream = cuda.Stream(self.device)
        return torch.cuda.stream(self._thread.stream)

    def crop(self, pixels: torch.Tensor) -> torch.Tensor:
        """Resizes the short side to 256 and cuts out the central 224x224.

        Args:
            pixels: uint8, shape (height, width, 3), on the device.

        Returns:
            uint8, shape (224, 224, 3), on the device: what :func:`~r2convert.imagenet.pipeline.crop_pixels` gives.

        Raises:
            UnreadableImageError: the image is absurdly long and thin.
        """
        height, width = pixels.shape[:2]
        new_width, new_height = resized_size(width, height)
        left, top = crop_corner(new_width, new_height)
        across, down = self._pass(width, new_width, left), self._pass(height, new_height, top)
        source = pixels[down.needed, across.needed].to(torch.float64)
        # A pass whose size does not change has the identity for weights: no pixel changes, as if it were left out.
        narrow = _to_bytes(torch.einsum("xw,hwc->hxc", across.weights, source))
        return _to_bytes(torch.einsum("yh,hxc->yxc", down.weights, narrow)).to(torch.uint8)

    def _pass(self, size: int, new_size: int, first: int) -> _Pass:
        key = size, new_size, first
        found = self._passes.get(key)
        if found is None:
            needed, weights = resampling_weights(size, new_size, first)
            found = _Pass(needed, torch.from_numpy(weights).to(self.device))
            if len(self._passes) >= self._kept_weights:
                self._passes.clear()
            self._passes[key] = found
        return found


def crop_function_on(device: torch.device) -> Callable[[bytes], Crop]:
    """A function that gives the bytes of :func:`~r2convert.imagenet.pipeline.crop_image`, resizing on a device.

    The device is tried out on pictures of several sizes first; unless all bytes agree, nothing is resized there.
    """
    cropper = DeviceCropper(device)
    generator = np.random.default_rng(0)
    for width, height in _PROBED_SIZES:
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        if not np.array_equal(cropper.crop_pixels(pixels), crop_pixels(pixels)):
            return fast_crop_function()
    return fast_crop_function(cropper.crop_pixels)


def resampling_weights(size: int, new_size: int, first: int) -> tuple[slice, npt.NDArray[np.float64]]:
    """Pillow's bilinear weights for 224 neighbouring outputs of one pass.

    Args:
        size: pixels of the source.
        new_size: pixels it is resized to.
        first: the first output wanted.

    Returns:
        The source pixels needed, and whole numbers in float64, shape (224, pixels needed), in units of 2**-22.
    """
    scale = size / new_size
    reach = max(scale, 1.0)
    centers = (np.arange(first, first + CROP_SIDE) + 0.5) * scale
    starts = np.maximum((centers - reach + 0.5).astype(np.int64), 0)
    ends = np.minimum((centers + reach + 0.5).astype(np.int64), size)
    places = starts[:, None] + np.arange((ends - starts).max())
    taps = np.maximum(0.0, 1.0 - np.abs((places - centers[:, None] + 0.5) * (1.0 / reach)))
    taps[places >= ends[:, None]] = 0.0
    # A running sum from left to right, as Pillow has it: a pairwise one would round otherwise.
    totals = np.cumsum(taps, axis=1)[:, -1:]
    whole = np.floor(0.5 + taps / totals * (1 << _FRACTION_BITS))
    needed = slice(int(starts[0]), int(ends[-1]))
    weights = np.zeros((CROP_SIDE, needed.stop - needed.start))
    rows, columns = np.nonzero(whole)
    weights[rows, places[rows, columns] - needed.start] = whole[rows, columns]
    return needed, weights


def _to_bytes(sums: torch.Tensor) -> torch.Tensor:
    half = float(1 << (_FRACTION_BITS - 1))
    return ((sums + half) / float(1 << _FRACTION_BITS)).floor_().clamp_(0, 255)
