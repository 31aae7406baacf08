"""Pillow's resizing and cropping on a torch device, bit for bit, so that the processor only has to decode.

Pillow resamples 8-bit pictures in integers: weights are computed in double precision, rounded to 22-bit fixed point,
and each of the two passes, width first, adds a half, shifts and clips to a byte. Here the weights, a few an output, are
computed on the processor and kept by size; the device gathers pixels, multiplies and adds in int32, for all pictures
of a batch at once. All sums stay below 2**31, and integers add up to the same in whatever order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from r2convert.imagenet.preprocessing import CROP_SIDE, Crop, Pixels, crop_corner, crop_pixels, resized_size

SOURCE_SIDE = 512
"""Pixels of a picture that the device is handed, each way; what needs more of them is resized on the processor."""

_FRACTION_BITS = 22
_PICTURES_AT_ONCE = 32
_PROBED_SIZES = ((500, 375), (375, 500), (256, 256), (300, 200), (224, 600), (580, 575))


@dataclass(frozen=True, slots=True)
class Pass:
    """Pillow's weights for the 224 outputs of one pass that the crop shows.

    Args:
        needed: the source pixels they are computed from.
        starts: int64, shape (224,): for each output the first of its source pixels, counted from the first needed.
        weights: int32, shape (224, taps): of that source pixel and those after it, in units of 2**-22.
    """

    needed: slice
    starts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int32]

    @property
    def size(self) -> int:
        """How many source pixels are needed."""
        return int(self.needed.stop - self.needed.start)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How one picture becomes its crop: the pass over its width, then that over its height."""

    across: Pass
    down: Pass


class SourceReader:
    """Puts into a buffer what a device needs of a picture; any number of threads may use it at once.

    Args:
        kept_passes: how many sizes to keep weights of, some ten kilobytes each.
    """

    def __init__(self, kept_passes: int = 10_000) -> None:
        self._kept_passes = kept_passes
        self._passes: dict[tuple[int, int, int], Pass] = {}

    def put(self, pixels: Pixels, target: Pixels) -> Geometry:
        """Puts the needed pixels of a picture into a buffer.

        Args:
            pixels: uint8, shape (height, width, 3).
            target: uint8, shape (512, 512, 3); the rest of it is left as it is.

        Returns:
            How to make its crop from the buffer.

        Raises:
            UnreadableImageError: the image is absurdly long and thin.
        """
        height, width = pixels.shape[:2]
        new_width, new_height = resized_size(width, height)
        left, top = crop_corner(new_width, new_height)
        across, down = self._pass(width, new_width, left), self._pass(height, new_height, top)
        if across.size > SOURCE_SIDE or down.size > SOURCE_SIDE:
            return self.put_crop(crop_pixels(pixels), target)
        target[: down.size, : across.size] = pixels[down.needed, across.needed]
        return Geometry(across, down)

    def put_crop(self, crop: Crop, target: Pixels) -> Geometry:
        """Puts a crop that is ready into a buffer; nothing is left to resize."""
        target[:CROP_SIDE, :CROP_SIDE] = crop
        same = self._pass(CROP_SIDE, CROP_SIDE, 0)
        return Geometry(same, same)

    def _pass(self, size: int, new_size: int, first: int) -> Pass:
        key = size, new_size, first
        found = self._passes.get(key)
        if found is None:
            found = resampling_pass(size, new_size, first)
            if len(self._passes) >= self._kept_passes:
                self._passes.clear()
            self._passes[key] = found
        return found


def resample(sources: torch.Tensor, geometries: Sequence[Geometry]) -> torch.Tensor:
    """Makes crops from what :class:`SourceReader` has put into a buffer.

    Args:
        sources: uint8, shape (at least as many as there are geometries, 512, 512, 3), on any device.
        geometries: of the first so many.

    Returns:
        uint8, shape (geometries, 224, 224, 3), on the device: what
        :func:`~r2convert.imagenet.pipeline.crop_pixels` gives.
    """
    crops = [torch.empty((0, CROP_SIDE, CROP_SIDE, 3), dtype=torch.uint8, device=sources.device)]
    for start in range(0, len(geometries), _PICTURES_AT_ONCE):
        some = geometries[start : start + _PICTURES_AT_ONCE]
        rows = max(geometry.down.size for geometry in some)
        narrow = _resample_axis(sources[start : start + len(some), :rows], [each.across for each in some], axis=2)
        crops.append(_resample_axis(narrow, [each.down for each in some], axis=1))
    return torch.cat(crops)


def resamples_exactly(device: torch.device) -> bool:
    """Whether pictures of several sizes become Pillow's crops on a device, to the last bit."""
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (height, width, 3), np.uint8) for width, height in _PROBED_SIZES]
    sources = np.zeros((len(pictures), SOURCE_SIDE, SOURCE_SIDE, 3), np.uint8)
    reader = SourceReader()
    geometries = [reader.put(pixels, source) for pixels, source in zip(pictures, sources, strict=True)]
    try:
        crops = resample(torch.from_numpy(sources).to(device), geometries).cpu().numpy()
    except (RuntimeError, TypeError):
        # A device without one of the integer operations.
        return False
    return np.array_equal(crops, np.stack([crop_pixels(pixels) for pixels in pictures]))


def resampling_pass(size: int, new_size: int, first: int) -> Pass:
    """Pillow's bilinear weights for 224 neighbouring outputs of one pass.

    A pass whose size does not change gets the weight 1 for each pixel, as if it were left out.

    Args:
        size: pixels of the source.
        new_size: pixels it is resized to.
        first: the first output wanted.
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
    weights = np.floor(0.5 + taps / totals * (1 << _FRACTION_BITS)).astype(np.int32)
    return Pass(slice(int(starts[0]), int(ends[-1])), starts - starts[0], weights)


def _resample_axis(pixels: torch.Tensor, passes: Sequence[Pass], axis: int) -> torch.Tensor:
    """One pass over all pictures: axis 1 is their height, axis 2 their width."""
    taps = max(each.weights.shape[1] for each in passes)
    weights = np.zeros((taps, len(passes), CROP_SIDE), np.int32)
    for row, each in enumerate(passes):
        weights[: each.weights.shape[1], row] = each.weights.T
    shape = [len(passes), 1, 1, 1]
    shape[axis] = CROP_SIDE
    result_shape = list(pixels.shape)
    result_shape[axis] = CROP_SIDE
    starts = on_device(torch.from_numpy(np.stack([each.starts for each in passes])), pixels.device).reshape(shape)
    sums = torch.full(result_shape, 1 << (_FRACTION_BITS - 1), dtype=torch.int32, device=pixels.device)
    for tap, weight in enumerate(on_device(torch.from_numpy(weights), pixels.device)):
        # Beyond the last source pixel of an output the weight is 0, whatever lies there.
        places = (starts + tap).clamp_(max=pixels.shape[axis] - 1).expand(result_shape)
        sums.addcmul_(pixels.gather(axis, places).to(torch.int32), weight.reshape(shape))
    return sums.bitwise_right_shift_(_FRACTION_BITS).clamp_(0, 255).to(torch.uint8)


def on_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values from the processor, for whatever is called next on the current stream.

    A plain copy to a GPU waits until that stream has done everything it was given before: the networks' whole batch.
    From pinned memory it takes its turn there, and nobody waits.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
