"""Published numbers, and what was measured held against them.

Counts speak of an architecture, each in its publisher's own convention. A published accuracy speaks of one
publisher's file on all 50,000 images: it counts for a file only if the file is that publisher's (told by its SHA-256,
or by the receipt of its conversion) or at least has the publisher's layout; other publishers' numbers are shown, and
judged ``not-comparable``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from r2convert.catalog.printed import cut_interval, images_of, printed_interval, readable
from r2convert.catalog.variant import IMAGENET_CLASSES, Claim, Publisher, Variant
from r2convert.checks.counting import OperationCount, count_operations, shown_size
from r2convert.evaluation.statistics import judge_sample
from r2convert.mapping.tables import CANONICAL, Expansion
from r2convert.results.verdicts import Check, Verdict
from r2convert.results.verification import IMAGENET_INPUT

if TYPE_CHECKING:
    from r2convert.results.verification import Accuracy


def claim_check(claim: Claim, verdict: Verdict, measured: int | None, note: str = "") -> Check:
    """A check of a published number."""
    return Check(
        metric=claim.metric,
        verdict=verdict,
        source=claim.source,
        convention=claim.convention,
        published=claim.printed,
        unit=claim.unit,
        measured=measured,
        note=note,
    )


def judge_count(claim: Claim, measured: int, explained: int | None = None, note: str = "") -> Check:
    """Hold a count against the interval its claim stands for.

    Args:
        claim: a claim on parameters, FLOPs or activations.
        measured: the count in the claim's own convention.
        explained: the count in the convention that the claim's recorded deviation names, if it names one.
        note: what to say with the check in any case.
    """
    if measured in printed_interval(claim):
        return claim_check(claim, "pass", measured, note)
    deviation = claim.deviation
    if deviation is not None:
        by_rounding = deviation.rounding == "cut" and measured in cut_interval(claim)
        by_convention = explained is not None and explained in printed_interval(claim)
        if by_rounding or by_convention:
            return claim_check(claim, "known-deviation", measured, "; ".join(filter(None, (deviation.note, note))))
    off = f"{claim.printed} {claim.unit} stands for {printed_interval(claim)}"
    return claim_check(claim, "fail", measured, "; ".join(filter(None, (off, note))))


PIPELINE_NOISE = 25
"""Images (0.05 %) by which a sound run can miss a printed number: another JPEG decoder, another device."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose weights a file holds.

    Args:
        publisher: the publisher, or ``None`` if nothing tells.
        certain: whether a digest proves it; otherwise the layout suggests it.
    """

    publisher: Publisher | None
    certain: bool


def origin_of(variant: Variant, layout: str, digests: tuple[str, ...]) -> Origin:
    """Tell whose weights a file holds.

    Args:
        variant: the network.
        layout: the file's layout.
        digests: SHA-256 of the file and of the file it was converted from, as far as known.
    """
    for source in variant.sources:
        known = source.sha256 or source.sha256_prefix
        if known and any(digest.startswith(known) for digest in digests):
            return Origin(source.publisher, certain=True)
    for source in variant.sources:
        if source.layout == layout:
            return Origin(source.publisher, certain=False)
    return Origin(variant.sources[0].publisher if variant.sources else None, certain=False)


def accuracy_checks(variant: Variant, accuracy: Accuracy, origin: Origin, *, full_set: bool) -> Iterator[Check]:
    """Judge every published accuracy.

    Args:
        variant: the network.
        accuracy: what was measured.
        origin: whose weights the file holds.
        full_set: whether the images are those of the validation set, all 50,000 or a random part of them.
    """
    measured = {
        "top1": (accuracy.top1_correct, accuracy.images),
        "top5": (accuracy.top5_correct, accuracy.images),
        "real_top1": (accuracy.real_top1_correct, accuracy.real_images),
    }
    for claim in variant.claims:
        correct, images = measured.get(claim.metric, (0, 0))
        if images:
            yield _check(claim, correct, images, accuracy, origin, full_set=full_set)


def lowest_published_top1(variant: Variant, origin: Origin) -> int | None:
    """The fewest images right at top-1 that any number counting for a file stands for; ``None`` if none counts."""
    counting = [claim for claim in variant.claims_on("top1") if claim.publisher == origin.publisher]
    return min((printed_interval(claim).first for claim in counting), default=None)


def _check(claim: Claim, correct: int, images: int, accuracy: Accuracy, origin: Origin, *, full_set: bool) -> Check:
    if not full_set:
        note = f"measured on {accuracy.images:,} images, published for the 50,000 of the validation set"
        return claim_check(claim, "not-comparable", correct, note)
    if claim.publisher != origin.publisher:
        return claim_check(claim, "not-comparable", correct, f"published for the file of {claim.publisher}")
    if accuracy.pipeline != _pipeline_of(claim):
        note = f"published with the {_pipeline_of(claim)} pipeline, measured with {accuracy.pipeline}"
        return claim_check(claim, "not-comparable", correct, note)
    notes = [] if origin.certain else [f"taken for the weights of {origin.publisher}; no digest proves it"]
    if images < images_of(claim):
        return _check_sample(claim, correct, images, notes)
    return _check_whole(claim, correct, notes)


def _pipeline_of(claim: Claim) -> str:
    return "opencv" if claim.publisher == "paddle" else "pil"


def _check_whole(claim: Claim, correct: int, notes: list[str]) -> Check:
    """All images: the count is inside the printed interval or it is so many images outside."""
    interval = printed_interval(claim)
    off = interval.distance(correct)
    if off == 0:
        return claim_check(claim, "pass", correct, "; ".join(notes))
    way = "more" if off > 0 else "fewer"
    notes.insert(0, f"{abs(off):,} images {way} than {claim.printed} {claim.unit} allows ({interval})")
    if abs(off) <= PIPELINE_NOISE:
        notes.insert(1, f"another decoder or device can account for {PIPELINE_NOISE}")
        return claim_check(claim, "inconclusive", correct, "; ".join(notes))
    return claim_check(claim, "fail", correct, "; ".join(notes))


def _check_sample(claim: Claim, correct: int, images: int, notes: list[str]) -> Check:
    """A random part of the images: an exact hypergeometric test of the printed interval."""
    interval, whole = printed_interval(claim), images_of(claim)
    said = judge_sample(correct, images, (interval.first, interval.last), whole)
    notes.insert(
        0,
        f"{correct:,} of {images:,} images is {said.consistency} with {readable(claim.printed, claim.unit)} "
        f"(p = {said.probability:.2g}; 99.9 % interval {100 * said.low:.1f}..{100 * said.high:.1f} %)",
    )
    verdicts: dict[str, Verdict] = {"consistent": "pass", "inconsistent": "fail", "inconclusive": "inconclusive"}
    return claim_check(claim, verdicts[said.consistency], correct, "; ".join(notes))


@dataclass
class PublishedNumbers:
    """Counts of one variant and the claims on them.

    Args:
        expansion: the variant's tensors, with the classes of the file in hand.
        stored: elements of each tensor of the file, by the slot's key; ``None`` to count the reference network itself.
        input_size: height and width of the image to count operations for; claims are for 224x224.
    """

    expansion: Expansion
    stored: Mapping[str, int] | None = None
    input_size: tuple[int, int] = IMAGENET_INPUT
    _operations: dict[bool, OperationCount] = field(default_factory=dict)

    def checks(self) -> list[Check]:
        """Every claim on parameters, FLOPs and activations, in the order of the catalogue."""
        claims = [claim for claim in self.expansion.variant.claims if claim.metric in _JUDGED]
        return [self._check(claim) for claim in claims]

    def parameters(self, layout: str, *, statistics: bool = False) -> tuple[int, int]:
        """Count parameters as a layout stores them.

        Args:
            layout: whose tensors to count.
            statistics: count the running mean and variance of BatchNorms too.

        Returns:
            The parameters, and how many of them are in layers that the file at hand leaves out.
        """
        counted = absent = 0
        for slot in self.expansion.names(layout).values():
            if slot.is_counter or not (slot.is_learned or statistics):
                continue
            elements = prod(slot.shape)
            if self.stored is not None:
                absent += 0 if slot.key in self.stored else elements
                elements = self.stored.get(slot.key, elements)
            counted += elements
        return counted, absent

    def operations(self, *, unreachable: bool) -> OperationCount:
        """Operations for one image, with or without the layers whose result nothing reads."""
        if unreachable not in self._operations:
            self._operations[unreachable] = count_operations(
                self.expansion.variant,
                input_size=self.input_size,
                classes=self.expansion.classes,
                unreachable=unreachable,
            )
        return self._operations[unreachable]

    def operations_of(self, layout: str) -> OperationCount:
        """Operations for one image, of the layers that files in a layout store."""
        return self.operations(
            unreachable=any(slot.canonical is None for slot in self.expansion.names(layout).values())
        )

    def _check(self, claim: Claim) -> Check:
        if self.expansion.classes != IMAGENET_CLASSES:
            note = f"published for {IMAGENET_CLASSES} classes; this file has {self.expansion.classes}"
            return claim_check(claim, "not-comparable", None, note)
        layout = self._layout_of(claim)
        if claim.metric == "parameters":
            return self._check_parameters(claim, layout)
        return self._check_operations(claim, self.operations_of(layout))

    def _check_operations(self, claim: Claim, operations: OperationCount) -> Check:
        convention = "activations" if claim.metric == "activations" else claim.convention or "macs"
        measured = operations.by_convention(convention)
        if self.input_size != IMAGENET_INPUT:
            note = f"published for {shown_size(IMAGENET_INPUT)} images, counted for {shown_size(self.input_size)}"
            return claim_check(claim, "not-comparable", measured, note)
        explained = claim.deviation.convention if claim.deviation else None
        return judge_count(claim, measured, operations.by_convention(explained) if explained else None)

    def _check_parameters(self, claim: Claim, layout: str) -> Check:
        measured, absent = self.parameters(layout, statistics=claim.convention == "weights+statistics")
        note = f"{absent:,} of them in unreachable layers, which this file leaves out" if absent else ""
        return judge_count(claim, measured, note=note)

    def _layout_of(self, claim: Claim) -> str:
        """The layout of the file that a claim speaks of: publishers count what their own file stores."""
        for source in self.expansion.variant.sources:
            if source.publisher == claim.publisher and source.layout in self.expansion.table.layouts:
                return source.layout
        return CANONICAL


_JUDGED = ("parameters", "flops", "activations")
