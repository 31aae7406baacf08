"""Deep layer aggregation (arXiv 1707.06484) with Res2Net blocks: Res2Net-DLA-60 and Res2NeXt-DLA-60."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from r2convert.catalog.geometry import Place, Tree, dla_trees, places
from r2convert.catalog.variant import IMAGENET_CLASSES, DlaArchitecture
from r2convert.models.blocks import Backbone, Res2NetBlock, block_spec


class DlaBackbone(Backbone):
    """Three plain convolutions and four aggregation trees.

    Args:
        architecture: the variant's facts.
        unreachable: also build and run the projections of trees deeper than one level, whose result nothing
            reads. The official code has them, so its parameter and operation counts include them.
    """

    def __init__(self, architecture: DlaArchitecture, *, unreachable: bool = False) -> None:
        super().__init__()
        channels = architecture.channels
        self.base_layer = _plain(architecture.in_channels, channels[0], kernel=7, stride=1)
        self.level0 = _plain(channels[0], channels[0], kernel=3, stride=1)
        self.level1 = _plain(channels[0], channels[1], kernel=3, stride=2)
        plan = _TreePlan(
            architecture,
            {tree.path: tree for tree in dla_trees(architecture)},
            {str(place["node"]): place for place in places(architecture, IMAGENET_CLASSES)["block"]},
            unreachable,
        )
        self.channels = tuple(channels[2:])
        for level in range(2, len(channels)):
            self.add_module(f"level{level}", AggregationTree(plan, f"level{level}"))

    def stage_outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The output of each of the four trees in turn."""
        x = self.level1(self.level0(self.base_layer(x)))
        for index in range(len(self.channels)):
            x = self.get_submodule(f"level{index + 2}")(x)
            yield x


@dataclass(frozen=True, slots=True)
class _TreePlan:
    architecture: DlaArchitecture
    trees: dict[str, Tree]
    blocks: dict[str, Place]
    unreachable: bool

    def block(self, node: str) -> Res2NetBlock:
        return Res2NetBlock(block_spec(self.architecture, self.blocks[node]))


class AggregationTree(nn.Module):
    """A tree of blocks whose root sees the outputs of both subtrees and of the children handed to it.

    Args:
        plan: the network's trees and block sizes.
        path: which of the trees this is.
    """

    def __init__(self, plan: _TreePlan, path: str) -> None:
        super().__init__()
        tree = plan.trees[path]
        self.is_leaf = tree.levels == 1
        self.level_root = tree.is_level_root
        self.pool: nn.Module = nn.MaxPool2d(tree.stride, tree.stride) if tree.stride > 1 else nn.Identity()
        projects = tree.in_channels != tree.out_channels and (self.is_leaf or plan.unreachable)
        self.project = _projection(tree) if projects else None
        if self.is_leaf:
            self.tree1: nn.Module = plan.block(f"{path}.tree1")
            self.tree2: nn.Module = plan.block(f"{path}.tree2")
            self.root = Root(tree.root_channels, tree.out_channels)
        else:
            self.tree1 = AggregationTree(plan, f"{path}.tree1")
            self.tree2 = AggregationTree(plan, f"{path}.tree2")

    def forward(self, x: Tensor, children: Sequence[Tensor] = ()) -> Tensor:
        """Compute the tree.

        Args:
            x: input, (N, in_channels, H, W).
            children: maps of the output's height and width for the root to see, in order.
        """
        bottom = self.pool(x) if self.level_root or self.is_leaf or self.project is not None else x
        shortcut = bottom if self.project is None else self.project(bottom)
        if self.level_root:
            children = [*children, bottom]
        if self.is_leaf:
            first: Tensor = self.tree1(x, shortcut)
            second: Tensor = self.tree2(first)
            result: Tensor = self.root([second, first, *children])
        else:
            # A deeper tree's shortcut goes nowhere: its first subtree makes its own from x.
            first = self.tree1(x)
            result = self.tree2(first, [*children, first])
        return result


class Root(nn.Module):
    """Aggregation: concatenate, 1x1 convolution, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (N, C_i, H, W) whose C_i add up to in_channels -> (N, out_channels, H, W)."""
        result: Tensor = self.relu(self.bn(self.conv(torch.cat(list(maps), dim=1))))
        return result


def _plain(in_channels: int, out_channels: int, *, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _projection(tree: Tree) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(tree.in_channels, tree.out_channels, 1, bias=False), nn.BatchNorm2d(tree.out_channels)
    )
