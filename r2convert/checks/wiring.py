"""The wiring check: do a network's activations match its own running statistics?

A trained checkpoint carries statistics of its own activations: every BatchNorm's running mean and variance. Run it on
some images, measure the mean and variance of each BatchNorm's input, and compare channel by channel. Where something
was miswired (a tensor swapped, a stem from elsewhere, a superfluous addition) they differ, and neither labels nor a
second implementation are needed.

Every BatchNorm normalises with the statistics just measured, not with the running ones. So an error at one layer is
normalised away at the next, each layer is judged by itself, and only the faulty layers are suspects, not all that
follow. Images unlike the training data are compensated for in the same way; at the first layer, which no BatchNorm
precedes, whatever a change of brightness, contrast or tint explains is removed.

The check is evidence, not proof; the documentation's page on verification lists what it cannot see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional

from r2convert.checks.standins import synthetic_image
from r2convert.errors import DatasetError, UnreadableImageError
from r2convert.evaluation.backends import normalise
from r2convert.evaluation.precision import computing_in
from r2convert.imagenet.listings import list_folder
from r2convert.imagenet.preprocessing import Crop, crop_function, crop_image
from r2convert.results.verdicts import Check
from r2convert.results.verification import LayerWiring, WiringResult, number

FEWEST = 16
SYNTHETIC = 32
MOST = 64

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class WiringImages:
    """Images for the wiring check.

    Args:
        crops: uint8, shape (images, 224, 224, 3).
        source: the folder they are from, or ``None`` for synthetic ones.
    """

    crops: Crop
    source: Path | None


def synthetic_images() -> WiringImages:
    """Shapes and noise, the same on every machine; unlike the photographs a network was trained on."""
    return WiringImages(np.stack([crop_image(synthetic_image(number)) for number in range(SYNTHETIC)]), None)


def images_from(folder: Path) -> WiringImages:
    """Up to 64 images of a folder and its subfolders, spread evenly, cropped as published numbers are measured.

    Raises:
        DatasetError: there is no such folder, or fewer than 16 of its files can be decoded.
    """
    if not folder.is_dir():
        raise DatasetError(
            "this is not a folder of images",
            where=str(folder),
            expected="a folder; the word after --wiring is taken for one",
            got="a file" if folder.exists() else "nothing of that name",
            next_step="put --wiring after the checkpoints, or write --wiring=FOLDER",
        )
    files = [entry.location.path for entry in list_folder(folder).entries if entry.name.lower().endswith(_SUFFIXES)]
    # Sorted, so that the same folder gives the same images everywhere.
    crops = list(_crops(sorted(files)))
    if len(crops) < FEWEST:
        raise DatasetError(
            "too few images to tell anything",
            where=str(folder),
            expected=f"{FEWEST} images or more, in the folder or one folder further down",
            got=f"{len(files)} image files, {len(crops)} of them readable",
            next_step="point --wiring at a folder of photographs, or leave its path out",
        )
    return WiringImages(np.stack(crops), folder)


def _crops(paths: Sequence[Path]) -> Iterator[Crop]:
    """Crops of those that can be decoded."""
    crop = crop_function()
    count = min(len(paths), MOST)
    for place in range(count):
        try:
            yield crop(paths[place * len(paths) // count].read_bytes())
        except (UnreadableImageError, OSError):
            continue


MEAN_SHIFT_TIMES, MEAN_SHIFT_LIMITS = 6.0, (0.25, 0.5)
LOG_VARIANCE_TIMES, LOG_VARIANCE_LIMITS = 9.0, (0.5, 2.0)
"""How many times the deviation of the network's typical layer makes a layer suspect, and the limits of that threshold:
a network that is mostly broken must not make that typical."""
LEAST_MEAN_SHIFT, MEAN_CORRELATION = 0.1, 0.6
LEAST_LOG_VARIANCE, VARIANCE_CORRELATION = 0.2, 0.3
"""A layer that deviates more than the first must keep the pattern over its channels, a correlation of at least the
second; below the first, noise hides it. All of these were set by ``scripts/wiring_false_alarms.py`` on one trained
network; on another, none of 42 folders of images makes a layer beyond the stem suspect, and eleven planted errors are
each found at the right layer."""
_STEM = ("bn1", "stem.", "base_layer.", "level0.", "level1.")


class LayerStatistics(NamedTuple):
    """Mean and variance of every channel at a BatchNorm, measured and running.

    Args:
        name: its module path.
        mean: measured, float64 of shape (channels,).
        variance: the same, with the layer's ``eps``.
        running_mean: the layer's own.
        running_variance: the same, with the layer's ``eps``.
        tint: of the layer that images reach first, what one more unit of each colour adds to the mean,
            (channels, colours).
    """

    name: str
    mean: Tensor
    variance: Tensor
    running_mean: Tensor
    running_variance: Tensor
    tint: Tensor | None = None


def measure(network: nn.Module, batches: Iterable[Tensor]) -> tuple[LayerStatistics, ...]:
    """Measured and running statistics of every BatchNorm of a network.

    Args:
        network: the network, in evaluation mode; it is left as it was.
        batches: normalised images (N, 3, H, W) on the network's device. Of each batch the network sees the
            statistics of that batch alone, so they should have 16 images or more.

    Returns:
        One value a BatchNorm, in float64 on the CPU, in the order in which they run.
    """
    meters: dict[str, _Meter] = {}
    hooks = [
        module.register_forward_hook(_Renormalise(meters, name, module))
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        with torch.inference_mode():
            for batch in batches:
                network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    statistics = [meter.statistics(name) for name, meter in meters.items()]
    if statistics:
        first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
        # Padding aside, a convolution answers a plain colour with the sum of its weights for it.
        statistics[0] = statistics[0]._replace(tint=first.weight.detach().cpu().double().sum((2, 3)))
    return tuple(statistics)


class _Meter:
    """Mean and variance of a layer's input, over all elements of a channel, added up over batches."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        assert layer.running_mean is not None  # noqa: S101 - BatchNorms here keep statistics
        assert layer.running_var is not None  # noqa: S101
        self._running_mean = layer.running_mean.cpu().double()
        self._running_variance = layer.running_var.cpu().double() + layer.eps
        self._eps = layer.eps
        self._count = 0
        self._total = torch.zeros_like(self._running_mean)
        self._squares = torch.zeros_like(self._running_mean)

    def add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        # Doubled here: not every device has float64.
        mean, variance = mean.cpu().double(), variance.cpu().double()
        self._count += count
        self._total += count * mean
        self._squares += count * (variance + mean.square())

    def statistics(self, name: str) -> LayerStatistics:
        mean = self._total / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0) + self._eps
        return LayerStatistics(name, mean, variance, self._running_mean, self._running_variance)


class _Renormalise:
    """Makes a BatchNorm normalise with the statistics of the batch, which are recorded.

    Not the same as training mode, which would overwrite the running statistics.
    """

    def __init__(self, meters: dict[str, _Meter], name: str, layer: nn.BatchNorm2d) -> None:
        self._meters = meters
        self._name = name
        self._layer = layer

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> Tensor:
        (x,) = inputs
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        if self._name not in self._meters:
            # Made when the layer first runs, so that the dictionary is in running order.
            self._meters[self._name] = _Meter(self._layer)
        self._meters[self._name].add(x.numel() // x.shape[1], mean, variance)
        return functional.batch_norm(x, mean, variance, self._layer.weight, self._layer.bias, eps=self._layer.eps)


def check_wiring(network: nn.Module, batches: Iterable[Tensor]) -> tuple[LayerWiring, ...]:
    """Compare every BatchNorm's running statistics with those of its input; see :func:`measure`."""
    return judge(map(agreement, measure(network, batches)))


def agreement(layer: LayerStatistics) -> LayerWiring:
    """How well the input of a BatchNorm fits its running statistics, over its channels."""
    if layer.tint is not None:
        layer = _as_coloured_in_training(layer, layer.tint)
    shift = (layer.mean - layer.running_mean).abs() / layer.running_variance.sqrt()
    return LayerWiring(
        layer.name,
        mean_shift=float(shift.median()),
        log_variance=float((layer.variance / layer.running_variance).log().abs().median()),
        mean_correlation=_rank_correlation(layer.mean, layer.running_mean),
        variance_correlation=_rank_correlation(layer.variance, layer.running_variance),
    )


def _as_coloured_in_training(layer: LayerStatistics, tint: Tensor) -> LayerStatistics:
    """The first layer's statistics after the change of brightness, contrast and tint that fits best."""
    deviation = layer.running_variance.sqrt()
    weighted = tint / deviation[:, None]
    off = (layer.running_mean - layer.mean) / deviation
    # Least squares by the normal equations: three unknowns, and values that are no numbers stay such.
    colour = torch.linalg.solve_ex(weighted.T @ weighted, weighted.T @ off).result
    contrast = (layer.running_variance / layer.variance).log().median().exp()
    return layer._replace(mean=layer.mean + tint @ colour, variance=layer.variance * contrast)


def _rank_correlation(measured: Tensor, running: Tensor) -> float:
    """Spearman's coefficient; 0 where the running statistics are all alike, as no training leaves them."""
    if float(running.max()) == float(running.min()):
        return 0.0
    ranks = [values.argsort().argsort().double() for values in (measured, running)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def judge(layers: Iterable[LayerWiring]) -> tuple[LayerWiring, ...]:
    """Mark the layers that disagree, each compared with the network's typical one."""
    measured = tuple(layers)
    if not measured:
        return ()
    shift_limit = _limit([number(layer.mean_shift) for layer in measured], MEAN_SHIFT_TIMES, MEAN_SHIFT_LIMITS)
    variance_limit = _limit([number(layer.log_variance) for layer in measured], LOG_VARIANCE_TIMES, LOG_VARIANCE_LIMITS)
    return tuple(replace(layer, suspect=_disagrees(layer, shift_limit, variance_limit)) for layer in measured)


def beyond_the_stem(suspects: Iterable[LayerWiring]) -> tuple[LayerWiring, ...]:
    """Those that no choice of images explains.

    Which colours images have decides what arrives at the layers before the first block, and hardly anything further
    down: every BatchNorm on the way normalises it away.
    """
    return tuple(layer for layer in suspects if not layer.name.removeprefix("backbone.").startswith(_STEM))


def _limit(values: Sequence[float], times: float, limits: tuple[float, float]) -> float:
    least, most = limits
    return min(max(times * median(values), least), most)


def _disagrees(layer: LayerWiring, shift_limit: float, variance_limit: float) -> bool:
    shift, variance = number(layer.mean_shift), number(layer.log_variance)
    return (
        # Written so that what is not a number is suspect too.
        not shift <= shift_limit
        or not variance <= variance_limit
        or (shift > LEAST_MEAN_SHIFT and number(layer.mean_correlation) < MEAN_CORRELATION)
        or (variance > LEAST_LOG_VARIANCE and number(layer.variance_correlation) < VARIANCE_CORRELATION)
    )


_BATCH = 32
_SHOWN = 4


def measure_on(network: nn.Module, images: WiringImages, device: torch.device) -> tuple[LayerStatistics, ...]:
    """Statistics of every BatchNorm of a network run on images; it is moved to the device."""
    dtype = next(network.parameters()).dtype
    with computing_in("strict", device):
        return measure(network.to(device), _batches(images, device, dtype))


def wiring_result(statistics: Iterable[LayerStatistics], images: WiringImages) -> WiringResult:
    """What was measured on images, judged."""
    source = str(images.source) if images.source else None
    return WiringResult(len(images.crops), source, judge(map(agreement, statistics)))


def wiring_check(result: WiringResult) -> Check:
    """The verdict: suspects beyond the stem fail a network; images alone can make the stem suspect.

    Synthetic images are unlike any training data, and never fail a network.
    """
    suspects, synthetic = result.suspects, result.source is None
    measured = len(result.layers) - len(suspects)
    if not suspects:
        return Check("wiring", "pass", measured=measured, note=f"{result.pictures} {'synthetic ' * synthetic}images")
    named = ", ".join(layer.name for layer in suspects[:_SHOWN])
    more = f" and {len(suspects) - _SHOWN} more" if len(suspects) > _SHOWN else ""
    note = f"the inputs of these BatchNorms do not match their running statistics, in network order: {named}{more}"
    if synthetic:
        note += "; synthetic images can cause this in a sound network: give photographs with --wiring FOLDER"
        return Check("wiring", "inconclusive", measured=measured, note=note)
    if not beyond_the_stem(suspects):
        note += "; all layers after the stem are sound: images of other colours than the training data cause this"
        return Check("wiring", "inconclusive", measured=measured, note=note)
    return Check("wiring", "fail", measured=measured, note=note)


def _batches(images: WiringImages, device: torch.device, dtype: torch.dtype) -> Iterator[Tensor]:
    # Even parts: a last batch of a few images would have statistics of its own.
    parts = max(1, len(images.crops) // _BATCH)
    for part in torch.from_numpy(images.crops).tensor_split(parts):
        yield normalise(part.to(device)).to(dtype).contiguous()
