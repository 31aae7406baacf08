"""What is known about Res2Nets: plain, frozen values.

Four things are kept apart. A *layout* says whose names a file has and which *program* reads it; an *architecture* says
what is computed; *weights* say who trained it, where the files are and what was published about them. A
:class:`Variant` is what people name: an architecture with all weights that are known for it. The data lies in
``mappings/`` and is read by :mod:`r2convert.catalog.loading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.protocol import Protocol

IMAGENET_CLASSES = 1000
IMAGENET_IMAGES = 50_000
"""Images of the validation set."""

Dataset = Literal["imagenet", "imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r", "imagenette"]


class DatasetFacts(NamedTuple):
    """A labelled set that accuracies are published on: what it is called, and how many images it has."""

    name: str
    images: int


DATASETS: Mapping[Dataset, DatasetFacts] = {
    "imagenet": DatasetFacts("ImageNet-1k", IMAGENET_IMAGES),
    "imagenet-v2": DatasetFacts("ImageNet-V2", 10_000),
    "imagenet-sketch": DatasetFacts("ImageNet-Sketch", 50_889),
    "imagenet-a": DatasetFacts("ImageNet-A", 7_500),
    "imagenet-r": DatasetFacts("ImageNet-R", 30_000),
    "imagenette": DatasetFacts("Imagenette", 3_925),
}
"""Of ImageNet-A and -R only their own 200 classes are ranked, as their papers and timm do; ImageNet-V2 is the set of
matched frequency."""

WEIGHTS_LICENCE = "CC BY-NC-SA 4.0 (non-commercial)"
"""The licence of the official Res2Net weights, as their publisher states it in the Res2Net-PretrainedModels README."""

OFFICIAL_TABLE = "official README"
"""The source that everybody compares with: an architecture's name stands for the weights that it lists."""

Layout = str
"""The name of a layout, see :class:`LayoutFacts`."""

Publisher = str
"""Who publishes weights: ``official``, ``openmmlab``, ``timm``, ``paddle``, or whatever a mapping file says."""

PeerName = Literal["timm", "mmpretrain"]
"""A package with Res2Net implementations of its own, to load a file into and compare activations with."""

PEERS: tuple[PeerName, ...] = get_args(PeerName)

FileFormat = Literal["pth", "safetensors", "pdparams", "tar", "pkl", "ckpt"]
Metric = Literal["parameters", "flops", "activations", "top1", "top5", "real_top1", "real_top5"]
Unit = Literal["M", "G", "%", "error %", "fraction"]
Convention = Literal["macs", "mmcv", "fvcore", "fluid", "weights", "weights+statistics"]
FirstBlock = Literal["stage", "normal", "unpooled"]


class StagedArchitecture(Struct, frozen=True):
    """The ResNet-shaped networks: Res2Net, Res2NeXt, v1b and vd (four stages of bottleneck blocks).

    Args:
        family: whose names it has: ``res2net``, ``res2net_v1b`` or a family of the user's.
        depth: the number in the network's name (50, 101, 200).
        stage_blocks: blocks in each of the four stages.
        base_width: channels a split has in the first stage for cardinality 1 and 64 planes ("26w").
        scales: splits of a block ("4s").
        cardinality: groups of every 3x3 convolution ("8c").
        stem: ``conv7x7`` or ``deep`` (three 3x3 convolutions: 32, 32, 64 channels).
        shortcut: ``strided-conv`` (1x1 convolution with the stride), ``pooled`` (average pool with the
            stride, then a 1x1 convolution) or ``pooled-if-strided`` (the same without the pool in the first
            stage, whose stride is 1: equal numbers, one operation less to count).
        first_block: kind of ``layer1.0``: ``stage`` (no hierarchical adds, last split pooled), ``normal``
            (hierarchical adds, last split passed through) or ``unpooled`` (no hierarchical adds, last split
            passed through).
        pool_counts_padding: whether the 3x3 average pools of stage blocks count the zero padding.
        in_channels: channels of an image.
    """

    family: str
    depth: int
    stage_blocks: tuple[int, int, int, int]
    base_width: int
    scales: int
    cardinality: int
    stem: Literal["conv7x7", "deep"]
    shortcut: Literal["strided-conv", "pooled", "pooled-if-strided"]
    first_block: FirstBlock
    pool_counts_padding: bool
    in_channels: int = 3


class DlaArchitecture(Struct, frozen=True):
    """The deep-layer-aggregation networks: Res2Net-DLA-60 and Res2NeXt-DLA-60.

    Args:
        family: whose names it has: ``res2net_dla`` or a family of the user's.
        levels: tree depth of each of the six levels (levels 0 and 1 are plain convolutions).
        channels: output channels of each level.
        base_width: width numerator ("28w", "4w").
        scales: splits of a block.
        cardinality: groups of every 3x3 convolution.
        expansion: output channels divided by bottleneck planes.
        in_channels: channels of an image.
    """

    family: str
    levels: tuple[int, int, int, int, int, int]
    channels: tuple[int, int, int, int, int, int]
    base_width: int
    scales: int
    cardinality: int
    expansion: int
    in_channels: int = 3

    @property
    def depth(self) -> int:
        """Convolutions and the classifier: 3 plain ones, and 7 in every tree of one level."""
        return 3 + 7 * sum(1 << (level - 1) for level in self.levels[2:]) + 1


Architecture = StagedArchitecture | DlaArchitecture


class Semantics(NamedTuple):
    """What a program computes with the names of one family.

    Args:
        id: pattern of its architectures' ids, such as ``res2net{depth}_w{base_width}_s{scales}``.
        grouped_id: the same for those with a cardinality; ``None`` if the program has none.
        computed: what :class:`StagedArchitecture` says beyond the geometry; empty for DLA.
    """

    id: str
    grouped_id: str | None
    computed: Mapping[str, str | bool]


class Program(NamedTuple):
    """Code that builds networks and reads checkpoints.

    Args:
        id: its key in ``layouts.toml``.
        name: what it is called in messages.
        families: family -> what it computes with those names; it cannot build the others.
        depths: the depths it can build; empty: every depth.
        metadata: names that only this program writes beside the weights.
        cannot: why it cannot build the rest, in words.
    """

    id: str
    name: str
    families: Mapping[str, Semantics]
    depths: tuple[int, ...] = ()
    metadata: tuple[str, ...] = ()
    cannot: str = ""

    def builds(self, architecture: Architecture) -> bool:
        """Whether it can build a network of these names and this geometry, whatever it computes differently."""
        semantics = self.families.get(architecture.family)
        if semantics is None or (self.depths and architecture.depth not in self.depths):
            return False
        return architecture.cardinality == 1 or semantics.grouped_id is not None

    def as_computed(self, architecture: Architecture) -> Architecture:
        """The architecture that this program makes of these names and this geometry."""
        computed = self.families[architecture.family].computed
        return replace(architecture, **computed) if computed else architecture

    def id_of(self, architecture: Architecture) -> str:
        """The id of an architecture of this program, from its geometry."""
        semantics = self.families[architecture.family]
        pattern = semantics.id if architecture.cardinality == 1 else semantics.grouped_id or semantics.id
        words = {name: getattr(architecture, name) for name in ("depth", "base_width", "scales", "cardinality")}
        usual = STANDARD_STAGES.get(architecture.depth) if isinstance(architecture, StagedArchitecture) else None
        odd = isinstance(architecture, StagedArchitecture) and architecture.stage_blocks != usual
        blocks = "_b" + "-".join(map(str, architecture.stage_blocks)) if odd else ""  # type: ignore[union-attr]
        channels = f"_in{architecture.in_channels}" if architecture.in_channels != IMAGE_CHANNELS else ""
        return pattern.format(**words) + blocks + channels


STANDARD_STAGES: Mapping[int, tuple[int, int, int, int]] = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 12, 48, 3),
}
"""Depth -> blocks per stage, for the depths that mean the same to everybody."""

IMAGE_CHANNELS = 3


class LayoutFacts(NamedTuple):
    """A naming scheme: whose names a file has.

    Args:
        name: its name on the command line.
        reader: who reads it.
        program: what that reader computes, a key of ``[programs]``.
        suffixes: kind -> role -> what is appended to a module's name; an absent role is not stored.
        form: how the classifier weight is stored, if not as (classes, features).
        written_as: suffixes of the files it can be written into; none: it is only read.
        absent: why tensors are missing from it, or the empty string.
        caution: what its reader computes differently whatever the architecture, or the empty string.
        wrapper: the key that its pickles hold the tensors under, and what they hold beside it.
    """

    name: str
    reader: str
    program: str
    suffixes: Mapping[str, Mapping[str, str]]
    form: str | None
    written_as: tuple[str, ...]
    absent: str
    caution: str = ""
    wrapper: tuple[str, Mapping[str, str | bool]] | None = None

    @property
    def doubt(self) -> str:
        """A caveat about every file in this layout, or the empty string."""
        otherwise = f"this is another network if {self.reader} trained it: {self.caution}"
        return f"{otherwise}. Names and shapes fit, features differ" if self.caution else ""


class Lookalike(NamedTuple):
    """A network that is not a Res2Net of a known family.

    Args:
        name: template of a tensor name that only it has.
        description: what it is; ``{depth}`` stands for its depth.
        layers: template of the names of the layers that its depth counts besides stem and classifier.
    """

    name: str
    description: str
    layers: str = ""


class Source(Struct, frozen=True):
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
        content_hash: the content hash of the network in it, where known.
        weights: the id of the weights it holds.
    """

    publisher: Publisher
    layout: Layout
    format: FileFormat
    file_name: str
    urls: tuple[str, ...]
    sha256_prefix: str | None = None
    sha256: str | None = None
    size: int | None = None
    content_hash: str | None = None
    weights: str = ""


class Deviation(Struct, frozen=True):
    """Why a sound file measures outside a printed number: reasons that can themselves be checked, all together.

    Args:
        note: the reason, in words.
        rounding: ``cut`` if the publisher cut the digits instead of rounding them.
        zeros: how many zeros the publisher appended to the measured digits.
        convention: the counting convention that gives the printed number, if it is not the claim's own.
        network: id of the network whose number it is, if the publisher put it into the wrong row.
        counted: what is counted instead, if nothing explains the number.
    """

    note: str
    rounding: Literal["cut"] | None = None
    zeros: int = 0
    convention: Convention | None = None
    network: str | None = None
    counted: int | None = None


class Claim(Struct, frozen=True):
    """One published number, as its publisher printed it.

    Args:
        source: where it is printed, e.g. ``official README``.
        publisher: whose weights it is about.
        metric: what it counts.
        printed: the digits, exactly as printed.
        unit: ``M`` (1e6), ``G`` (1e9), ``%`` (of images), ``error %`` (100 - %), ``fraction`` (of images).
        convention: how it was counted, for parameters and FLOPs.
        deviation: the recorded reason why a sound file measures outside the printed interval, if one does.
        weights: the id of the weights it is about.
        dataset: what an accuracy was measured on.
    """

    source: str
    publisher: Publisher
    metric: Metric
    printed: str
    unit: Unit
    convention: Convention | None = None
    deviation: Deviation | None = None
    weights: str = ""
    dataset: Dataset = "imagenet"

    @property
    def where(self) -> str:
        """The source, and the data set unless it is ImageNet-1k."""
        return self.source if self.dataset == "imagenet" else f"{self.source}, {DATASETS[self.dataset].name}"


class Weights(Struct, frozen=True):
    """The result of one publisher's training of an architecture.

    Args:
        id: ``architecture.tag``, e.g. ``res2net50_w26_s8.timm``.
        name: another name that its publisher prints, or the empty string.
        aliases: further names.
        publisher: who publishes it.
        protocol: how the publisher measured.
        sources: files that hold it.
        claims: numbers published about it.
        classes: outputs of its classifier.
        page: where its publisher offers what cannot be fetched, or read, directly, or the empty string.
        detector: whether it is the backbone within a detector, which its files hold whole.
        note: what a reader must know, or the empty string.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    publisher: Publisher
    protocol: Protocol
    sources: tuple[Source, ...]
    claims: tuple[Claim, ...]
    classes: int = IMAGENET_CLASSES
    page: str = ""
    detector: bool = False
    note: str = ""

    @property
    def architecture(self) -> str:
        """The id of the architecture."""
        return self.id.partition(".")[0]

    def claim_on(self, metric: Metric, dataset: Dataset = "imagenet") -> Claim | None:
        """The first number published for a metric."""
        return next((claim for claim in self.claims if (claim.metric, claim.dataset) == (metric, dataset)), None)


class Variant(Struct, frozen=True):
    """A named network: its architecture, and the weights known for it.

    Args:
        id: the architecture's name, e.g. ``res2net50_w14_s8``.
        name: the name in the official table, e.g. ``Res2Net-50-14w-8s``.
        aliases: other names people use, as printed by their publishers.
        architecture: what the network computes.
        weights: whose weights are known, the ones that ``fetch`` gets first.
        note: what a reader must know, or the empty string.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    architecture: Architecture
    weights: tuple[Weights, ...] = ()
    note: str = ""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files of all its weights, in their order."""
        return tuple(source for weights in self.weights for source in weights.sources)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The numbers published about all its weights, in their order."""
        return tuple(claim for weights in self.weights for claim in weights.claims)

    def claims_on(self, metric: Metric, dataset: Dataset = "imagenet") -> tuple[Claim, ...]:
        """The published numbers for one metric, in the order of the files."""
        return tuple(claim for claim in self.claims if (claim.metric, claim.dataset) == (metric, dataset))

    def weights_called(self, weights_id: str) -> Weights | None:
        """The weights with this id, if they are among the known ones."""
        return next((weights for weights in self.weights if weights.id == weights_id), None)
