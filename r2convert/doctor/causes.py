"""The usual causes of a wrong accuracy, each as the one thing it changes in how accuracy is measured.

The same change is tried for two questions. Measured elsewhere, and too low: does the score fall to that number if
the mistake is made here? Too low here: does the score rise if the file or the images are taken to be like that?

Precision is no cause here: it changes the answers for so few images that no sample shows it; ``verify --precision``
counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from msgspec import structs

from r2convert.catalog.protocol import MEAN, STANDARD_DEVIATION
from r2convert.catalog.variant import StagedArchitecture, Variant
from r2convert.doctor.settings import (
    IMAGENET_ORDERS,
    LabelOrder,
    Setting,
    rebuilt,
    relabelled,
    with_batch_statistics,
    with_random_stem,
)
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.models.blocks import Classifier


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
    change: Callable[[Setting], Setting]
    mistake: str
    remedy: str
    by_chance: bool = False


SOUND = Cause("none", "as given", lambda sound: sound, "", "")
"""No cause at all: the setting of published numbers."""


def causes_for(
    sound: Setting, network: Iterable[Cause] = (), images: ValidationSet | None = None
) -> Iterator[tuple[Cause, Setting]]:
    """The causes that change anything, each with its setting.

    Args:
        sound: how the published number was measured.
        network: what else the network may be, see :func:`network_causes`.
        images: what it is to be tried on; a label order that means nothing to them, or changes nothing, is left out.
    """
    seen = {sound}
    for cause in (*_USUAL, *network):
        setting = cause.change(sound)
        if setting not in seen and (images is None or _matters(setting.labels, images)):
            seen.add(setting)
            yield cause, setting


def _matters(order: LabelOrder, images: ValidationSet) -> bool:
    if order == "as given":
        return True
    if order in IMAGENET_ORDERS and images.classes != synsets():
        return False
    given, changed = (relabelled(each, images.images, len(images.classes)) for each in ("as given", order))
    return bool((given != changed).any())


def _set(**changed: Any) -> Callable[[Setting], Setting]:
    return lambda sound: replace(sound, **changed)


def _prepared(**changed: Any) -> Callable[[Setting], Setting]:
    return lambda sound: replace(sound, protocol=structs.replace(sound.protocol, **changed))


def _whole(sound: Setting) -> Setting:
    return _prepared(resize=sound.protocol.crop)(sound)


def _shown_to(build: Callable[[Classifier], Classifier]) -> Callable[[Setting], Setting]:
    return lambda sound: replace(sound, network=build(sound.network))


_ZEROS, _ONES, _HALVES = 3 * (0.0,), 3 * (1.0,), 3 * (0.5,)
_UNDIVIDED = {"mean": tuple(value / 255 for value in MEAN), "std": tuple(value / 255 for value in STANDARD_DEVIATION)}

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
    Cause("nearest", "resized to the nearest pixel", _set(resize="nearest"),
          "resize with the bilinear filter, not with the nearest pixel",
          "the file was trained on images resized to the nearest pixel: resize like that for this file"),
    Cause("squash", "squashed to a square", _set(resize="squashed"),
          "resize the short side and crop, Resize(256) and CenterCrop(224): Resize((224, 224)) squashes",
          "the file was trained on squashed images: resize both sides to 224 for this file"),
    Cause("no-margin", "short side to 224, not 256", _whole,
          "bring the short side to 256 before the crop of 224 (crop_pct 0.875, not 1)",
          "the file expects whole images: measure it with --crop-pct 1"),
    Cause("bgr", "channels in BGR order", _set(bgr=True),
          "hand the network RGB: OpenCV reads BGR (cv2.cvtColor(image, cv2.COLOR_BGR2RGB))",
          "the file expects BGR: reverse the input channels of its first convolution"),
    Cause("not-normalised", "pixels 0..1, no mean and deviation", _prepared(mean=_ZEROS, std=_ONES),
          "subtract the mean 0.485 0.456 0.406 and divide by the deviation 0.229 0.224 0.225",
          "the file was trained on pixels from 0 to 1: measure it with --mean 0,0,0 --std 1,1,1"),
    Cause("raw-pixels", "pixels 0..255 as they are", _prepared(mean=_ZEROS, std=3 * (1 / 255,)),
          "divide by 255, subtract the mean, divide by the deviation",
          "the file was trained on pixels from 0 to 255: --mean 0,0,0 --std 0.0039216,0.0039216,0.0039216"),
    Cause("not-divided-by-255", "mean and deviation of 0..1, pixels 0..255", _prepared(**_UNDIVIDED),
          "divide the pixels by 255 before the mean is subtracted",
          "the file was trained on pixels that were not divided by 255: feed it those"),
    Cause("half-normalised", "mean and deviation 0.5", _prepared(mean=_HALVES, std=_HALVES),
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
          "the classifier counts in the development kit's order: put its rows into that of the sorted WordNet ids"),
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
# fmt: on


def network_causes(
    variant: Variant, others: Mapping[str, Variant], other_weights: tuple[str, Classifier] | None = None
) -> Iterator[Cause]:
    """What else a network may be, or be taken for.

    Args:
        variant: what it is taken for here.
        others: networks with the same names and shapes that compute something else, by the program that does.
        other_weights: the other state dict of its file (moving average or raw weights) and its key.
    """
    # fmt: off
    yield Cause("training-mode", "BatchNorm with the batch's statistics",
                _shown_to(partial(with_batch_statistics, variant=variant)),
                "call model.eval() before measuring", "", by_chance=True)
    yield Cause("stem-not-loaded", "stem left at a random start",
                _shown_to(partial(with_random_stem, variant=variant)),
                "load strictly (strict=True) after `r2convert map`: names that do not fit are passed over in silence",
                "", by_chance=True)
    if other_weights is not None:
        key, network = other_weights
        both = "the file holds raw weights and their moving average"
        yield Cause("other-weights", f"the file's other weights, under {key}", _shown_to(lambda _: network),
                    f"{both}: take those that are taken here, not {key}", f"{both}: take the others with --key {key}")
    for program, other in others.items():
        yield Cause(f"as-{program}", f"computed as {other.id}", _shown_to(partial(rebuilt, variant=other)),
                    f"build {variant.id}: {other.id} has the same names and shapes and computes something else",
                    f"these are weights of {other.id}, whose names and shapes are the same: --variant {other.id}")
    architecture = variant.architecture
    if not isinstance(architecture, StagedArchitecture):
        return
    known = [other.architecture for other in others.values()]
    pools = structs.replace(architecture, pool_counts_padding=not architecture.pool_counts_padding)
    if pools not in known:
        yield Cause("pool-padding", "padding of the blocks' pools the other way",
                    _shown_to(partial(rebuilt, variant=structs.replace(variant, architecture=pools))),
                    "build the blocks' pools with the right count_include_pad: PaddleClas has False, all others True",
                    "these weights belong to a network that pads the blocks' pools the other way")
    first = structs.replace(architecture, first_block="normal" if architecture.first_block == "stage" else "stage")
    if first not in known:
        yield Cause("first-block", "layer1.0 of the other kind",
                    _shown_to(partial(rebuilt, variant=structs.replace(variant, architecture=first))),
                    "build layer1.0 as this variant has it: without hierarchical adds, but in vd with them",
                    "these weights belong to a network with the other kind of first block")
    # fmt: on
