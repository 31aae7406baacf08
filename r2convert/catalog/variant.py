"""What is known about a Res2Net variant: plain, frozen values.

Facts come from the publishers named in each :class:`Claim` and :class:`Source`; the data lies in
``mappings/<variant>.toml`` and is read by :mod:`r2convert.catalog.loading`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IMAGENET_CLASSES = 1000
IMAGENET_IMAGES = 50_000
"""Images of the validation set."""

Layout = Literal["official", "mm", "mmdet", "timm", "paddle", "paddle-static"]
Publisher = Literal["official", "openmmlab", "timm", "paddle"]
FileFormat = Literal["pth", "safetensors", "pdparams", "tar"]
Metric = Literal["parameters", "flops", "activations", "top1", "top5", "real_top1", "real_top5"]
Convention = Literal["macs", "mmcv", "fvcore", "weights", "weights+statistics"]


@dataclass(frozen=True, slots=True)
class StagedArchitecture:
    """The ResNet-shaped networks: Res2Net, Res2NeXt, v1b and vd (four stages of bottleneck blocks).

    Args:
        family: ``res2net``, ``res2next``, ``res2net_v1b`` or ``res2net_vd``.
        depth: the number in the network's name (50, 101, 200).
        stage_blocks: blocks in each of the four stages.
        base_width: channels a split has in the first stage for cardinality 1 and 64 planes ("26w").
        scales: splits of a block ("4s").
        cardinality: groups of every 3x3 convolution ("8c").
        stem: ``conv7x7`` or ``deep`` (three 3x3 convolutions: 32, 32, 64 channels).
        shortcut: ``strided-conv`` (1x1 convolution with the stride), ``pooled`` (average pool with the
            stride, then a 1x1 convolution) or ``pooled-if-strided`` (the same without the pool in the first
            stage, whose stride is 1: equal numbers, one operation less to count).
        first_block: kind of ``layer1.0``: ``stage`` (no hierarchical adds, last split pooled) or ``normal``.
        pool_counts_padding: whether the 3x3 average pools of stage blocks count the zero padding.
    """

    family: str
    depth: int
    stage_blocks: tuple[int, int, int, int]
    base_width: int
    scales: int
    cardinality: int
    stem: Literal["conv7x7", "deep"]
    shortcut: Literal["strided-conv", "pooled", "pooled-if-strided"]
    first_block: Literal["stage", "normal"]
    pool_counts_padding: bool


@dataclass(frozen=True, slots=True)
class DlaArchitecture:
    """The deep-layer-aggregation networks: Res2Net-DLA-60 and Res2NeXt-DLA-60.

    Args:
        family: ``res2net_dla`` or ``res2next_dla``.
        levels: tree depth of each of the six levels (levels 0 and 1 are plain convolutions).
        channels: output channels of each level.
        base_width: width numerator ("28w", "4w").
        scales: splits of a block.
        cardinality: groups of every 3x3 convolution.
        expansion: output channels divided by bottleneck planes.
    """

    family: str
    levels: tuple[int, int, int, int, int, int]
    channels: tuple[int, int, int, int, int, int]
    base_width: int
    scales: int
    cardinality: int
    expansion: int


Architecture = StagedArchitecture | DlaArchitecture


@dataclass(frozen=True, slots=True)
class Source:
    """A file somebody publishes.

    Args:
        publisher: who publishes it.
        layout: whose key names it has.
        format: what it is stored as.
        file_name: its name in the cache; unique over the whole catalogue.
        urls: where to get it, first choice first, then mirrors of the same bytes.
        sha256_prefix: the first hex digits of its SHA-256, as published in the file name; ``None`` if unknown.
        sha256: its full SHA-256 where pinned.
        size: its size in bytes where pinned.
    """

    publisher: Publisher
    layout: Layout
    format: FileFormat
    file_name: str
    urls: tuple[str, ...]
    sha256_prefix: str | None = None
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Deviation:
    """Why a sound file measures outside a printed number: a reason that can itself be checked.

    Args:
        note: the reason, in words.
        rounding: ``cut`` if the publisher cut the digits instead of rounding them.
        convention: the counting convention that gives the printed number, if it is not the claim's own.
    """

    note: str
    rounding: Literal["cut"] | None = None
    convention: Convention | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """One published number, as its publisher printed it.

    Args:
        source: where it is printed, e.g. ``official README``.
        publisher: whose file it speaks of.
        metric: what it counts.
        printed: the digits, exactly as printed.
        unit: ``M`` (1e6), ``G`` (1e9), ``%`` (of images), ``error %`` (100 - %), ``fraction`` (of images).
        convention: how it was counted, for parameters and FLOPs.
        deviation: the recorded reason why a sound file measures outside the printed interval, if one does.
    """

    source: str
    publisher: Publisher
    metric: Metric
    printed: str
    unit: Literal["M", "G", "%", "error %", "fraction"]
    convention: Convention | None = None
    deviation: Deviation | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One network of the official table, with everything known about it.

    Args:
        id: the catalogue's own name, e.g. ``res2net50_w14_s8``.
        name: the name in the official table, e.g. ``Res2Net-50-14w-8s``.
        aliases: other names people use, as printed by their publishers.
        architecture: what the network computes.
        table: the family table in ``mappings/tables/`` that names its tensors.
        sources: files that hold its weights.
        claims: numbers published about it.
        note: what a reader must know, or the empty string.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    architecture: Architecture
    table: str
    sources: tuple[Source, ...]
    claims: tuple[Claim, ...]
    note: str = ""

    def claims_on(self, metric: Metric) -> tuple[Claim, ...]:
        """The published numbers for one metric, in the order of the file."""
        return tuple(claim for claim in self.claims if claim.metric == metric)
