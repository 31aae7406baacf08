"""The usual causes of a wrong accuracy, each as the one thing it changes in how accuracy is measured.

The same change is tried for two questions. Measured elsewhere, and too low: does the score fall to that number if
the mistake is made here? Too low here: does the score rise if the file or the images are taken to be like that?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from r2convert.catalog.variant import Architecture, StagedArchitecture

CropKind = Literal["pillow", "opencv", "not antialiased", "bicubic", "nearest", "squashed", "no margin"]
Feed = Literal["published", "bgr", "0 to 1", "0 to 255", "not divided", "-1 to 1"]
NetworkChange = Literal[
    "none", "pool padding", "first block", "first pool", "shortcut pool", "batch statistics", "random stem"
]
LabelOrder = Literal[
    "as given", "plus one", "minus one", "into devkit", "out of devkit", "into digits", "out of digits", "one class"
]
Shown = tuple[CropKind, Feed, NetworkChange]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of measuring an accuracy; a cause changes one thing of it. :mod:`r2convert.doctor.changes` does it.

    Args:
        crop: how an image becomes 224x224 pixels.
        feed: how pixels become the network's input.
        network: what is changed in the network.
        labels: in which order the classes are counted.
    """

    crop: CropKind = "pillow"
    feed: Feed = "published"
    network: NetworkChange = "none"
    labels: LabelOrder = "as given"

    @property
    def shown(self) -> Shown:
        """The part that decides the predictions; labels only decide which of them are right."""
        return self.crop, self.feed, self.network


@dataclass(frozen=True, slots=True)
class Cause:
    """A usual cause.

    Args:
        id: its name.
        what: what is different, in a few words.
        setting: how accuracy is measured with it.
        mistake: what to change where the other number was measured, or ``""`` if nobody makes it by mistake.
        remedy: what to change in the file or the images if the score rises with it, or ``""`` if it cannot.
        by_chance: whether whoever makes the mistake gets another score each time (a random start, other batches).
    """

    id: str
    what: str
    setting: Setting
    mistake: str
    remedy: str
    by_chance: bool = False


_CROPS = (
    Cause(
        "opencv-resize",
        "resized by OpenCV",
        Setting(crop="opencv"),
        "resize with Pillow: OpenCV's bilinear filter does not antialias and rounds sizes otherwise",
        "the file was trained or tuned on OpenCV's crops: measure it with --pipeline opencv",
    ),
    Cause(
        "pillow-resize",
        "resized by Pillow",
        Setting(crop="pillow"),
        "resize with OpenCV (INTER_LINEAR), as this file's publisher does",
        "the file was trained or tuned on Pillow's crops: measure it with --pipeline pil",
    ),
    Cause(
        "no-antialias",
        "resized without antialiasing",
        Setting(crop="not antialiased"),
        "antialias: Resize(256, antialias=True), or resize the PIL image before it becomes a tensor",
        "the file was trained on images that were resized without antialiasing: resize like that for this file",
    ),
    Cause(
        "bicubic",
        "resized with the bicubic filter",
        Setting(crop="bicubic"),
        "resize with the bilinear filter",
        "the file was trained with the bicubic filter: use that for this file",
    ),
    Cause(
        "nearest",
        "resized to the nearest pixel",
        Setting(crop="nearest"),
        "resize with the bilinear filter, not with the nearest pixel",
        "the file was trained on images resized to the nearest pixel: resize like that for this file",
    ),
    Cause(
        "squash",
        "squashed to 224x224",
        Setting(crop="squashed"),
        "bring the short side to 256 and cut out the central 224x224: Resize(256), CenterCrop(224); "
        "Resize((224, 224)) squashes",
        "the file was trained on squashed images: resize both sides to 224 for this file",
    ),
    Cause(
        "no-margin",
        "short side to 224, not 256",
        Setting(crop="no margin"),
        "bring the short side to 256 before the crop of 224 (crop_pct 0.875, not 1)",
        "the file expects whole images: bring the short side to 224 for this file",
    ),
)

_FEEDS = (
    Cause(
        "bgr",
        "channels in BGR order",
        Setting(feed="bgr"),
        "hand the network RGB: OpenCV reads BGR (cv2.cvtColor(image, cv2.COLOR_BGR2RGB))",
        "the file expects BGR: reverse the input channels of its first convolution",
    ),
    Cause(
        "not-normalised",
        "pixels 0..1, no mean and deviation",
        Setting(feed="0 to 1"),
        "subtract the mean 0.485 0.456 0.406 and divide by the deviation 0.229 0.224 0.225",
        "the file was trained on pixels from 0 to 1 without normalisation: feed it those",
    ),
    Cause(
        "raw-pixels",
        "pixels 0..255 as they are",
        Setting(feed="0 to 255"),
        "divide by 255, subtract the mean, divide by the deviation",
        "the file was trained on raw pixels from 0 to 255: feed it those",
    ),
    Cause(
        "not-divided-by-255",
        "mean and deviation of 0..1, pixels 0..255",
        Setting(feed="not divided"),
        "divide the pixels by 255 before the mean is subtracted",
        "the file was trained on pixels that were not divided by 255: feed it those",
    ),
    Cause(
        "half-normalised",
        "mean and deviation 0.5",
        Setting(feed="-1 to 1"),
        "use the mean 0.485 0.456 0.406 and the deviation 0.229 0.224 0.225, not 0.5",
        "the file was trained with mean and deviation 0.5: feed it that",
    ),
)

_LABELS = (
    Cause(
        "labels-one-up",
        "labels one higher than the classes",
        Setting(labels="plus one"),
        "count the labels from 0: these were counted from 1",
        "the classifier has a background class in front, or the labels are one too low: shift one of them by one",
    ),
    Cause(
        "labels-one-down",
        "labels one lower than the classes",
        Setting(labels="minus one"),
        "do not take one off the labels: there is no background class",
        "the labels of these images are counted from 1: take one off",
    ),
    Cause(
        "devkit-labels",
        "labels in the development kit's order",
        Setting(labels="into devkit"),
        "translate ILSVRC2012_ID into the order of the sorted WordNet ids; the flat folder of images needs no labels",
        "the file's classifier counts in the development kit's order: put its rows into that of the sorted WordNet ids",
    ),
    Cause(
        "devkit-labels-here",
        "labels to be taken out of the kit's order",
        Setting(labels="out of devkit"),
        "",
        "the labels of these images are ILSVRC2012_IDs: name WordNet ids instead, or use the flat folder of images",
    ),
    Cause(
        "numbers-as-text",
        "labels in the order 0, 1, 10, 100, ...",
        Setting(labels="into digits"),
        "name class folders by WordNet id: readers sort the names 0, 1, 10, 100, 101, ... as text",
        "the file's classifier counts folders in the order 0, 1, 10, 100, ...: put its rows into numerical order",
    ),
    Cause(
        "numbers-as-text-here",
        "labels to be taken out of that order",
        Setting(labels="out of digits"),
        "",
        "the labels of these images were read from folders in the order 0, 1, 10, 100, ...: name WordNet ids instead",
    ),
    Cause(
        "flat-folder",
        "every image counted as the first class",
        Setting(labels="one class"),
        "sort the images into class folders: a reader of class folders takes one folder for one class",
        "",
    ),
)

_NETWORKS = (
    Cause(
        "training-mode",
        "BatchNorm with the batch's statistics",
        Setting(network="batch statistics"),
        "call model.eval() before measuring",
        "the running means and variances in the file are not those of its weights: take them from the source again",
        by_chance=True,
    ),
    Cause(
        "stem-not-loaded",
        "stem left at a random start",
        Setting(network="random stem"),
        "load strictly (strict=True) after `r2convert map`: names that do not fit are passed over in silence",
        "",
        by_chance=True,
    ),
    Cause(
        "pool-padding",
        "padding of the blocks' pools the other way",
        Setting(network="pool padding"),
        "build the 3x3 average pools with the right count_include_pad: PaddleClas has False, all others True",
        "these weights belong to a network that pads the blocks' pools the other way (vd against v1b): name that "
        "variant, or write a variant file with the other pool_counts_padding",
    ),
    Cause(
        "first-block",
        "layer1.0 of the other kind",
        Setting(network="first block"),
        "build layer1.0 as this variant has it: without hierarchical adds, but in vd with them",
        "these weights belong to a network with the other kind of first block (vd against v1b): name that variant, "
        "or write a variant file with the other first_block",
    ),
    Cause(
        "no-first-pool",
        "layer1.0 without its 3x3 pool",
        Setting(network="first pool"),
        "give layer1.0 its 3x3 average pool of stride 1: mmdet's Res2Net has none",
        "these weights were trained in a network whose layer1.0 has no pool, such as mmdet's: use them there",
    ),
    Cause(
        "no-shortcut-pool",
        "shortcuts strided instead of pooled",
        Setting(network="shortcut pool"),
        "pool the shortcuts of v1b and vd before their convolution (avg_down=True)",
        "these weights were trained with strided shortcuts: they are no v1b or vd",
    ),
)

WRONG_FOLDERS = Cause(
    "wrong-folders",
    "images in other classes than ILSVRC 2012 says",
    Setting(),
    "",
    "move the images into the class folders that ILSVRC 2012 gives to their names, or use the flat folder",
)
"""Not a setting but other labels for some images, told from their names; costs nothing."""

CAUSES = (*_CROPS, *_FEEDS, *_LABELS, *_NETWORKS)


def causes_for(architecture: Architecture, sound: Setting) -> Iterator[Cause]:
    """The causes that change anything for a network.

    Args:
        architecture: the network's facts.
        sound: how the published number was measured; ``pillow-resize`` is a cause only where that is not it.
    """
    possible = ("none", *_changes_of(architecture))
    for cause in CAUSES:
        resized_as_published = cause.setting.crop == sound.crop and cause.setting.crop != Setting().crop
        if cause.setting.network in possible and not resized_as_published and cause.setting != sound:
            yield cause


def _changes_of(architecture: Architecture) -> Iterator[NetworkChange]:
    """The changes that mean something to an architecture."""
    yield from ("pool padding", "batch statistics", "random stem")
    if isinstance(architecture, StagedArchitecture):
        yield "first block"
        if architecture.first_block == "stage":
            yield "first pool"
        if architecture.shortcut != "strided-conv":
            yield "shortcut pool"
