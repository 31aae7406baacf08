"""Published numbers, and what was measured held against them.

Counts speak of an architecture, each in its publisher's own convention. A published accuracy speaks of weights, on all
50,000 images: it counts for a file only if something proves that the file holds those weights. Other numbers are shown
beside what was measured, and judged ``not-comparable``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from r2convert.catalog.printed import cut_interval, images_of, printed_interval, readable
from r2convert.catalog.protocol import Protocol
from r2convert.catalog.variant import IMAGENET_CLASSES, Claim, Convention, Metric, Variant, Weights
from r2convert.checks.counting import OperationCount, count_operations, shown_size
from r2convert.evaluation.statistics import judge_sample
from r2convert.mapping.identity import Identity
from r2convert.mapping.tables import CANONICAL, Expansion
from r2convert.results.verdicts import ACCURACIES, Check, Verdict
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
        weights=(claim.weights or None) if claim.metric in ACCURACIES else None,
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


def likely_weights(identity: Identity) -> Weights | None:
    """Whose weights a file holds if it is a published one: those proven, or else the first ones in its layout.

    Only proven weights are judged by what was published about them; the others say what may be expected.
    """
    if identity.weights is not None:
        return identity.weights
    known = identity.variant.weights
    fitting = (each for each in known if any(source.layout == identity.layout for source in each.sources))
    return next(fitting, known[0] if known else None)


def accuracy_checks(
    variant: Variant, accuracy: Accuracy, weights: Weights | None, *, full_set: bool
) -> Iterator[Check]:
    """Hold every published accuracy against what was measured; it is judged for proven weights only.

    Args:
        variant: the network.
        accuracy: what was measured.
        weights: whose weights the file holds, where that is proven.
        full_set: whether the images are those of the validation set, all 50,000 or a random part of them.
    """
    measured = {
        "top1": (accuracy.top1_correct, accuracy.images),
        "top5": (accuracy.top5_correct, accuracy.images),
        "real_top1": (accuracy.real_top1_correct, accuracy.real_images),
        "real_top5": (accuracy.real_top5_correct, accuracy.real_images),
    }
    for claim in variant.claims:
        correct, images = measured.get(claim.metric, (0, 0))
        if images:
            yield _check(claim, correct, images, accuracy, weights, full_set=full_set)


def lowest_published_top1(weights: Weights | None) -> int | None:
    """The fewest images right at top-1 that any number published about weights stands for; ``None`` if none is."""
    counting = [claim for claim in weights.claims if claim.metric == "top1"] if weights else []
    return min((printed_interval(claim).first for claim in counting), default=None)


def _check(
    claim: Claim, correct: int, images: int, accuracy: Accuracy, weights: Weights | None, *, full_set: bool
) -> Check:
    if not full_set:
        note = f"measured on {accuracy.images:,} images, published for the 50,000 of the validation set"
        return claim_check(claim, "not-comparable", correct, note)
    if weights is None:
        return claim_check(claim, "not-comparable", correct, f"nothing proves that these are {claim.weights}")
    if claim.weights != weights.id:
        return claim_check(claim, "not-comparable", correct, f"published for {claim.weights}")
    otherwise = _measured_otherwise(accuracy, weights.protocol)
    if otherwise:
        return claim_check(claim, "not-comparable", correct, otherwise)
    if images < images_of(claim):
        return _check_sample(claim, correct, images, [])
    return _check_whole(claim, correct, [])


def _measured_otherwise(accuracy: Accuracy, published: Protocol) -> str:
    """How images were made ready otherwise than the publisher did it, or the empty string."""
    if accuracy.pipeline != published.pipeline:
        return f"published with the {published.pipeline} pipeline, measured with {accuracy.pipeline}"
    used = accuracy.protocol
    names = ("resize", "crop", "interpolation", "mean", "std")
    differing = [name for name in names if used is not None and getattr(used, name) != getattr(published, name)]
    if not differing:
        return ""
    first = differing[0]
    return f"published with {first} {getattr(published, first)}, measured with {getattr(used, first)}"


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
        """Every claim on parameters, FLOPs and activations, in the order of the catalogue; what else was counted."""
        claims = [claim for claim in self.expansion.variant.claims if claim.metric in _JUDGED]
        return [self._check(claim) for claim in claims] or self._measured()

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

    def _measured(self) -> list[Check]:
        """The counts of a network about which nothing is published."""
        operations = self.operations_of(CANONICAL)
        counts: tuple[tuple[Metric, Convention | None, int], ...] = (
            ("parameters", "weights", self.parameters(CANONICAL)[0]),
            ("flops", "macs", operations.by_convention("macs")),
            ("activations", None, operations.by_convention("activations")),
        )
        return [
            Check(metric, "not-comparable", convention=convention, measured=count, note="nothing is published about it")
            for metric, convention, count in counts
        ]

    def _check(self, claim: Claim) -> Check:
        layout = self._layout_of(claim)
        if claim.metric == "parameters":
            measured, absent = self.parameters(layout, statistics=claim.convention == "weights+statistics")
            note = f"{absent:,} of them in unreachable layers, which this file leaves out" if absent else ""
            explained = None
        else:
            operations, note = self.operations_of(layout), ""
            measured = operations.by_convention(claim.convention or "activations")
            other = claim.deviation.convention if claim.deviation else None
            explained = operations.by_convention(other) if other else None
        differs = self._differs_from_published(claim)
        if differs:
            return claim_check(claim, "not-comparable", measured, differs)
        return judge_count(claim, measured, explained, note)

    def _differs_from_published(self, claim: Claim) -> str:
        """How the counted network differs from the one that numbers are published for."""
        if self.expansion.classes != IMAGENET_CLASSES:
            return f"published for {IMAGENET_CLASSES} classes; this file has {self.expansion.classes}"
        if claim.metric != "parameters" and self.input_size != IMAGENET_INPUT:
            return f"published for {shown_size(IMAGENET_INPUT)} images, counted for {shown_size(self.input_size)}"
        return ""

    def _layout_of(self, claim: Claim) -> str:
        """The layout of the file that a claim speaks of: publishers count what their own file stores."""
        for source in self.expansion.variant.sources:
            if source.publisher == claim.publisher and source.layout in self.expansion.table.layouts:
                return source.layout
        return CANONICAL


_JUDGED = ("parameters", "flops", "activations")
