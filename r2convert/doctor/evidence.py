"""What can be seen in a file and in the images, whatever the score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
from torch import Tensor, nn

from r2convert.checks.wiring import FEWEST, beyond_the_stem, check_wiring
from r2convert.doctor.causes import Setting
from r2convert.doctor.trials import Device
from r2convert.evaluation.precision import computing_in
from r2convert.files import counted, first_names
from r2convert.imagenet.preprocessing import Crop
from r2convert.results.diagnosis import Finding, Kind
from r2convert.results.verdicts import Check

_MANY_LOST = 0.01
"""Share of images from which on their loss is a cause of its own."""
_FEWEST_VALUES = 500
"""With fewer, an even spread can be chance."""


def bad_values(checks: Iterable[Check]) -> list[Finding]:
    """A finding about values that no training gives, such as NaN or negative variances, if there are any."""
    notes = [check.note for check in checks if (check.metric, check.verdict) == ("values", "fail")]
    change = "get the file again from its source: it was damaged before it was saved"
    return [_seen("bad-values", "values that no training gives", change, *notes)] if notes else []


def untouched_layers(network: nn.Module) -> list[Finding]:
    """A finding about layers whose values are still those with which frameworks start, if there are any.

    A BatchNorm that has seen one batch has running means other than 0 and variances other than 1. A convolution or
    linear layer of PyTorch starts with values spread evenly between -1 / sqrt(fan-in) and 1 / sqrt(fan-in), and no
    training leaves them so; OpenMMLab starts classifiers with a deviation of 0.01 and biases of 0.
    """
    names = [name.removeprefix("backbone.") for name, module in network.named_modules() if _is_untouched(module)]
    if not names:
        return []
    layers = f"{counted(len(names), 'layer')} still at {'its' if len(names) == 1 else 'their'} start"
    change = "convert the file again from its source (`r2convert map` takes every tensor or none)"
    return [_seen("untouched-layers", "layers that were never loaded", change, f"{layers}: {first_names(names)}")]


def wrong_wiring(device: Device, setting: Setting, crops: Sequence[Crop]) -> list[Finding]:
    """A finding about BatchNorms whose inputs do not match their running statistics in one setting, if there are any.

    None if it is the stem alone, which unusual images make suspect too, or with fewer than 16 images.
    """
    if sum(map(len, crops)) < FEWEST:
        return []
    batches = replace(device, batch_size=2 * FEWEST).inputs(setting, np.concatenate(crops))
    with computing_in("strict", device.device):
        layers = check_wiring(setting.network, batches)
    suspects = [layer for layer in layers if layer.suspect]
    if not beyond_the_stem(suspects):
        return []
    names = first_names([layer.name.removeprefix("backbone.") for layer in suspects])
    what = "tensors swapped, or from another network"
    change = "compare these layers with the file's source (`r2convert compare A B` names what differs)"
    if 2 * len(suspects) > len(layers):
        what = "running means and variances that are not those of the weights"
        change = "take the BatchNorms' statistics from the file's source again"
    return [
        _seen("wiring", what, change, f"inputs that do not match the running statistics, in network order: {names}")
    ]


def lost_images(lost: Sequence[str], images: int) -> list[Finding]:
    """A finding about images that are missing or cannot be read, if they are many."""
    if len(lost) <= _MANY_LOST * images:
        return []
    change = "unpack or download the images again: those that are lost count as wrong"
    seen = f"{len(lost)} of {images} images lost: {first_names(lost)}"
    return [_seen("lost-images", "images missing or unreadable", change, seen, kind="images")]


def _seen(name: str, what: str, change: str, *evidence: str, kind: Kind = "file") -> Finding:
    return Finding(name, what, change, kind, False, evidence=evidence)


def _is_untouched(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm2d):
        mean, variance = module.running_mean, module.running_var
        assert mean is not None  # noqa: S101 - BatchNorms here keep statistics
        assert variance is not None  # noqa: S101
        return bool((mean == 0).all() and (variance == 1).all())
    if isinstance(module, nn.Linear) and bool((module.bias == 0).all()):
        return abs(float(module.weight.detach().std()) / 0.01 - 1) < 0.02 or _is_evenly_spread(module.weight)
    return isinstance(module, nn.Conv2d | nn.Linear) and _is_evenly_spread(module.weight)


def _is_evenly_spread(weight: Tensor) -> bool:
    """Whether the largest value and the deviation are those of an even spread between PyTorch's bounds."""
    bound, values, weight = 1 / sqrt(weight[0].numel()), weight.numel(), weight.detach()
    if values < _FEWEST_VALUES or not 0.95 * bound < float(weight.abs().max()) <= bound * (1 + 1e-6):
        return False
    # Of so many values, the deviation is within four standard errors of bound / sqrt(3).
    return abs(float(weight.std()) * sqrt(3) / bound - 1) < 4 * sqrt(0.2 / values)
