"""Operations of a network, by layer, in the conventions that publishers use.

One network has four "FLOPs". Each publisher's figure is reproduced by its own convention:

``macs``
    Multiply-adds of convolutions and linear layers, without bias: the official README's "MACCs".
``mmcv``
    As ``macs``, plus a bias addition an output element, 2 an input element of a BatchNorm, 1 an output
    element of a ReLU, 1 an input element of a pool: mmcv 1.x, which OpenMMLab's tables were made with.
``fvcore``
    As ``macs``, plus 2 an element of a BatchNorm and 1 an input element of an adaptive pool: fvcore, which
    timm's and PaddleClas' tables were made with.
``fluid``
    2 a multiply-add of a convolution, 1 of a linear layer, 2 an element of a BatchNorm, the window's area an output
    element of a pool, and -1 an element of a ReLU, as it multiplies by a batch of -1: ``summary()`` of PaddlePaddle
    1.x (``fluid/contrib/model_stat.py``), which PaddleClas' older tables were made with.

``activations`` counts the output elements of convolutions and linear layers, as timm's tables do.

All of this follows from the architecture alone: it is walked here as the reference network in ``models/`` runs, with
one handler a kind of layer, and no network is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from r2convert.catalog.geometry import STEM_CHANNELS, Place, Tree, dla_trees, fill_template, places
from r2convert.catalog.variant import IMAGENET_CLASSES, DlaArchitecture, StagedArchitecture, Variant
from r2convert.errors import UsageError
from r2convert.results.verification import IMAGENET_INPUT, LayerOperations, Operations

_DLA_STEP = 32


def count_operations(
    variant: Variant,
    *,
    input_size: tuple[int, int] = IMAGENET_INPUT,
    classes: int = IMAGENET_CLASSES,
    unreachable: bool = False,
) -> Operations:
    """Count a variant's operations for one image, layer by layer in the order they run.

    A layer that runs twice is counted twice.

    Args:
        variant: which network.
        input_size: height and width of the image in pixels.
        classes: outputs of the classifier.
        unreachable: count the layers that the official DLA code runs although nothing reads their result.

    Raises:
        UsageError: the network cannot be shown images of this size.
    """
    walk = _walk(variant, input_size, classes, unreachable=unreachable)
    return Operations.of(input_size, tuple(walk.layers))


def count_as_fluid(
    variant: Variant, *, input_size: tuple[int, int] = IMAGENET_INPUT, classes: int = IMAGENET_CLASSES
) -> int:
    """Count a variant's operations in the convention ``fluid``; arguments and errors as :func:`count_operations`."""
    return _walk(variant, input_size, classes, unreachable=False).fluid


def _walk(variant: Variant, input_size: tuple[int, int], classes: int, *, unreachable: bool) -> _Walk:
    require_input_size(variant, input_size)
    architecture, walk = variant.architecture, _Walk()
    image = _Map(architecture.in_channels, *input_size)
    if isinstance(architecture, StagedArchitecture):
        features = _staged_backbone(walk, architecture, image)
    else:
        features = _dla_backbone(walk, architecture, image, unreachable=unreachable)
    walk.adaptive_pool("head.pool", features)
    walk.linear("head.fc", features.channels, classes)
    return walk


def require_input_size(variant: Variant, input_size: tuple[int, int]) -> None:
    """Check that a network can run on images of a size.

    Raises:
        UsageError: it cannot. The trees of DLA add maps that were pooled to maps that were strided, which are of one
            size only where all five halvings come out even.
    """
    if isinstance(variant.architecture, DlaArchitecture) and any(side % _DLA_STEP for side in input_size):
        raise UsageError(
            f"{variant.id} cannot be shown images of this size",
            expected=f"height and width divisible by {_DLA_STEP}, such as 224 or 256",
            got=shown_size(input_size),
        )


def shown_size(input_size: tuple[int, int]) -> str:
    """Height and width as people write them."""
    return "x".join(map(str, input_size))


@dataclass(frozen=True, slots=True)
class _Map:
    """The shape of a feature map of one image."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        return self.channels * self.height * self.width

    def windows(self, channels: int, kernel: int, stride: int, padding: int, *, ceil: bool = False) -> _Map:
        """The shape that a sliding window leaves; ``ceil`` lets the last window reach beyond the edge."""
        height, width = (
            (side + 2 * padding - kernel + (stride - 1 if ceil else 0)) // stride + 1
            for side in (self.height, self.width)
        )
        return _Map(channels, height, width)


@dataclass(slots=True)
class _Walk:
    """One handler per kind of layer: each records what the layer costs, and returns the shape of its output."""

    layers: list[LayerOperations] = field(default_factory=list)
    fluid: int = 0

    def convolution(self, name: str, x: _Map, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> _Map:
        output = x.windows(channels, kernel, stride, kernel // 2)
        macs = output.elements * x.channels // groups * kernel**2
        self.fluid += 2 * macs
        self.layers.append(LayerOperations(name, "Conv2d", macs, macs, macs, output.elements))
        return output

    def linear(self, name: str, features: int, outputs: int) -> None:
        macs = features * outputs
        self.fluid += macs
        self.layers.append(LayerOperations(name, "Linear", macs, macs + outputs, macs, outputs))

    def batch_norm(self, name: str, x: _Map) -> _Map:
        self.fluid += 2 * x.elements
        self.layers.append(LayerOperations(name, "BatchNorm2d", 0, 2 * x.elements, 2 * x.elements))
        return x

    def relu(self, name: str, x: _Map) -> _Map:
        self.fluid -= x.elements
        self.layers.append(LayerOperations(name, "ReLU", 0, x.elements))
        return x

    def pool(
        self, name: str, kind: str, x: _Map, kernel: int, stride: int, padding: int = 0, *, ceil: bool = False
    ) -> _Map:
        output = x.windows(x.channels, kernel, stride, padding, ceil=ceil)
        self.fluid += output.elements * kernel**2
        self.layers.append(LayerOperations(name, kind, 0, x.elements))
        return output

    def adaptive_pool(self, name: str, x: _Map) -> None:
        self.fluid += x.elements
        self.layers.append(LayerOperations(name, "AdaptiveAvgPool2d", 0, x.elements, x.elements))

    def identity(self, name: str, x: _Map) -> _Map:
        self.layers.append(LayerOperations(name, "Identity"))
        return x


def _staged_backbone(walk: _Walk, architecture: StagedArchitecture, image: _Map) -> _Map:
    x = _deep_stem(walk, image) if architecture.stem == "deep" else _plain_stem(walk, image)
    x = walk.pool("backbone.maxpool", "MaxPool2d", x, 3, 2, 1)
    for place in places(architecture, IMAGENET_CLASSES)["block"]:
        path = fill_template("backbone.layer{stage}.{block}", place)
        if place["block"] == 0:
            _shortcut(walk, f"{path}.downsample", architecture, place, x)
        x = _block(walk, path, architecture, place, x)
    return x


def _plain_stem(walk: _Walk, image: _Map) -> _Map:
    x = walk.convolution("backbone.conv1", image, STEM_CHANNELS, 7, 2)
    return walk.relu("backbone.relu", walk.batch_norm("backbone.bn1", x))


def _deep_stem(walk: _Walk, image: _Map) -> _Map:
    x = image
    for index, (channels, stride) in enumerate(((STEM_CHANNELS // 2, 2), (STEM_CHANNELS // 2, 1), (STEM_CHANNELS, 1))):
        path = f"backbone.stem.{index}"
        x = walk.convolution(f"{path}.conv", x, channels, 3, stride)
        x = walk.relu(f"{path}.relu", walk.batch_norm(f"{path}.bn", x))
    return x


def _shortcut(walk: _Walk, path: str, architecture: StagedArchitecture, place: Place, x: _Map) -> None:
    stride, channels = int(place["stride"]), int(place["out"])
    if architecture.shortcut == "strided-conv":
        walk.batch_norm(f"{path}.1", walk.convolution(f"{path}.0", x, channels, 1, stride))
        return
    if architecture.shortcut == "pooled-if-strided" and stride == 1:
        x = walk.identity(f"{path}.0", x)
    else:
        x = walk.pool(f"{path}.0", "AvgPool2d", x, stride, stride, ceil=True)
    walk.batch_norm(f"{path}.2", walk.convolution(f"{path}.1", x, channels, 1))


def _block(walk: _Walk, path: str, architecture: StagedArchitecture | DlaArchitecture, place: Place, x: _Map) -> _Map:
    stride, width, split_channels = int(place["stride"]), int(place["width"]), int(place["split"])
    x = walk.convolution(f"{path}.conv1", x, split_channels, 1)
    x = walk.relu(f"{path}.relu", walk.batch_norm(f"{path}.bn1", x))
    split = _Map(width, x.height, x.width)
    for index in range(architecture.scales - 1):
        output = walk.convolution(f"{path}.convs.{index}", split, width, 3, stride, architecture.cardinality)
        walk.relu(f"{path}.relu", walk.batch_norm(f"{path}.bns.{index}", output))
    if place["kind"] == "stage":
        walk.pool(f"{path}.pool", "AvgPool2d", split, 3, stride, 1)
    merged = split.windows(split_channels, 3, stride, 1)
    x = walk.batch_norm(f"{path}.bn3", walk.convolution(f"{path}.conv3", merged, int(place["out"]), 1))
    return walk.relu(f"{path}.relu", x)


def _dla_backbone(walk: _Walk, architecture: DlaArchitecture, image: _Map, *, unreachable: bool) -> _Map:
    first, second = architecture.channels[:2]
    x = _plain(walk, "backbone.base_layer", image, first, 7, 1)
    x = _plain(walk, "backbone.level0", x, first, 3, 1)
    x = _plain(walk, "backbone.level1", x, second, 3, 2)
    dla = _Dla(walk, architecture, unreachable)
    for level in range(2, len(architecture.channels)):
        x = dla.tree(f"level{level}", x)
    return x


def _plain(walk: _Walk, path: str, x: _Map, channels: int, kernel: int, stride: int) -> _Map:
    x = walk.convolution(f"{path}.0", x, channels, kernel, stride)
    return walk.relu(f"{path}.2", walk.batch_norm(f"{path}.1", x))


class _Dla:
    """The aggregation trees of a DLA network, walked as :class:`r2convert.models.dla.AggregationTree` runs."""

    def __init__(self, walk: _Walk, architecture: DlaArchitecture, unreachable: bool) -> None:
        self._walk = walk
        self._architecture = architecture
        self._unreachable = unreachable
        self._trees = {tree.path: tree for tree in dla_trees(architecture)}
        self._blocks = {place["node"]: place for place in places(architecture, IMAGENET_CLASSES)["block"]}

    def tree(self, path: str, x: _Map) -> _Map:
        tree = self._trees[path]
        is_leaf = tree.levels == 1
        projects = tree.in_channels != tree.out_channels and (is_leaf or self._unreachable)
        if tree.is_level_root or is_leaf or projects:
            self._shortcut(tree, x, projects=projects)
        if not is_leaf:
            return self.tree(f"{path}.tree2", self.tree(f"{path}.tree1", x))
        for node in (f"{path}.tree1", f"{path}.tree2"):
            x = _block(self._walk, f"backbone.{node}", self._architecture, self._blocks[node], x)
        children = _Map(tree.root_channels, x.height, x.width)
        root = f"backbone.{path}.root"
        x = self._walk.convolution(f"{root}.conv", children, tree.out_channels, 1)
        return self._walk.relu(f"{root}.relu", self._walk.batch_norm(f"{root}.bn", x))

    def _shortcut(self, tree: Tree, x: _Map, *, projects: bool) -> None:
        path = f"backbone.{tree.path}"
        if tree.stride > 1:
            x = self._walk.pool(f"{path}.pool", "MaxPool2d", x, tree.stride, tree.stride)
        else:
            x = self._walk.identity(f"{path}.pool", x)
        if projects:
            x = self._walk.convolution(f"{path}.project.0", x, tree.out_channels, 1)
            self._walk.batch_norm(f"{path}.project.1", x)
