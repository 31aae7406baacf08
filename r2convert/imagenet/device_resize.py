"""Pillow's resizing and cropping on a torch device, bit for bit, so that the processor only has to decode.

Pillow resamples 8-bit pictures in integers: weights are computed in double precision, rounded to 22-bit fixed point,
and each of the two passes, width first, adds a half, shifts and clips to a byte. Here the weights, a few an output, are
computed on the processor and kept by size; the device gathers pixels, multiplies and adds in int32, for all images of
a batch at once. All sums stay below 2**31, and integers add up to the same in whatever order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from r2convert.catalog.protocol import Interpolation, Protocol
from r2convert.imagenet.preprocessing import STANDARD, SUPPORT, Crop, Pixels, crop_corner, crop_pixels, resized_size

SOURCE_SIDE = 512
"""Pixels of an image that the device is handed, each way; what needs more of them is resized on the processor."""

_FRACTION_BITS = 22
_IMAGES_AT_ONCE = 128
_PROBED_SIZES = ((500, 375), (375, 500), (256, 256), (300, 200), (224, 600), (580, 575))


@dataclass(frozen=True, slots=True)
class Pass:
    """Pillow's weights for the outputs of one pass that the crop shows.

    Args:
        needed: the source pixels they are computed from.
        starts: int64, shape (crop,): for each output the first of its source pixels, counted from the first needed.
        weights: int32, shape (crop, taps): of that source pixel and those after it, in units of 2**-22.
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
    """How one image becomes its crop: the pass over its width, then that over its height."""

    across: Pass
    down: Pass


class SourceReader:
    """Puts into a buffer what a device needs of an image; any number of threads may use it at once.

    Args:
        protocol: how crops are made.
        kept_passes: how many sizes to keep weights of, some ten kilobytes each.
    """

    def __init__(self, protocol: Protocol = STANDARD, kept_passes: int = 10_000) -> None:
        self._protocol = protocol
        self._kept_passes = kept_passes
        self._passes: dict[tuple[int, int, int], Pass] = {}
        self.side = max(SOURCE_SIDE, protocol.crop)

    def put(self, pixels: Pixels, target: Pixels) -> Geometry:
        """Puts the needed pixels of an image into a buffer.

        Args:
            pixels: uint8, shape (height, width, 3).
            target: uint8, shape (side, side, 3); the rest of it is left as it is.

        Returns:
            How to make its crop from the buffer.

        Raises:
            UnreadableImageError: the image is absurdly long and thin.
        """
        height, width = pixels.shape[:2]
        new_width, new_height = resized_size(width, height, self._protocol.resize)
        left, top = crop_corner(new_width, new_height, self._protocol.crop)
        across, down = self._pass(width, new_width, left), self._pass(height, new_height, top)
        if across.size > self.side or down.size > self.side:
            return self.put_crop(crop_pixels(pixels, self._protocol), target)
        target[: down.size, : across.size] = pixels[down.needed, across.needed]
        return Geometry(across, down)

    def put_crop(self, crop: Crop, target: Pixels) -> Geometry:
        """Puts a crop that is ready into a buffer; nothing is left to resize."""
        side = self._protocol.crop
        target[:side, :side] = crop
        return self.unchanged()

    def unchanged(self) -> Geometry:
        """How a crop that is ready becomes one."""
        same = self._pass(self._protocol.crop, self._protocol.crop, 0)
        return Geometry(same, same)

    def _pass(self, size: int, new_size: int, first: int) -> Pass:
        key = size, new_size, first
        found = self._passes.get(key)
        if found is None:
            found = resampling_pass(size, new_size, first, self._protocol.crop, self._protocol.interpolation)
            if len(self._passes) >= self._kept_passes:
                self._passes.clear()
            self._passes[key] = found
        return found


def resample(sources: torch.Tensor, geometries: Sequence[Geometry], side: int = STANDARD.crop) -> torch.Tensor:
    """Makes crops from what :class:`SourceReader` has put into a buffer.

    Args:
        sources: uint8, shape (at least as many as there are geometries, height, width, 3), on any device.
        geometries: of the first so many.
        side: pixels of a crop.

    Returns:
        uint8, shape (geometries, side, side, 3), on the device: what
        :func:`~r2convert.imagenet.preprocessing.crop_pixels` gives.
    """
    crops = torch.empty((len(geometries), side, side, 3), dtype=torch.uint8, device=sources.device)
    start, at_once = 0, _IMAGES_AT_ONCE
    while start < len(geometries):
        some = geometries[start : start + at_once]
        try:
            crops[start : start + len(some)] = _resample_some(sources[start : start + len(some)], some)
        except RuntimeError as error:
            if at_once == 1 or not is_out_of_memory(error):
                raise
            at_once //= 2
            continue
        start += len(some)
    return crops


def _resample_some(sources: torch.Tensor, geometries: Sequence[Geometry]) -> torch.Tensor:
    rows = max(geometry.down.size for geometry in geometries)
    narrow = _resample_axis(sources[:, :rows], [each.across for each in geometries], axis=2)
    return _resample_axis(narrow, [each.down for each in geometries], axis=1)


def resamples_exactly(device: torch.device, protocol: Protocol = STANDARD) -> bool:
    """Whether images of several sizes become Pillow's crops on a device, to the last bit."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (height, width, 3), np.uint8) for width, height in _PROBED_SIZES]
    reader = SourceReader(protocol)
    sources = np.zeros((len(images), reader.side, reader.side, 3), np.uint8)
    geometries = [reader.put(pixels, source) for pixels, source in zip(images, sources, strict=True)]
    try:
        crops = resample(torch.from_numpy(sources).to(device), geometries, protocol.crop).cpu().numpy()
    except (RuntimeError, TypeError):
        # A device without one of the integer operations.
        return False
    return np.array_equal(crops, np.stack([crop_pixels(pixels, protocol) for pixels in images]))


def resampling_pass(
    size: int,
    new_size: int,
    first: int,
    count: int = STANDARD.crop,
    interpolation: Interpolation = "bilinear",
) -> Pass:
    """Pillow's weights for neighbouring outputs of one pass.

    A pass whose size does not change gets the weight 1 for each pixel, which is the same as leaving it out.

    Args:
        size: pixels of the source.
        new_size: pixels it is resized to.
        first: the first output wanted.
        count: how many outputs are wanted.
        interpolation: the filter.
    """
    scale = size / new_size
    reach = max(scale, 1.0)
    support = SUPPORT[interpolation] * reach
    centers = (np.arange(first, first + count) + 0.5) * scale
    starts = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    ends = np.minimum((centers + support + 0.5).astype(np.int64), size)
    places = starts[:, None] + np.arange((ends - starts).max())
    taps = _WEIGHTS[interpolation]((places - centers[:, None] + 0.5) * (1.0 / reach))
    taps[places >= ends[:, None]] = 0.0
    # A running sum from left to right, as Pillow has it: a pairwise one would round differently.
    totals = np.cumsum(taps, axis=1)[:, -1:]
    fixed = taps / totals * (1 << _FRACTION_BITS)
    weights = np.trunc(fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int32)
    return Pass(slice(int(starts[0]), int(ends[-1])), starts - starts[0], weights)


def _triangle(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pillow's ``bilinear_filter``."""
    return np.maximum(0.0, 1.0 - np.abs(distance))


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pillow's ``bicubic_filter``, Keys' kernel with a = -0.5, in its order of operations."""
    x, a = np.abs(distance), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_WEIGHTS = {"bilinear": _triangle, "bicubic": _cubic}


def _resample_axis(pixels: torch.Tensor, passes: Sequence[Pass], axis: int) -> torch.Tensor:
    """One pass over all images: axis 1 is their height, axis 2 their width."""
    taps = max(each.weights.shape[1] for each in passes)
    side = len(passes[0].starts)
    weights = np.zeros((taps, len(passes), side), np.int32)
    for row, each in enumerate(passes):
        weights[: each.weights.shape[1], row] = each.weights.T
    # Beyond the last source pixel of an output the weight is 0, whatever lies there.
    places = np.stack([each.starts for each in passes]) + np.arange(taps)[:, None, None]
    places = np.minimum(places, pixels.shape[axis] - 1)
    shape = [len(passes), 1, 1, 1]
    shape[axis] = side
    result_shape = list(pixels.shape)
    result_shape[axis] = side
    sums = torch.full(result_shape, 1 << (_FRACTION_BITS - 1), dtype=torch.int32, device=pixels.device)
    each_tap = zip(*(on_device(torch.from_numpy(each), pixels.device) for each in (places, weights)), strict=True)
    # Two kernels a tap: launching them takes the interpreter's lock, which the decode threads are after as well.
    for place, weight in each_tap:
        sums.addcmul_(pixels.gather(axis, place.reshape(shape).expand(result_shape)), weight.reshape(shape))
    return sums.bitwise_right_shift_(_FRACTION_BITS).clamp_(0, 255).to(torch.uint8)


def on_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values from the processor, for whatever is called next on the current stream.

    A plain copy to a GPU waits until that stream has done everything it was given before: the networks' whole batch.
    From pinned memory it takes its turn there, and nobody waits.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


# What torch says of MPS, of cuDNN and cuBLAS, of a convolution whose every algorithm lacks room for its workspace, and
# of the processor's own allocator.
_OUT_OF_MEMORY = ("out of memory", "_STATUS_ALLOC_FAILED", "unable to find an engine", "DefaultCPUAllocator")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device has run out of memory; not every one has an exception of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)
