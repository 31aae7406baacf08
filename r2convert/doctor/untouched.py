"""Layers that no training has touched: their values are still those with which frameworks start.

A BatchNorm that has seen one batch has running means other than 0 and variances other than 1. A convolution or linear
layer of PyTorch starts with values spread evenly between -1 / sqrt(fan-in) and 1 / sqrt(fan-in), and no training
leaves them so; OpenMMLab starts classifiers with a deviation of 0.01 and biases of 0.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn

_FEWEST_VALUES = 500
"""With fewer, an even spread can be chance."""
_KOLMOGOROV = 1.95
"""Times 1 / sqrt(values): an even spread is further off than this once in a thousand times."""


def untouched_layers(network: nn.Module) -> tuple[str, ...]:
    """The module paths of layers that are still as they start, in network order."""
    return tuple(name for name, module in network.named_modules() if _is_untouched(module))


def _is_untouched(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm2d):
        mean, variance = module.running_mean, module.running_var
        assert mean is not None  # noqa: S101 - BatchNorms here keep statistics
        assert variance is not None  # noqa: S101
        return bool((mean == 0).all() and (variance == 1).all())
    if isinstance(module, nn.Linear) and _starts_like_openmmlab(module):
        return True
    return isinstance(module, nn.Conv2d | nn.Linear) and _is_evenly_spread(module.weight)


def _starts_like_openmmlab(layer: nn.Linear) -> bool:
    return bool((layer.bias == 0).all()) and abs(float(layer.weight.detach().std()) / 0.01 - 1) < 0.02


def _is_evenly_spread(weight: Tensor) -> bool:
    """Kolmogorov's test of an even spread over the interval in which PyTorch starts."""
    bound = 1 / sqrt(weight[0].numel())
    weight = weight.detach()
    largest = float(weight.abs().max())
    # Nearly every trained weight ends here; sorting millions of values is for the few that do not.
    if weight.numel() < _FEWEST_VALUES or not 0.95 * bound < largest <= bound * (1 + 1e-6):
        return False
    values = np.sort(weight.cpu().to(torch.float64).numpy(), axis=None)
    expected = (values + bound) / (2 * bound)
    steps = np.arange(1, len(values) + 1) / len(values)
    distance = float(max(np.abs(expected - steps).max(), np.abs(expected - steps + 1 / len(values)).max()))
    return distance < _KOLMOGOROV / sqrt(len(values))
