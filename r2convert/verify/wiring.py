"""The wiring check: does a network still see what its own BatchNorms remember?

A trained checkpoint carries statistics of its own activations: every BatchNorm's running mean and variance. Run
some images, measure mean and variance of what really arrives at each BatchNorm, and compare channel by channel.
Where a wire was crossed (a tensor swapped, a stem from elsewhere, an addition too many) the agreement breaks down
at that very layer, and no label and no second implementation is needed.

Images that differ from the training data shift all channels of a layer alike, and later layers more than earlier
ones; a crossed wire takes away the *pattern* over the channels. So each layer is judged by two things: how far the
statistics are off (in units of the layer's own spread), and how well the pattern over channels agrees, against the
layers before it. The check is evidence, not proof: it cannot see a pool's padding, a scale of 1 %, or anything else
that changes statistics less than the choice of images does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MEAN_SHIFT_LIMIT = 0.5
LOG_VARIANCE_LIMIT = 1.0
CORRELATION_LIMIT = 0.6
JUMP = 3.0
"""By how many times a layer must be further off than the worst sound layer before it."""
_FLOOR = 0.1
"""Deviations below this are noise of a few dozen images, and no base for a jump."""


@dataclass(frozen=True, slots=True)
class LayerWiring:
    """How well one BatchNorm's memory fits what arrives at it.

    Args:
        name: its module path.
        mean_shift: median over channels of |mean - running mean| / running standard deviation.
        log_variance: median over channels of |log(variance / running variance)|.
        correlation: rank correlation over channels of mean with running mean and of variance with running
            variance, the smaller of the two; 1 where the running statistics do not vary.
        suspect: whether agreement breaks down here.
    """

    name: str
    mean_shift: float
    log_variance: float
    correlation: float
    suspect: bool


def check_wiring(network: nn.Module, batches: Iterable[Tensor]) -> tuple[LayerWiring, ...]:
    """Compare every BatchNorm's running statistics with what arrives at it.

    Args:
        network: the network, in evaluation mode.
        batches: normalised images (N, 3, H, W) on the network's device; 32 pictures are enough, more are sharper.

    Returns:
        One value a BatchNorm, in the order in which they run.
    """
    moments: dict[str, _Moments] = {}
    layers: dict[str, nn.BatchNorm2d] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            layers[name] = module
            hooks.append(module.register_forward_pre_hook(_recorder(moments, name)))
    try:
        with torch.inference_mode():
            for batch in batches:
                network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return _judge([_agreement(name, layers[name], found) for name, found in moments.items()])


class _Moments:
    """Mean and variance over all elements of a channel, added up over batches in float64."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        values = x.detach().to(torch.float64)
        self.count += values.numel() // values.shape[1]
        self.total += values.sum(dim=(0, 2, 3)).cpu()
        self.squares += values.square().sum(dim=(0, 2, 3)).cpu()

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def variance(self) -> Tensor:
        return (self.squares / self.count - self.mean.square()).clamp_min(0)


class _Recorder:
    def __init__(self, moments: dict[str, _Moments], name: str) -> None:
        self._moments = moments
        self._name = name

    def __call__(self, module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        # Made when the layer first runs, so that the dictionary is in running order.
        self._moments.setdefault(self._name, _Moments(module.num_features)).add(inputs[0])


def _recorder(moments: dict[str, _Moments], name: str) -> _Recorder:
    return _Recorder(moments, name)


@dataclass(frozen=True, slots=True)
class _Agreement:
    name: str
    mean_shift: float
    log_variance: float
    correlation: float


def _agreement(name: str, layer: nn.BatchNorm2d, found: _Moments) -> _Agreement:
    assert layer.running_mean is not None  # noqa: S101 - BatchNorms here keep statistics
    assert layer.running_var is not None  # noqa: S101
    running_mean = layer.running_mean.to(torch.float64).cpu()
    running_variance = layer.running_var.to(torch.float64).cpu() + layer.eps
    variance = found.variance + layer.eps
    shift = (found.mean - running_mean).abs() / running_variance.sqrt()
    ratio = (variance / running_variance).log().abs()
    correlation = min(
        _rank_correlation(found.mean, running_mean), _rank_correlation(variance, running_variance)
    )
    return _Agreement(name, float(shift.median()), float(ratio.median()), correlation)


def _rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's coefficient; 1 where one of the two is constant, for then there is no pattern to lose."""
    ranks = [values.argsort().argsort().to(torch.float64) for values in (one, other)]
    if one.numel() < 3 or float(one.std()) == 0 or float(other.std()) == 0:
        return 1.0
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def _judge(layers: list[_Agreement]) -> tuple[LayerWiring, ...]:
    """Mark the layers whose agreement breaks down, each held against the sound ones before it."""
    results = []
    worst_shift = worst_variance = _FLOOR
    best_correlation = 1.0
    for layer in layers:
        suspect = (
            layer.mean_shift > max(MEAN_SHIFT_LIMIT, JUMP * worst_shift)
            or layer.log_variance > max(LOG_VARIANCE_LIMIT, JUMP * worst_variance)
            or layer.correlation < min(CORRELATION_LIMIT, best_correlation / 2)
        )
        if not suspect:
            worst_shift = max(worst_shift, layer.mean_shift)
            worst_variance = max(worst_variance, layer.log_variance)
            best_correlation = min(best_correlation, layer.correlation)
        results.append(
            LayerWiring(layer.name, layer.mean_shift, layer.log_variance, layer.correlation, suspect)
        )
    return tuple(results)
