"""One way of measuring an accuracy, done: crops, inputs, networks and labels. A cause changes one of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from msgspec import structs
from PIL import Image
from torch import nn
from torch.nn import functional

from r2convert.catalog.protocol import Protocol
from r2convert.catalog.variant import Variant
from r2convert.imagenet.labels import devkit_order, validation_labels
from r2convert.imagenet.preprocessing import (
    FILTERS,
    STANDARD,
    Crop,
    Pixels,
    crop_corner,
    crop_pixels,
    opencv_crop_pixels,
    resized_size,
)
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.models.blocks import Classifier
from r2convert.models.build import build_network

Resize = Literal["as published", "not antialiased", "nearest", "squashed"]
LabelOrder = Literal[
    "as given", "plus one", "minus one", "into devkit", "out of devkit", "into digits", "out of digits", "one class",
    "by file name",
]  # fmt: skip

IMAGENET_ORDERS: tuple[LabelOrder, ...] = ("into devkit", "out of devkit", "by file name")
"""Those that speak of ImageNet's 1,000 classes."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of measuring an accuracy.

    Args:
        protocol: how images are prepared.
        network: what they are shown to.
        resize: what departs from the protocol.
        bgr: whether the channels come in the order blue, green, red.
        labels: in which order the classes are counted.
    """

    protocol: Protocol
    network: Classifier
    resize: Resize = "as published"
    bgr: bool = False
    labels: LabelOrder = "as given"

    @property
    def shown(self) -> Setting:
        """The part that decides the predictions; labels only decide which of them are right."""
        return replace(self, labels="as given")

    @property
    def cropped(self) -> tuple[Resize, Protocol]:
        """The part that decides the pixels of the crops."""
        return self.resize, structs.replace(self.protocol, mean=STANDARD.mean, std=STANDARD.std)


def crop_maker(resize: Resize, protocol: Protocol) -> Callable[[Pixels], Crop]:
    """A function from decoded pixels to a crop.

    Raises:
        UsageError: it needs OpenCV, which is not installed.
    """
    if resize in ("not antialiased", "nearest"):
        mode = "nearest-exact" if resize == "nearest" else protocol.interpolation
        return lambda pixels: _crop_not_antialiased(pixels, protocol, mode)
    if resize == "squashed":
        size = (protocol.crop, protocol.crop)
        return lambda pixels: np.asarray(Image.fromarray(pixels).resize(size, FILTERS[protocol.interpolation]))
    if protocol.pipeline == "opencv":
        return opencv_crop_pixels(protocol)
    return lambda pixels: crop_pixels(pixels, protocol)


def _crop_not_antialiased(pixels: Pixels, protocol: Protocol, mode: str) -> Crop:
    """Between the nearest source pixels, however far the image shrinks: torch's default on tensors."""
    width, height = resized_size(pixels.shape[1], pixels.shape[0], protocol.resize)
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(torch.float32)
    resized = functional.interpolate(planes, (height, width), mode=mode)
    whole = resized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    left, top = crop_corner(width, height, protocol.crop)
    return np.ascontiguousarray(whole[top : top + protocol.crop, left : left + protocol.crop])


def relabelled(order: LabelOrder, images: Sequence[ValidationImage], classes: int) -> npt.NDArray[np.int64]:
    """The labels of images if classes are counted in another order; what is no class any more is right nowhere.

    Args:
        order: which.
        images: as the data set labels them.
        classes: how many there are.
    """
    labels = np.array([image.label for image in images], np.int64)
    if order == "as given":
        return labels
    if order in ("plus one", "minus one"):
        return labels + (1 if order == "plus one" else -1)
    if order == "one class":
        # What a reader of class folders makes of a folder without any: all that is there is class 0.
        return np.zeros_like(labels)
    if order == "by file name":
        official = validation_labels()
        return np.array([each.label if each.number is None else official[each.number - 1] for each in images])
    # Position -> the class that stands there; turned round: class -> position. File systems sort 0, 1, 10, 100, ...
    standing = np.array(devkit_order() if order.endswith("devkit") else sorted(range(classes), key=str))
    return (standing if order.startswith("out of") else np.argsort(standing))[labels]


def rebuilt(network: Classifier, variant: Variant) -> Classifier:
    """Another network with the weights of this one, which it shares: names and shapes have to be the same."""
    with torch.device("meta"):
        other = build_network(variant, classes=network.head.fc.out_features)
    other.load_state_dict(network.state_dict(), assign=True)
    return other.eval()


def with_batch_statistics(network: Classifier, variant: Variant) -> Classifier:
    """Training mode's normalisation, without its update of the running statistics."""
    changed = rebuilt(network, variant)
    for module in changed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.training, module.track_running_stats = True, False
    return changed


def with_random_stem(network: Classifier, variant: Variant) -> Classifier:
    """The first convolution and its BatchNorm as they are before anything is loaded."""
    changed = rebuilt(network, variant)
    modules = [*changed.modules()]
    convolution = next(module for module in modules if isinstance(module, nn.Conv2d))
    norm = next(module for module in modules if isinstance(module, nn.BatchNorm2d))
    found = convolution.weight
    values = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    spread = (2 / (found.shape[0] * found.shape[2] * found.shape[3])) ** 0.5
    convolution.weight = nn.Parameter((spread * values).to(found))
    norm.weight, norm.bias = nn.Parameter(torch.ones_like(norm.weight)), nn.Parameter(torch.zeros_like(norm.bias))
    norm.running_mean, norm.running_var = torch.zeros_like(norm.weight), torch.ones_like(norm.weight)
    return changed
