"""What `verify` finds: every check, and what was counted and measured for them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import nan
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import force_setattr, replace

from r2convert.catalog.protocol import PIPELINES, Protocol
from r2convert.catalog.variant import Dataset
from r2convert.results.verdicts import Check, Count, Digest, Number, Verdict, overall

TOLERANCE = 1e-9
"""Outputs are equal up to this share of their largest value: far above what the order of float64 sums changes (4e-16
was measured), far below what one changed weight does."""

IMAGENET_INPUT = (224, 224)
"""Height and width in pixels of the image that published operations are counted for."""

CONFUSIONS_KEPT, CONFUSION_EXAMPLES = 50, 4
"""Pairs of classes that results list, and images of each: results of many networks stay small enough to mail."""

_MOST_CHECKS = _MOST_RESULTS = 1_000
_MOST_LAYERS = _MOST_CLASSES = _MOST_WORDS = 10_000
_MOST_DTYPES = 100
_MOST_IMAGES = 100_000


class Confusion(Struct, frozen=True):
    """Images of one class that were taken for another.

    Args:
        label: WordNet id of the class they are labelled with
        predicted: WordNet id of the class that was ranked first
        count: how many images
        images: ids of the first few of them, in the order of the set
    """

    label: str
    predicted: str
    count: Count
    images: Annotated[tuple[str, ...], Meta(max_length=CONFUSION_EXAMPLES)]


class PrecisionAudit(Struct, frozen=True):
    """What a faster precision changed, among the images that were run in strict float32 as well.

    Args:
        first_precision: what all images were run in
        images: images run in both
        changed_top1: images whose first class differed
        changed_top1_correct: images that were correct in one precision and wrong in the other
        changed_top5_correct: the same for the first five
        largest_drift: the largest difference of a margin between two logits
        bound: for `fast`: every image with a margin of at most this counts as strict predicts it; twice the drift
    """

    first_precision: str
    images: Count
    changed_top1: Count
    changed_top1_correct: Count
    changed_top5_correct: Count
    largest_drift: Number
    bound: Number | None = None


class Speed(Struct, frozen=True):
    """How fast the network ran in the last run, all processes together.

    Args:
        images: images that it was run on
        seconds: from requesting the first batch to finishing the last, loading included; of the slowest process
        images_per_second: the first divided by the second
        batch_size: images per batch of a process
        batch_milliseconds: median time that a device worked on a batch
        busy: share of the seconds in which a device worked on the network, 0 to 1
        peak_bytes: peak memory of one process: of tensors on a CUDA device, else of the whole process
    """

    images: Count
    seconds: Number
    images_per_second: Number
    batch_size: Count
    batch_milliseconds: Number
    busy: Number
    peak_bytes: Count


class Accuracy(Struct, frozen=True):
    """Exact counts of one network on one set; every count is out of `images`.

    Args:
        images: images of the set, missing and unreadable ones included; those count as wrong
        top1_correct: images whose label is ranked first
        top5_correct: images whose label is among the first five
        missing: images that the set should have but does not
        unreadable: images that are there and could not be decoded
        not_a_number: images for which the network's output was NaN; they count as wrong
        pipeline: how crops were made: `pil` or `opencv`
        precision: how the network was run: `strict`, `fast`, `fp32`, `tf32`, `bf16` or `fp16`
        crops_sha256: SHA-256 over the SHA-256 digests of all crops in order (32 zero bytes where there is none): in
            two measurements with the same digest, the networks saw the same pixels
        real_images: images that have ReaL labels; 0 unless the files have the official names
        real_top1_correct: those of them whose first class is one of their ReaL labels
        real_top5_correct: those of them that have one of their ReaL labels among the first five
        audit: for other precisions than `strict`: what was found when images were run again in strict float32
        per_class: by class (its WordNet id, for ImageNet): images of the class, and those whose label is ranked first
        confusions: the pairs of classes confused most often
        problems: id and reason of every missing or unreadable image, in order
        accelerations: the optimisations in use
        protocol: how images were prepared
        dataset: the published set that the images are, all of it or a random sample
        speed: how fast that was; absent if everything came from an earlier run
    """

    images: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    top1_correct: Count
    top5_correct: Count
    missing: Count
    unreadable: Count
    not_a_number: Count = 0
    pipeline: str = "pil"
    precision: str = "strict"
    crops_sha256: Digest = ""
    real_images: Count = 0
    real_top1_correct: Count = 0
    real_top5_correct: Count = 0
    audit: PrecisionAudit | None = None
    per_class: Annotated[dict[str, tuple[Count, Count]], Meta(max_length=_MOST_CLASSES)] = {}
    confusions: Annotated[tuple[Confusion, ...], Meta(max_length=CONFUSIONS_KEPT)] = ()
    problems: Annotated[tuple[tuple[str, str], ...], Meta(max_length=_MOST_IMAGES)] = ()
    accelerations: Annotated[tuple[str, ...], Meta(max_length=_MOST_WORDS)] = ()
    protocol: Protocol | None = None
    speed: Speed | None = None
    dataset: Dataset | None = None

    def __post_init__(self) -> None:
        """Refuse counts that no measurement gives.

        Raises:
            ValueError: more images are correct than there are.
        """
        if self.protocol is not None:
            # Older documents have it beside the protocol only.
            pipeline = next((each for each in PIPELINES if each == self.pipeline), self.protocol.pipeline)
            force_setattr(self, "protocol", replace(self.protocol, pipeline=pipeline))
        for name in ("top1_correct", "top5_correct"):
            if getattr(self, name) > self.images:
                raise ValueError(f"Expected `{name}` of at most {self.images:,} images")
        for name, (images, right) in self.per_class.items():
            if not 0 < images >= right:
                raise ValueError(f"Expected `per_class.{name}` to be [images, those that are right]")


class LayerOperations(Struct, frozen=True):
    """What one layer costs for one image.

    Args:
        name: its module path
        kind: its class, e.g. `Conv2d`
        macs: multiply-adds
        mmcv: operations as mmcv 1.x counts them
        fvcore: operations as fvcore counts them
        activations: output elements, of convolutions and linear layers
    """

    name: str
    kind: str
    macs: Count = 0
    mmcv: Count = 0
    fvcore: Count = 0
    activations: Count = 0


class Operations(Struct, frozen=True):
    """What a network costs for one image.

    Args:
        input_size: height and width of the image in pixels
        macs: multiply-adds of convolutions and linear layers
        mmcv: operations as mmcv 1.x counts them
        fvcore: operations as fvcore counts them
        activations: output elements of convolutions and linear layers
        layers: every layer, with --by-layer
    """

    input_size: tuple[Count, Count]
    macs: Count
    mmcv: Count
    fvcore: Count
    activations: Count
    layers: Annotated[tuple[LayerOperations, ...], Meta(max_length=_MOST_LAYERS)] | None = None

    @classmethod
    def of(cls, input_size: tuple[int, int], layers: tuple[LayerOperations, ...]) -> Operations:
        """The operations of all layers, added up."""
        macs, mmcv, fvcore, activations = (
            sum(getattr(layer, name) for layer in layers) for name in ("macs", "mmcv", "fvcore", "activations")
        )
        return cls(input_size, macs, mmcv, fvcore, activations, layers)

    def by_convention(self, convention: str) -> int:
        """The count in ``macs``, ``mmcv`` or ``fvcore``, or the ``activations``."""
        count: int = getattr(self, convention)
        return count


def number(value: float | None) -> float:
    """A measured value for arithmetic; ``None`` stands for NaN."""
    return nan if value is None else value


class LayerWiring(Struct, frozen=True):
    """How well the input of one BatchNorm fits its running statistics; null stands for NaN.

    Args:
        name: its module path
        mean_shift: median over channels of |mean - running mean| / running standard deviation
        log_variance: median over channels of |log(variance / running variance)|
        mean_correlation: rank correlation over channels of mean with running mean
        variance_correlation: the same of the variances
        suspect: whether the two disagree
    """

    name: str
    mean_shift: Number | None
    log_variance: Number | None
    mean_correlation: Number | None = None
    variance_correlation: Number | None = None
    suspect: bool = False


class WiringResult(Struct, frozen=True):
    """What the wiring check found.

    Args:
        pictures: how many images were run
        source: the folder they are from; null for synthetic images
        layers: every BatchNorm, in network order
    """

    pictures: Count
    source: str | None
    layers: Annotated[tuple[LayerWiring, ...], Meta(max_length=_MOST_LAYERS)]

    @property
    def suspects(self) -> tuple[LayerWiring, ...]:
        """The layers that disagree, in network order."""
        return tuple(layer for layer in self.layers if layer.suspect)


class OutputDifference(Struct, frozen=True):
    """How far two outputs of one module are apart.

    Args:
        name: the module's path in the reference network
        max_abs_diff: the largest difference of two elements; null for different shapes or NaN
        relative: the same as a share of the largest element
    """

    name: str
    max_abs_diff: Number | None
    relative: Number | None

    @property
    def differs(self) -> bool:
        """Whether that is more than rounding."""
        return self.relative is None or self.relative > TOLERANCE

    @property
    def size(self) -> str:
        """How far, in words."""
        if self.max_abs_diff is None or self.relative is None:
            return "its shape, or values that are not numbers"
        return f"{self.max_abs_diff:.3g} ({100 * self.relative:.2g} % of its largest value)"


Outputs = Annotated[tuple[OutputDifference, ...], Meta(max_length=_MOST_LAYERS)]


class ActivationComparison(Struct, frozen=True):
    """Two networks' outputs, side by side, in network order.

    Args:
        equal: whether all outputs are equal up to rounding
        first_layer: the first layer whose outputs differ
        first_stage: the first stage whose outputs differ
        stages: of the stem, every stage, and the classifier
        layers: how many layers were compared
        by_layer: of every convolution, BatchNorm, pool and linear layer that both have
    """

    equal: bool
    first_layer: OutputDifference | None
    first_stage: OutputDifference | None
    stages: Outputs
    layers: Count
    by_layer: Outputs

    @classmethod
    def of(cls, by_layer: Outputs, stages: Outputs) -> ActivationComparison:
        """The comparison of these outputs."""
        first_layer, first_stage = (next((each for each in some if each.differs), None) for some in (by_layer, stages))
        return cls(first_layer is first_stage is None, first_layer, first_stage, stages, len(by_layer), by_layer)

    @property
    def parting(self) -> str:
        """Where two networks start to differ, in words."""
        firsts = (("layer", self.first_layer), ("stage", self.first_stage))
        return "; ".join(
            f"the first {kind} to differ is {first.name}, by {first.size}"
            for kind, first in firsts
            if first is not None
        )


class ParityResult(Struct, frozen=True):
    """How an independent implementation compares.

    Args:
        peer: its name
        version: its version
        incomparable: why it could not be compared
        refused: its error when it refused the file
        equal: whether all outputs are equal up to rounding; absent, like all that follows, if none were compared
        first_layer: the first layer whose outputs differ
        first_stage: the first stage whose outputs differ
        stages: of the stem, every stage, and the classifier
        layers: how many layers were compared
        by_layer: of every convolution, BatchNorm, pool and linear layer that both have
    """

    peer: str
    version: str
    incomparable: str | None = None
    refused: str | None = None
    equal: bool | UnsetType = UNSET
    first_layer: OutputDifference | UnsetType | None = UNSET
    first_stage: OutputDifference | UnsetType | None = UNSET
    stages: Outputs | UnsetType = UNSET
    layers: Count | UnsetType = UNSET
    by_layer: Outputs | UnsetType = UNSET

    @classmethod
    def of(cls, peer: str, version: str, outputs: ActivationComparison) -> ParityResult:
        """The result where outputs were compared."""
        return cls(
            peer,
            version,
            equal=outputs.equal,
            first_layer=outputs.first_layer,
            first_stage=outputs.first_stage,
            stages=outputs.stages,
            layers=outputs.layers,
            by_layer=outputs.by_layer,
        )

    @property
    def comparison(self) -> ActivationComparison | None:
        """The outputs side by side, computed from the outputs; ``None`` if none were compared."""
        if self.stages is UNSET:
            return None
        return ActivationComparison.of(() if self.by_layer is UNSET else self.by_layer, self.stages)


class CheckpointResult(Struct, frozen=True):
    """Everything found about one checkpoint.

    Args:
        variant: which network
        checkpoint: path of the file; null where the reference network alone was checked
        sha256: digest of the file
        content_hash: digest of the network it holds
        layout: whose names it has
        checks: what was checked, in order
        accuracy: what was measured on images; null without --imagenet
        operations: what the network costs for one image
        wiring: how well the input of each BatchNorm fits its running statistics, with --wiring
        parity: how an independent implementation compares, with --peer
        dtypes: element type -> how many tensors have it
        architectures: every network with these names and shapes, the one it is taken for first
        weights: id of the weights it holds, where that is proven
        evidence: why it is taken for this network
        warnings: what else the file holds, and what its program may compute differently
        verdict: over all checks
    """

    variant: str
    checkpoint: str | None
    sha256: Digest | None
    content_hash: Digest | None
    layout: str | None
    checks: Annotated[tuple[Check, ...], Meta(max_length=_MOST_CHECKS)]
    accuracy: Accuracy | None = None
    operations: Operations | None = None
    wiring: WiringResult | None = None
    parity: ParityResult | None = None
    dtypes: Annotated[dict[str, Count], Meta(max_length=_MOST_DTYPES)] = {}
    architectures: tuple[str, ...] = ()
    weights: str | None = None
    evidence: str | None = None
    warnings: tuple[str, ...] = ()
    verdict: Verdict = "not-comparable"

    @property
    def half_precision(self) -> str | None:
        """The element type of 16 bits that weights are stored in, if they are."""
        return next((dtype for dtype in ("float16", "bfloat16") if self.dtypes.get(dtype)), None)

    def __post_init__(self) -> None:
        """Compute the verdict from the checks, whatever the document says."""
        force_setattr(self, "verdict", overall(check.verdict for check in self.checks))


class Environment(Struct, frozen=True):
    """What a reader must know about the machine to judge the numbers.

    Args:
        r2convert: its version
        python: its version
        torch: its version
        numpy: its version
        pillow: its version
        platform: operating system and processor
        cores: processors
        date: when the run ended, UTC
        device: where networks ran, if they did
    """

    r2convert: str = ""
    python: str = ""
    torch: str = ""
    numpy: str = ""
    pillow: str = ""
    platform: str = ""
    cores: Count | None = None
    date: str = ""
    device: str | UnsetType = UNSET


def environment(device: str | None = None) -> Environment:
    """The environment of this process.

    Args:
        device: what networks ran on, if they did.
    """
    from importlib.metadata import version  # brings in zipfile, csv and email, none of which `inspect` needs

    return Environment(
        **{name: version(name) for name in ("r2convert", "torch", "numpy", "pillow")},
        python=platform.python_version(),
        platform=platform.platform(),
        cores=os.cpu_count(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        device=UNSET if device is None else device,
    )


class UncheckedFile(Struct, frozen=True):
    """A file among several that could not be checked.

    Args:
        checkpoint: its path
        kind: which error
        what: what went wrong
        where: where it happened
        expected: what should have been there
        got: what was there
        next_step: what can be done about it
    """

    checkpoint: str
    kind: str
    what: str
    where: str | None = None
    expected: str | None = None
    got: str | None = None
    next_step: str | None = None


class Verification(Struct, frozen=True, kw_only=True):
    """Everything found about every checkpoint.

    Args:
        schema: of this document
        command: the words of the command line
        environment: the machine
        results: one per checkpoint
        unchecked: the files that could not be checked while others were
        verdict: over all of them; fail where a file could not be checked
    """

    schema: Literal["r2convert.verify/1"] = "r2convert.verify/1"
    command: Annotated[tuple[str, ...], Meta(max_length=_MOST_WORDS)] | None = None
    environment: Environment = Environment()
    results: Annotated[tuple[CheckpointResult, ...], Meta(max_length=_MOST_RESULTS)]
    unchecked: Annotated[tuple[UncheckedFile, ...], Meta(max_length=_MOST_RESULTS)] = ()
    verdict: Verdict = "not-comparable"

    def __post_init__(self) -> None:
        """Compute the verdict from the results."""
        verdict = "fail" if self.unchecked else overall(result.verdict for result in self.results)
        force_setattr(self, "verdict", verdict)


def verification(
    results: Iterable[CheckpointResult],
    device: str | None = None,
    *,
    by_layer: bool = False,
    command: Sequence[str] | None = None,
    unchecked: Iterable[UncheckedFile] = (),
) -> Verification:
    """The results of one run.

    Args:
        results: one per checkpoint.
        device: what networks ran on, if they did.
        by_layer: keep the operations of every layer.
        command: the words of the command line.
        unchecked: files that could not be checked.
    """
    return Verification(
        command=None if command is None else tuple(command),
        environment=environment(device),
        results=tuple(result if by_layer else _without_layers(result) for result in results),
        unchecked=tuple(unchecked),
    )


def _without_layers(result: CheckpointResult) -> CheckpointResult:
    operations = result.operations
    return result if operations is None else replace(result, operations=replace(operations, layers=None))
