"""The ResNet-shaped networks: Res2Net and Res2NeXt v1, v1b, and PaddleClas' vd."""

from __future__ import annotations

from torch import Tensor, nn

from r2convert.catalog.geometry import STAGE_PLANES, STAGED_EXPANSION, STEM_CHANNELS, split_width
from r2convert.catalog.variant import StagedArchitecture
from r2convert.models.blocks import BlockSpec, ConvBnRelu, Res2NetBlock

FEATURES = STAGE_PLANES[-1] * STAGED_EXPANSION


class StagedBackbone(nn.Module):
    """Stem and four stages of Res2Net blocks.

    Args:
        architecture: the variant's facts.
    """

    def __init__(self, architecture: StagedArchitecture) -> None:
        super().__init__()
        self.deep_stem = architecture.stem == "deep"
        if self.deep_stem:
            self.stem = nn.Sequential(ConvBnRelu(3, 32, 2), ConvBnRelu(32, 32, 1), ConvBnRelu(32, STEM_CHANNELS, 1))
        else:
            self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        in_channels = STEM_CHANNELS
        for index, planes in enumerate(STAGE_PLANES):
            self.add_module(f"layer{index + 1}", _stage(architecture, index, in_channels))
            in_channels = planes * STAGED_EXPANSION

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> features (N, 2048, H / 32, W / 32), sizes rounded up."""
        x = self.stem(x) if self.deep_stem else self.relu(self.bn1(self.conv1(x)))
        x = self.maxpool(x)
        for index in range(len(STAGE_PLANES)):
            x = self.get_submodule(f"layer{index + 1}")(x)
        return x


def _stage(architecture: StagedArchitecture, index: int, in_channels: int) -> nn.Sequential:
    planes = STAGE_PLANES[index]
    out_channels = planes * STAGED_EXPANSION
    stride = 1 if index == 0 else 2
    blocks = []
    for block in range(architecture.stage_blocks[index]):
        first = block == 0
        spec = BlockSpec(
            in_channels=in_channels if first else out_channels,
            out_channels=out_channels,
            width=split_width(planes, architecture.base_width, architecture.cardinality),
            scales=architecture.scales,
            cardinality=architecture.cardinality,
            stride=stride if first else 1,
            kind=architecture.first_block if first and index == 0 else ("stage" if first else "normal"),
            pool_counts_padding=architecture.pool_counts_padding,
        )
        blocks.append(Res2NetBlock(spec, _shortcut(architecture, spec) if first else None))
    return nn.Sequential(*blocks)


def _shortcut(architecture: StagedArchitecture, spec: BlockSpec) -> nn.Sequential:
    bn = nn.BatchNorm2d(spec.out_channels)
    if architecture.shortcut == "strided-conv":
        return nn.Sequential(nn.Conv2d(spec.in_channels, spec.out_channels, 1, spec.stride, bias=False), bn)
    # In v1b the pool is there for stride 1 too, where it changes nothing: operation counts include it.
    pool: nn.Module = nn.AvgPool2d(spec.stride, spec.stride, ceil_mode=True, count_include_pad=False)
    if architecture.shortcut == "pooled-if-strided" and spec.stride == 1:
        pool = nn.Identity()
    return nn.Sequential(pool, nn.Conv2d(spec.in_channels, spec.out_channels, 1, bias=False), bn)
