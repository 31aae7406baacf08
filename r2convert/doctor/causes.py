"""The usual causes of a wrong accuracy, each as the one thing it changes in how accuracy is measured.

The same change is tried for two questions. Measured elsewhere, and too low: does the score fall to that number if
the mistake is made here? Too low here: does the score rise if the file or the images are taken to be like that?

Precision is no cause here: it changes the answers for so few images that no sample shows it; ``verify --precision``
counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from msgspec import structs
from PIL import Image
from torch import nn
from torch.nn import functional

from r2convert.catalog.protocol import Protocol
from r2convert.catalog.variant import StagedArchitecture, Variant
from r2convert.imagenet.labels import devkit_order, synsets, validation_labels
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
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet
from r2convert.models.blocks import Classifier
from r2convert.models.build import build_network

Resize = Literal["as published", "not antialiased", "squashed"]
LabelOrder = Literal[
    "as given", "plus one", "minus one", "into devkit", "out of devkit", "into digits", "out of digits", "one class",
    "by file name",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of measuring an accuracy. A cause changes one of these.

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


Change = Callable[[Setting], Setting]


@dataclass(frozen=True, slots=True)
class Cause:
    """A usual cause.

    Args:
        id: its name.
        what: what is different, in a few words.
        change: from the setting of published numbers to this one.
        mistake: what to change where the other number was measured, or ``""`` if nobody makes it by mistake.
        remedy: what to change in the file or the images if the score rises with it, or ``""`` if it cannot.
        by_chance: whether whoever makes the mistake gets another score each time (a random start, other batches).
    """

    id: str
    what: str
    change: Change
    mistake: str
    remedy: str
    by_chance: bool = False


SOUND = Cause("none", "as given", lambda sound: sound, "", "")
"""No cause at all: the setting of published numbers."""


def _set(**changed: Any) -> Change:
    return lambda sound: replace(sound, **changed)


def _prepared(**changed: Any) -> Change:
    return lambda sound: replace(sound, protocol=structs.replace(sound.protocol, **changed))


def _shown_to(build: Callable[[Classifier], Classifier]) -> Change:
    return lambda sound: replace(sound, network=build(sound.network))


# Three lines each: what it is; what to change where the number was measured; what to change in the file or the images.
# fmt: off
_USUAL = (
    Cause("opencv-resize", "resized by OpenCV", _prepared(pipeline="opencv"),
          "resize with Pillow: OpenCV's bilinear filter does not antialias and rounds sizes differently",
          "the file was trained or tuned on OpenCV's crops: measure it with --pipeline opencv"),
    Cause("pillow-resize", "resized by Pillow", _prepared(pipeline="pil"),
          "resize with OpenCV (INTER_LINEAR), as this file's publisher does",
          "the file was trained or tuned on Pillow's crops: measure it with --pipeline pil"),
    Cause("no-antialias", "resized without antialiasing", _set(resize="not antialiased"),
          "antialias: Resize(256, antialias=True), or resize the PIL image before it becomes a tensor",
          "the file was trained on images that were resized without antialiasing: resize like that for this file"),
    Cause("bicubic", "resized with the bicubic filter", _prepared(interpolation="bicubic"),
          "resize with the bilinear filter",
          "the file was trained with the bicubic filter: measure it with --interpolation bicubic"),
    Cause("squash", "squashed to a square", _set(resize="squashed"),
          "resize the short side and crop, Resize(256) and CenterCrop(224): Resize((224, 224)) squashes",
          "the file was trained on squashed images: resize both sides to 224 for this file"),
    Cause("no-margin", "short side to 224, not 256", lambda sound: _prepared(resize=sound.protocol.crop)(sound),
          "bring the short side to 256 before the crop of 224 (crop_pct 0.875, not 1)",
          "the file expects whole images: measure it with --crop-pct 1"),
    Cause("bgr", "channels in BGR order", _set(bgr=True),
          "hand the network RGB: OpenCV reads BGR (cv2.cvtColor(image, cv2.COLOR_BGR2RGB))",
          "the file expects BGR: reverse the input channels of its first convolution"),
    Cause("not-normalised", "pixels 0..1, no mean and deviation", _prepared(mean=3 * (0.0,), std=3 * (1.0,)),
          "subtract the mean 0.485 0.456 0.406 and divide by the deviation 0.229 0.224 0.225",
          "the file was trained on pixels from 0 to 1: measure it with --mean 0,0,0 --std 1,1,1"),
    Cause("raw-pixels", "pixels 0..255, not divided by 255", _prepared(mean=3 * (0.0,), std=3 * (1 / 255,)),
          "divide by 255, subtract the mean, divide by the deviation",
          "the file was trained on pixels from 0 to 255: --mean 0,0,0 --std 0.0039216,0.0039216,0.0039216"),
    Cause("half-normalised", "mean and deviation 0.5", _prepared(mean=3 * (0.5,), std=3 * (0.5,)),
          "use the mean 0.485 0.456 0.406 and the deviation 0.229 0.224 0.225, not 0.5",
          "the file was trained with 0.5 and 0.5: measure it with --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"),
    Cause("labels-one-up", "labels one higher than the classes", _set(labels="plus one"),
          "count the labels from 0: these were counted from 1",
          "the classifier has a background class in front, or the labels are one too low: shift one of them by one"),
    Cause("labels-one-down", "labels one lower than the classes", _set(labels="minus one"),
          "do not take one off the labels: there is no background class",
          "the labels of these images are counted from 1: take one off"),
    Cause("devkit-labels", "labels in the development kit's order", _set(labels="into devkit"),
          "put ILSVRC2012_ID into the order of the sorted WordNet ids; the flat folder of images needs no labels",
          ""),
    Cause("devkit-labels-here", "labels to be taken out of the kit's order", _set(labels="out of devkit"),
          "",
          "the labels of these images are ILSVRC2012_IDs: name WordNet ids instead, or use the flat folder of images"),
    Cause("numbers-as-text", "labels in the order 0, 1, 10, 100, ...", _set(labels="into digits"),
          "name class folders by WordNet id: readers sort the names 0, 1, 10, 100, 101, ... as text",
          "the file's classifier counts folders in the order 0, 1, 10, 100, ...: put its rows into numerical order"),
    Cause("numbers-as-text-here", "labels to be taken out of that order", _set(labels="out of digits"),
          "",
          "the labels were read from folders in the order 0, 1, 10, 100, ...: name WordNet ids instead"),
    Cause("flat-folder", "every image counted as the first class", _set(labels="one class"),
          "sort the images into class folders: a reader of class folders takes one folder for one class",
          ""),
    Cause("wrong-folders", "images in other classes than ILSVRC 2012 says", _set(labels="by file name"),
          "",
          "move the images into the class folders that ILSVRC 2012 gives to their names, or use the flat folder"),
)


def network_causes(
    variant: Variant, others: Mapping[str, Variant], other_weights: tuple[str, Classifier] | None = None
) -> Iterator[Cause]:
    """What else a network may be, or be taken for.

    Args:
        variant: what it is taken for here.
        others: networks with the same names and shapes that compute something else, by the program that does.
        other_weights: the other state dict of its file (moving average or raw weights) and its key.
    """
    yield Cause("training-mode", "BatchNorm with the batch's statistics", _shown_to(with_batch_statistics),
                "call model.eval() before measuring", "", by_chance=True)
    yield Cause("stem-not-loaded", "stem left at a random start", _shown_to(with_random_stem),
                "load strictly (strict=True) after `r2convert map`: names that do not fit are passed over in silence",
                "", by_chance=True)
    if other_weights is not None:
        key, network = other_weights
        both = "the file holds raw weights and their moving average"
        yield Cause("other-weights", f"the file's other weights, under {key}", _set(network=network),
                    f"{both}: take those that are taken here, not {key}", f"{both}: take the others with --key {key}")
    for program, other in others.items():
        yield Cause(f"as-{program}", f"computed as {other.id}", _shown_to(partial(rebuilt, variant=other)),
                    f"build {variant.id}: {other.id} has the same names and shapes and computes something else",
                    f"these are weights of {other.id}, whose names and shapes are the same: --variant {other.id}")
    own = variant.architecture
    if isinstance(own, StagedArchitecture):
        kind: Literal["normal", "stage"] = "normal" if own.first_block == "stage" else "stage"
        other = structs.replace(variant, architecture=structs.replace(own, first_block=kind))
        if other.architecture not in [each.architecture for each in others.values()]:
            yield Cause("first-block", "layer1.0 of the other kind", _shown_to(partial(rebuilt, variant=other)),
                        "build layer1.0 as this variant has it: without hierarchical adds, but in vd with them",
                        "these weights belong to a network with the other kind of first block")
# fmt: on


def causes_for(
    sound: Setting, network: Iterable[Cause] = (), images: ValidationSet | None = None
) -> Iterator[tuple[Cause, Setting]]:
    """The causes that change anything, each with its setting.

    Args:
        sound: how the published number was measured.
        network: what else the network may be, see :func:`network_causes`.
        images: what it is to be tried on; a label order that means nothing to them, or changes nothing, is left out.
    """
    for cause in (*_USUAL, *network):
        setting = cause.change(sound)
        if setting != sound and (images is None or setting.labels == "as given" or _matters(setting.labels, images)):
            yield cause, setting


def _matters(order: LabelOrder, images: ValidationSet) -> bool:
    if order in ("into devkit", "out of devkit", "by file name") and images.classes != synsets():
        return False
    given, changed = (relabelled(each, images.images, len(images.classes)) for each in ("as given", order))
    return bool((given != changed).any())


def relabelled(order: LabelOrder, images: Sequence[ValidationImage], classes: int) -> npt.NDArray[np.int64]:
    """The labels of images if classes are counted in another order; what is no class any more is right nowhere."""
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


def crop_maker(resize: Resize, protocol: Protocol) -> Callable[[Pixels], Crop]:
    """A function from decoded pixels to a crop.

    Raises:
        UsageError: it needs OpenCV, which is not installed.
    """
    if resize == "not antialiased":
        return partial(_crop_not_antialiased, protocol=protocol)
    if resize == "squashed":
        size, resampling = (protocol.crop, protocol.crop), FILTERS[protocol.interpolation]
        return lambda pixels: np.asarray(Image.fromarray(pixels).resize(size, resampling))
    return opencv_crop_pixels(protocol) if protocol.pipeline == "opencv" else partial(crop_pixels, protocol=protocol)


def _crop_not_antialiased(pixels: Pixels, protocol: Protocol) -> Crop:
    """Between the nearest source pixels, however far the image shrinks: torch's default on tensors."""
    width, height = resized_size(pixels.shape[1], pixels.shape[0], protocol.resize)
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(planes, (height, width), mode=protocol.interpolation)
    left, top = crop_corner(width, height, protocol.crop)
    cropped = resized[0, :, top : top + protocol.crop, left : left + protocol.crop]
    return cropped.permute(1, 2, 0).round().clamp(0, 255).byte().contiguous().numpy()


def rebuilt(network: Classifier, variant: Variant) -> Classifier:
    """Another network with the weights of this one, which it shares: names and shapes have to be the same."""
    with torch.device("meta"):
        other = build_network(variant, classes=network.head.fc.out_features)
    other.load_state_dict(network.state_dict(), assign=True)
    return other.eval()


def with_batch_statistics(network: Classifier) -> Classifier:
    """Training mode's normalisation, without its update of the running statistics."""
    changed = deepcopy(network)
    for module in changed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.training, module.track_running_stats = True, False
    return changed


def with_random_stem(network: Classifier) -> Classifier:
    """The first convolution and its BatchNorm as they are before anything is loaded."""
    changed = deepcopy(network)
    modules = [*changed.modules()]
    convolution = next(module for module in modules if isinstance(module, nn.Conv2d))
    generator = torch.Generator(convolution.weight.device).manual_seed(0)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", generator=generator)
    next(module for module in modules if isinstance(module, nn.BatchNorm2d)).reset_parameters()
    return changed
