"""What can be seen in a file and in the images, whatever the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
from torch import Tensor, nn

from r2convert.checks.wiring import FEWEST, beyond_the_stem, check_wiring
from r2convert.doctor.settings import Setting
from r2convert.doctor.trials import Device
from r2convert.evaluation.precision import computing_in
from r2convert.imagenet.preprocessing import Crop
from r2convert.imagenet.validation_set import name_some
from r2convert.results.diagnosis import Finding

_MANY_LOST = 0.01
"""Share of images from which on their loss is a cause of its own."""
_FEWEST_VALUES = 500
"""With fewer, an even spread can be chance."""
_KOLMOGOROV = 1.95
"""Times 1 / sqrt(values): an even spread is further off than this once in a thousand times."""


def bad_values(notes: Sequence[str]) -> list[Finding]:
    """A finding about values that no training gives, such as NaN or negative variances, if there are any."""
    change = "get the file again from its source: it was damaged before it was saved"
    what = "values that no training gives"
    return [Finding("bad-values", what, change, "file", True, evidence=tuple(notes))] if notes else []


def untouched_layers(network: nn.Module) -> list[Finding]:
    """A finding about layers whose values are still those with which frameworks start, if there are any.

    A BatchNorm that has seen one batch has running means other than 0 and variances other than 1. A convolution or
    linear layer of PyTorch starts with values spread evenly between -1 / sqrt(fan-in) and 1 / sqrt(fan-in), and no
    training leaves them so; OpenMMLab starts classifiers with a deviation of 0.01 and biases of 0.
    """
    names = [name.removeprefix("backbone.") for name, module in network.named_modules() if _is_untouched(module)]
    if not names:
        return []
    layers = "1 layer still at its start" if len(names) == 1 else f"{len(names)} layers still at their start"
    change = "convert the file again from its source (`r2convert map` takes every tensor or none)"
    seen = (f"{layers}: {name_some(names)}",)
    return [Finding("untouched-layers", "layers that were never loaded", change, "file", True, evidence=seen)]


def wrong_wiring(device: Device, setting: Setting, crops: Sequence[Crop]) -> list[Finding]:
    """A finding about BatchNorms at which arrives what they do not remember, in one setting, if there are any.

    None if it is the stem alone, which unusual images put out of line too, or with fewer than 16 images.
    """
    if sum(map(len, crops)) < FEWEST:
        return []
    batches = replace(device, batch_size=2 * FEWEST).inputs(setting, np.concatenate(crops))
    with computing_in("strict", device.device):
        layers = check_wiring(setting.network, batches)
    suspects = [layer for layer in layers if layer.suspect]
    if not beyond_the_stem(suspects):
        return []
    names = [layer.name.removeprefix("backbone.") for layer in suspects]
    seen = (f"what arrives is not what these BatchNorms remember, in network order: {name_some(names)}",)
    if 2 * len(suspects) > len(layers):
        what = "running means and variances that are not those of the weights"
        change = "take the BatchNorms' statistics from the file's source again"
    else:
        what = "tensors swapped, or from another network"
        change = "compare these layers with the file's source (`r2convert compare A B` names what differs)"
    return [Finding("wiring", what, change, "file", True, evidence=seen)]


def lost_images(lost: Sequence[str], images: int) -> list[Finding]:
    """A finding about images that are missing or cannot be read, if they are many."""
    if len(lost) <= _MANY_LOST * images:
        return []
    change = "unpack or download the images again: those that are lost count as wrong"
    seen = (f"{len(lost)} of {images} images lost: {name_some(lost)}",)
    return [Finding("lost-images", "images missing or unreadable", change, "images", True, evidence=seen)]


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
    """Kolmogorov's test of an even spread over the interval in which PyTorch starts."""
    bound = 1 / sqrt(weight[0].numel())
    weight = weight.detach()
    largest = float(weight.abs().max())
    # Nearly every trained weight ends here; sorting millions of values is for the few that do not.
    if weight.numel() < _FEWEST_VALUES or not 0.95 * bound < largest <= bound * (1 + 1e-6):
        return False
    values = np.sort(weight.cpu().double().numpy(), axis=None)
    expected = (values + bound) / (2 * bound)
    steps = np.arange(len(values) + 1) / len(values)
    distance = float(max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max()))
    return distance < _KOLMOGOROV / sqrt(len(values))
