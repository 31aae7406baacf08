"""The reference networks: the ResNet-shaped ones, built from their architecture, and loaded from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from r2convert.catalog.geometry import STEM_CHANNELS, Place, places
from r2convert.catalog.variant import IMAGENET_CLASSES, StagedArchitecture, Variant
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.open import Checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import CatalogError
from r2convert.mapping.identity import Resolution
from r2convert.mapping.plan import make_plan, target_tensor
from r2convert.mapping.tables import CANONICAL, Expansion
from r2convert.models.blocks import (
    Backbone,
    BlockSpec,
    Classifier,
    ConvBnRelu,
    FeatureExtractor,
    LinearHead,
    Res2NetBlock,
    block_spec,
)
from r2convert.models.dla import DlaBackbone

_SHOWN = 5


def build_network(variant: Variant, *, classes: int = IMAGENET_CLASSES, unreachable: bool = False) -> Classifier:
    """Build a variant's network, with the ``mm`` layout as its state-dict names.

    Build under ``torch.device("meta")`` to count without using memory.

    Args:
        variant: which network.
        classes: outputs of the classifier.
        unreachable: include the layers that the official DLA code runs although nothing reads their result.

    Returns:
        A network in training mode with freshly initialised weights: images (N, 3, H, W) -> logits (N, classes).
    """
    (whole,) = places(variant.architecture, classes)["network"]
    backbone = _build_backbone(variant, unreachable=unreachable)
    return Classifier(backbone, LinearHead(int(whole["features"]), classes))


def _build_backbone(variant: Variant, *, unreachable: bool = False) -> Backbone:
    architecture = variant.architecture
    if isinstance(architecture, StagedArchitecture):
        return StagedBackbone(architecture)
    return DlaBackbone(architecture, unreachable=unreachable)


def load_network(checkpoint: Checkpoint, resolution: Resolution) -> Classifier:
    """Build the reference network with a checkpoint's weights, strictly: every tensor has to be there.

    Half-precision weights are widened to float32, which changes no value.

    Returns:
        The network in evaluation mode, in float32 (float64 for a float64 file).

    Raises:
        MappingError: a tensor of the network has no source, such as the classifier of a backbone file.
        CatalogError: the family's table does not describe this network.
        CheckpointError: the file's bytes are damaged.
    """
    identity = resolution.identity
    with torch.device("meta"):
        network = build_network(identity.variant, classes=identity.classes)
    _load(network, checkpoint, resolution)
    return network


def load_features(checkpoint: Checkpoint, resolution: Resolution) -> FeatureExtractor:
    """Build the backbone alone with a checkpoint's weights, strictly; a classifier in the file is left out.

    Returns:
        The network in evaluation mode, in float32 (float64 for a float64 file).

    Raises:
        MappingError: a tensor of the backbone has no source.
        CatalogError: the family's table does not describe this network.
        CheckpointError: the file's bytes are damaged.
    """
    with torch.device("meta"):
        network = FeatureExtractor(_build_backbone(resolution.identity.variant))
    _load(network, checkpoint, resolution)
    return network


def _load(network: Classifier | FeatureExtractor, checkpoint: Checkpoint, resolution: Resolution) -> None:
    backbone_only = isinstance(network, FeatureExtractor)
    identity = resolution.identity
    slots = resolution.expansion.names(identity.layout)
    # Counters of training steps are not read in evaluation: it does not matter whether a cast has overflowed them.
    tensors = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if not (name in slots and slots[name].is_counter and tensor.dtype is not DType.INT64)
    }
    plan = make_plan(resolution.expansion, identity.layout, CANONICAL, tensors, backbone_only=backbone_only)
    if not backbone_only and not identity.has_classifier:
        advice = "the file is a backbone without its classifier; load_model(..., features_only=True) loads it in Python"
        plan = replace(plan, advice=advice)
    plan.require_clean(str(checkpoint.path))
    require_agreement(resolution.expansion, network)
    state: dict[str, Tensor] = {}
    for row in plan.rows:
        if row.source is not None and row.target is not None:
            state[row.target] = _tensor(checkpoint, target_tensor(plan, row, checkpoint.tensors[row.source]))
        elif row.target is not None:
            state[row.target] = torch.tensor(0)
    network.load_state_dict(state, strict=True, assign=True)
    network.eval()


def require_agreement(expansion: Expansion, network: Classifier | FeatureExtractor) -> None:
    """Check a family table against the network that is built: a user's table may contradict it.

    Args:
        expansion: the table, filled in for the network.
        network: the network, with its classifier or without; the meta device is enough.

    Raises:
        CatalogError: names or shapes differ, each with the line of the table.
    """
    built = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    part = "backbone." if isinstance(network, FeatureExtractor) else ""
    named = {name: slot for name, slot in expansion.names(CANONICAL).items() if name.startswith(part)}
    problems = []
    for name, slot in named.items():
        if name not in built:
            problems.append(f"{slot.where[CANONICAL]}: the network has no {name}")
        elif built[name] != slot.shape:
            problems.append(f"{slot.where[CANONICAL]}: {name} is {slot.shape}, in the network {built[name]}")
    problems += [
        f"{expansion.table.paths[0]}: no row names the network's {name}" for name in built if name not in named
    ]
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise CatalogError(
            f"the table {expansion.table.family!r} does not describe the network {expansion.variant.id}",
            where="\n            ".join([*problems[:_SHOWN], *more]),
            next_step="correct the lines named above, or what the architecture's file says is computed",
        )


def _tensor(checkpoint: Checkpoint, info: TensorInfo) -> Tensor:
    array = torch.from_numpy(checkpoint.array(info))
    if info.dtype is DType.BFLOAT16:
        array = array.view(torch.bfloat16)
    return array.float() if info.dtype in (DType.BFLOAT16, DType.FLOAT16) else array


class StagedBackbone(Backbone):
    """Stem and four stages of Res2Net blocks: Res2Net and Res2NeXt v1, v1b, and PaddleClas' vd.

    Args:
        architecture: the variant's facts.
    """

    def __init__(self, architecture: StagedArchitecture) -> None:
        super().__init__()
        self.deep_stem = architecture.stem == "deep"
        if self.deep_stem:
            self.stem = nn.Sequential(
                ConvBnRelu(architecture.in_channels, 32, 2), ConvBnRelu(32, 32, 1), ConvBnRelu(32, STEM_CHANNELS, 1)
            )
        else:
            self.conv1 = nn.Conv2d(architecture.in_channels, STEM_CHANNELS, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks = places(architecture, IMAGENET_CLASSES)["block"]
        for index in range(len(architecture.stage_blocks)):
            stage = [_block(architecture, place) for place in blocks if place["stage"] == index]
            self.add_module(f"layer{index + 1}", nn.Sequential(*stage))
        self.channels = tuple(int(block["out"]) for block in blocks if block["block"] == 0)

    def stage_outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The output of each of the four stages in turn."""
        x = self.stem(x) if self.deep_stem else self.relu(self.bn1(self.conv1(x)))
        x = self.maxpool(x)
        for index in range(len(self.channels)):
            x = self.get_submodule(f"layer{index + 1}")(x)
            yield x


def _block(architecture: StagedArchitecture, place: Place) -> Res2NetBlock:
    spec = block_spec(architecture, place, pool_counts_padding=architecture.pool_counts_padding)
    return Res2NetBlock(spec, _shortcut(architecture, spec) if place["block"] == 0 else None)


def _shortcut(architecture: StagedArchitecture, spec: BlockSpec) -> nn.Sequential:
    bn = nn.BatchNorm2d(spec.out_channels)
    if architecture.shortcut == "strided-conv":
        return nn.Sequential(nn.Conv2d(spec.in_channels, spec.out_channels, 1, spec.stride, bias=False), bn)
    # In v1b the pool is there for stride 1 too, where it changes nothing: operation counts include it.
    pool: nn.Module = nn.AvgPool2d(spec.stride, spec.stride, ceil_mode=True, count_include_pad=False)
    if architecture.shortcut == "pooled-if-strided" and spec.stride == 1:
        pool = nn.Identity()
    return nn.Sequential(pool, nn.Conv2d(spec.in_channels, spec.out_channels, 1, bias=False), bn)
