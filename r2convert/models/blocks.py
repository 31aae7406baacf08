"""The Res2Net block (arXiv 1904.01169, figure 2b) and the small pieces every network here is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn

from r2convert.catalog.geometry import Place
from r2convert.catalog.variant import Architecture, FirstBlock


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """Everything a Res2Net block needs to know.

    Args:
        in_channels: channels of its input.
        out_channels: channels of its output.
        width: channels of one split.
        scales: number of splits.
        cardinality: groups of the 3x3 convolutions.
        stride: stride of the 3x3 convolutions.
        kind: ``normal`` (each split adds the previous one's result, the last passes through), ``stage``
            (no such additions, the last split is average-pooled) or ``unpooled`` (neither).
        pool_counts_padding: whether that pool counts the zero padding.
    """

    in_channels: int
    out_channels: int
    width: int
    scales: int
    cardinality: int
    stride: int
    kind: FirstBlock
    pool_counts_padding: bool = True


def block_spec(architecture: Architecture, place: Place, *, pool_counts_padding: bool = True) -> BlockSpec:
    """The sizes of the block at one of an architecture's places."""
    return BlockSpec(
        in_channels=int(place["in"]),
        out_channels=int(place["out"]),
        width=int(place["width"]),
        scales=architecture.scales,
        cardinality=architecture.cardinality,
        stride=int(place["stride"]),
        kind=cast("FirstBlock", place["kind"]),
        pool_counts_padding=pool_counts_padding,
    )


class Res2NetBlock(nn.Module):
    """A bottleneck whose 3x3 convolution is split into a hierarchy of scales.

    Args:
        spec: its sizes.
        downsample: the shortcut's own layers, where input and output differ and nobody hands a shortcut in.
    """

    def __init__(self, spec: BlockSpec, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.kind = spec.kind
        self.width = spec.width
        split_channels = spec.width * spec.scales
        self.conv1 = nn.Conv2d(spec.in_channels, split_channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(split_channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(spec.width, spec.width, 3, spec.stride, 1, groups=spec.cardinality, bias=False)
            for _ in range(spec.scales - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(spec.width) for _ in range(spec.scales - 1))
        self.conv3 = nn.Conv2d(split_channels, spec.out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(spec.out_channels)
        self.downsample = downsample
        self.relu = nn.ReLU(inplace=True)
        if spec.kind == "stage":
            self.pool = nn.AvgPool2d(3, spec.stride, 1, count_include_pad=spec.pool_counts_padding)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Compute the block.

        Args:
            x: input, (N, in_channels, H, W).
            shortcut: what to add to the result, (N, out_channels, H / stride, W / stride); by default the
                input, through ``downsample`` if there is one.
        """
        if shortcut is None:
            shortcut = x if self.downsample is None else self.downsample(x)
        splits = self.relu(self.bn1(self.conv1(x))).split(self.width, dim=1)
        merged = torch.cat([*self._hierarchy(splits), self._last(splits[-1])], dim=1)
        return self._activate(self.bn3(self.conv3(merged)) + shortcut)

    def _hierarchy(self, splits: tuple[Tensor, ...]) -> list[Tensor]:
        results: list[Tensor] = []
        for index, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            split = splits[index]
            if index > 0 and self.kind == "normal":
                split = split + results[-1]
            results.append(self._activate(bn(conv(split))))
        return results

    def _last(self, split: Tensor) -> Tensor:
        if self.kind != "stage":
            return split
        pooled: Tensor = self.pool(split)
        return pooled

    def _activate(self, x: Tensor) -> Tensor:
        activated: Tensor = self.relu(x)
        return activated


class ConvBnRelu(nn.Module):
    """A 3x3 convolution, BatchNorm and ReLU, with the names that OpenMMLab's ConvModule gives them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        result: Tensor = self.relu(self.bn(self.conv(x)))
        return result


REDUCTIONS: Final = (4, 8, 16, 32)
"""Pixels of the image, each way, that one pixel of a stage's output stands for: of all networks here."""


class Backbone(nn.Module):
    """A network up to its last feature maps.

    Attributes:
        channels: of each stage's output.
    """

    channels: tuple[int, ...]

    def stage_outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The output of each stage in turn: images (N, C, H, W) -> (N, channels, H / reduction, W / reduction)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> the last stage's output (N, channels, H / 32, W / 32), sizes rounded up."""
        features = x
        for features in self.stage_outputs(x):  # noqa: B007 - only the last one is kept
            pass
        return features


class FeatureExtractor(nn.Module):
    """A backbone without its head, as detection and segmentation use it; parameters have their ``mm`` names.

    Args:
        backbone: the network.

    Attributes:
        channels: of each output.
        reductions: pixels of the image, each way, that one pixel of each output stands for.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels, self.reductions = backbone.channels, REDUCTIONS

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalised images (N, 3, H, W) -> the outputs of the four stages, (N, channels, H / reduction, ...) each."""
        return tuple(self.backbone.stage_outputs(x))


class LinearHead(nn.Module):
    """Global average pool and linear classifier."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) -> logits (N, classes)."""
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits


class Classifier(nn.Module):
    """A backbone with its head: the shape of OpenMMLab's ImageClassifier, and so of the ``mm`` names."""

    def __init__(self, backbone: Backbone, head: LinearHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) -> logits (N, classes)."""
        logits: Tensor = self.head(self.backbone(x))
        return logits
