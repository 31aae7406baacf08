"""The wiring check: does a network still see what its own BatchNorms remember?

A trained checkpoint carries statistics of its own activations: every BatchNorm's running mean and variance. Show it
some images, measure the mean and variance of what really arrives at each BatchNorm, and compare channel by channel.
Where a wire was crossed (a tensor swapped, a stem from elsewhere, an addition too many) they part, and no label and
no second implementation is needed.

Every BatchNorm normalises with what was just measured, not with what it remembers. So what goes wrong at one layer is
put right at the next, each layer is judged by itself, and the suspects are the places of the error, not all that
comes after it. Images unlike the training data are put right the same way: they show at the first layers only.

The check is evidence, not proof; ``docs/explanation/verification.md`` lists what it cannot see.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

TIMES_TYPICAL = 6.0
"""How many times further off than the network's typical layer one has to be."""
MEAN_SHIFT_LIMITS = (0.25, 0.5)
LOG_VARIANCE_LIMITS = (0.5, 1.0)
"""The least and the most that ``TIMES_TYPICAL`` may come to: a sound layer stays below the first with 32 ImageNet
pictures (0.10 and 0.28 were measured), and a network of which most is broken must not make that typical."""
CORRELATION_LIMIT = 0.6
LEAST_MEAN_SHIFT = 0.1
LEAST_LOG_VARIANCE = 0.2
"""Nearer than this, a pattern over the channels is hidden by noise, and its loss says nothing."""


@dataclass(frozen=True, slots=True)
class LayerWiring:
    """How well what arrives at one BatchNorm fits what it remembers.

    Args:
        name: its module path.
        mean_shift: median over channels of |mean - running mean| / running standard deviation.
        log_variance: median over channels of |log(variance / running variance)|.
        mean_correlation: rank correlation over channels of mean with running mean.
        variance_correlation: the same of the variances.
        suspect: whether the two disagree.
    """

    name: str
    mean_shift: float
    log_variance: float
    mean_correlation: float
    variance_correlation: float
    suspect: bool = False


def check_wiring(network: nn.Module, batches: Iterable[Tensor]) -> tuple[LayerWiring, ...]:
    """Compare every BatchNorm's running statistics with what arrives at it.

    Args:
        network: the network, in evaluation mode; it is left as it was.
        batches: normalised images (N, 3, H, W) on the network's device. Of each batch the network sees the
            statistics of that batch alone, so they should have 16 images or more.

    Returns:
        One value a BatchNorm, in the order in which they run.
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
    return _judge([meter.agreement(name) for name, meter in meters.items()])


class _Meter:
    """Mean and variance of what arrives at a layer, over all elements of a channel, added up over batches."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        assert layer.running_mean is not None  # noqa: S101 - BatchNorms here keep statistics
        assert layer.running_var is not None  # noqa: S101
        self._running_mean = layer.running_mean.double().cpu()
        self._running_variance = layer.running_var.double().cpu() + layer.eps
        self._eps = layer.eps
        self._count = 0
        self._total = torch.zeros_like(self._running_mean)
        self._squares = torch.zeros_like(self._running_mean)

    def add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        mean, variance = mean.double().cpu(), variance.double().cpu()
        self._count += count
        self._total += count * mean
        self._squares += count * (variance + mean.square())

    def agreement(self, name: str) -> LayerWiring:
        mean = self._total / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0) + self._eps
        shift = (mean - self._running_mean).abs() / self._running_variance.sqrt()
        return LayerWiring(
            name,
            mean_shift=float(shift.median()),
            log_variance=float((variance / self._running_variance).log().abs().median()),
            mean_correlation=_rank_correlation(mean, self._running_mean),
            variance_correlation=_rank_correlation(variance, self._running_variance),
        )


class _Renormalise:
    """Has a BatchNorm normalise with the statistics of the batch, which are noted down.

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


def _rank_correlation(measured: Tensor, running: Tensor) -> float:
    """Spearman's coefficient; 0 where the running statistics are all alike, as no training leaves them."""
    if float(running.max()) == float(running.min()):
        return 0.0
    ranks = [values.argsort().argsort().double() for values in (measured, running)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def _judge(layers: Sequence[LayerWiring]) -> tuple[LayerWiring, ...]:
    """Mark the layers that disagree, each held against the network's typical one."""
    if not layers:
        return ()
    shift_limit = _limit([layer.mean_shift for layer in layers], MEAN_SHIFT_LIMITS)
    variance_limit = _limit([layer.log_variance for layer in layers], LOG_VARIANCE_LIMITS)
    return tuple(_judged(layer, shift_limit, variance_limit) for layer in layers)


def _limit(values: Sequence[float], limits: tuple[float, float]) -> float:
    least, most = limits
    return min(max(TIMES_TYPICAL * median(values), least), most)


def _judged(layer: LayerWiring, shift_limit: float, variance_limit: float) -> LayerWiring:
    suspect = (
        # Written so that what is not a number is suspect too.
        not layer.mean_shift <= shift_limit
        or not layer.log_variance <= variance_limit
        or (layer.mean_shift > LEAST_MEAN_SHIFT and layer.mean_correlation < CORRELATION_LIMIT)
        or (layer.log_variance > LEAST_LOG_VARIANCE and layer.variance_correlation < CORRELATION_LIMIT)
    )
    return LayerWiring(
        layer.name,
        layer.mean_shift,
        layer.log_variance,
        layer.mean_correlation,
        layer.variance_correlation,
        suspect,
    )
