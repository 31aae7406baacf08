"""Compares measurements with published numbers.

Counts are about an architecture, each in its publisher's own convention. A published accuracy is about weights, on all
images of one set: it applies to a file only if something proves that the file holds those weights. Other numbers are
shown beside what was measured, and judged ``not-comparable``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from r2convert.catalog.printed import deviant_interval, images_of, printed_interval, readable
from r2convert.catalog.protocol import Protocol
from r2convert.catalog.variant import (
    IMAGENET_CLASSES,
    OFFICIAL_TABLE,
    Claim,
    Convention,
    Dataset,
    Metric,
    Variant,
    Weights,
)
from r2convert.checks.counting import count_as_fluid, count_operations, shown_size
from r2convert.evaluation.statistics import judge_sample
from r2convert.mapping.identity import Identity
from r2convert.mapping.tables import CANONICAL, Expansion, Tables
from r2convert.results.verdicts import ACCURACIES, Check, Verdict
from r2convert.results.verification import IMAGENET_INPUT, Accuracy, Operations


def claim_check(claim: Claim, verdict: Verdict, measured: int | None, note: str = "") -> Check:
    """A check of a published number."""
    is_accuracy = claim.metric in ACCURACIES
    return Check(
        metric=claim.metric,
        verdict=verdict,
        source=claim.where,
        convention=claim.convention,
        published=claim.printed,
        unit=claim.unit,
        measured=measured,
        note=note,
        weights=(claim.weights or None) if is_accuracy else None,
        dataset=claim.dataset if is_accuracy else None,
    )


def judge_count(claim: Claim, measured: int, explained: int | None = None, note: str = "") -> Check:
    """Compare a count with the interval its claim stands for.

    Args:
        claim: a claim on parameters, FLOPs or activations.
        measured: the count in the claim's own convention.
        explained: the count of the network, and in the convention, that the claim's recorded deviation names, if it
            names one.
        note: what to say with the check in any case.
    """
    if measured in printed_interval(claim):
        return claim_check(claim, "pass", measured, note)
    deviation = claim.deviation
    if deviation is not None and (measured if explained is None else explained) in deviant_interval(claim):
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
    variant: Variant,
    accuracy: Accuracy,
    weights: Weights | None,
    *,
    dataset: Dataset | None,
    classes: int = IMAGENET_CLASSES,
) -> Iterator[Check]:
    """Compare what was measured with every accuracy published on the set; it is judged for proven weights only.

    Args:
        variant: the network.
        accuracy: what was measured.
        weights: whose weights the file holds, where that is proven.
        dataset: the set that the images are, all of it or a random part; ``None`` for a set that no numbers are
            published on, where those of ImageNet-1k are shown beside what was measured.
        classes: outputs of the network's classifier.
    """
    measured = {
        "top1": (accuracy.top1_correct, accuracy.images),
        "top5": (accuracy.top5_correct, accuracy.images),
        "real_top1": (accuracy.real_top1_correct, accuracy.real_images),
        "real_top5": (accuracy.real_top5_correct, accuracy.real_images),
    }
    for claim in variant.claims:
        correct, images = measured.get(claim.metric, (0, 0))
        if not images or claim.dataset != (dataset or "imagenet"):
            continue
        if classes != IMAGENET_CLASSES:
            yield claim_check(claim, "not-comparable", correct, _OTHER_CLASSES.format(IMAGENET_CLASSES, classes))
        else:
            yield _check(claim, correct, images, accuracy, weights, published_set=dataset is not None)


_OTHER_CLASSES = "published for {:,} classes; this file has {:,}"


def lowest_published_top1(weights: Weights | None, dataset: Dataset) -> int | None:
    """The fewest correct images that any top-1 published for these weights stands for; ``None`` if there is none."""
    claims = weights.claims if weights else ()
    counting = [claim for claim in claims if (claim.metric, claim.dataset) == ("top1", dataset)]
    return min((printed_interval(claim).first for claim in counting), default=None)


def _check(
    claim: Claim, correct: int, images: int, accuracy: Accuracy, weights: Weights | None, *, published_set: bool
) -> Check:
    if not published_set:
        note = f"measured on {accuracy.images:,} images, published for the 50,000 of the validation set"
        return claim_check(claim, "not-comparable", correct, note)
    if weights is None:
        return claim_check(claim, "not-comparable", correct, f"nothing proves that these are {claim.weights}")
    if claim.weights != weights.id:
        return claim_check(claim, "not-comparable", correct, f"published for {claim.weights}")
    otherwise = _measured_differently(accuracy, weights.protocol)
    if otherwise:
        return claim_check(claim, "not-comparable", correct, otherwise)
    if images < images_of(claim):
        return _check_sample(claim, correct, images, [])
    return _check_whole(claim, correct, [])


def _measured_differently(accuracy: Accuracy, published: Protocol) -> str:
    """How images were prepared, where that is not the publisher's way, or the empty string."""
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
    if claim.deviation is not None and correct in deviant_interval(claim):
        return claim_check(claim, "known-deviation", correct, claim.deviation.note)
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
        tables: the tables of the catalogue, for deviations that name another network.
        expansion: the variant's tensors, with the classes of the file in hand.
        stored: elements of each tensor of the file, by the slot's key; ``None`` to count the reference network itself.
        input_size: height and width of the image to count operations for; claims are for 224x224.
        weights: whose weights these are, where that is proven; else the first known ones are assumed.
    """

    tables: Tables
    expansion: Expansion
    stored: Mapping[str, int] | None = None
    input_size: tuple[int, int] = IMAGENET_INPUT
    weights: Weights | None = None
    _operations: dict[bool, Operations] = field(default_factory=dict)

    def checks(self) -> list[Check]:
        """Every claim on parameters, FLOPs and activations, in the order of the catalogue; what else was counted."""
        claims = self.expansion.variant.claims
        claims = tuple(claim for claim in claims if claim.metric in _JUDGED and self._is_about_these(claim))
        checks = [self.check(claim) for claim in claims] or self._measured()
        # A table prints the size of an architecture in the row of each of its weights.
        return [check for index, check in enumerate(checks) if check not in checks[:index]]

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

    def operations(self, *, unreachable: bool) -> Operations:
        """Operations for one image, with or without the layers whose results are not used."""
        if unreachable not in self._operations:
            self._operations[unreachable] = count_operations(
                self.expansion.variant,
                input_size=self.input_size,
                classes=self.expansion.classes,
                unreachable=unreachable,
            )
        return self._operations[unreachable]

    def operations_of(self, layout: str) -> Operations:
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

    def check(self, claim: Claim) -> Check:
        """Compare a claim with the count that it is about."""
        measured, absent = self._count(claim, claim.convention)
        differs = self._differs_from_published(claim)
        if differs:
            return claim_check(claim, "not-comparable", measured, differs)
        note = f"{absent:,} of them in unreachable layers, which this file leaves out" if absent else ""
        return judge_count(claim, measured, self._explained(claim), note)

    def _is_about_these(self, claim: Claim) -> bool:
        """Whether a number is about this network with these weights.

        Numbers for another number of classes are not, nor are misprints about other weights: only errors of the
        official table concern all weights, since everybody compares with it.
        """
        known = self.expansion.variant.weights
        printed_about = self.expansion.variant.weights_called(claim.weights)
        if printed_about is not None and printed_about.classes not in (IMAGENET_CLASSES, self.expansion.classes):
            return False
        own = self.weights or (known[0] if known else None)
        return claim.deviation is None or claim.source == OFFICIAL_TABLE or own is None or claim.weights == own.id

    def _count(self, claim: Claim, convention: Convention | None) -> tuple[int, int]:
        """The count that a claim is about, and how much of it is in layers that the file leaves out."""
        layout = self._layout_of(claim)
        if claim.metric == "parameters":
            counted, absent = self.parameters(layout, statistics=convention == "weights+statistics")
            # PaddlePaddle 1.x's summary() counts all biases of the classifier as one.
            return counted - (self.expansion.classes - 1 if convention == "fluid" else 0), absent
        if convention == "fluid":
            classes = self.expansion.classes
            return count_as_fluid(self.expansion.variant, input_size=self.input_size, classes=classes), 0
        return self.operations_of(layout).by_convention(convention or "activations"), 0

    def _explained(self, claim: Claim) -> int | None:
        """The count that a claim's recorded deviation names; ``None`` if it is the claim's own."""
        deviation = claim.deviation
        if deviation is None or not (deviation.convention or deviation.network):
            return None
        other = self
        if deviation.network is not None:
            variant = self.tables.catalog.find_architecture(deviation.network)
            other = PublishedNumbers(self.tables, self.tables.of(variant))
        return other._count(claim, deviation.convention or claim.convention)[0]

    def _differs_from_published(self, claim: Claim) -> str:
        """How the counted network differs from the one that numbers are published for."""
        weights = self.expansion.variant.weights_called(claim.weights)
        classes = weights.classes if weights else IMAGENET_CLASSES
        if self.expansion.classes != classes:
            return _OTHER_CLASSES.format(classes, self.expansion.classes)
        if claim.metric != "parameters" and self.input_size != IMAGENET_INPUT:
            return f"published for {shown_size(IMAGENET_INPUT)} images, counted for {shown_size(self.input_size)}"
        return ""

    def _layout_of(self, claim: Claim) -> str:
        """The layout of the file that a claim is about: publishers count what their own file stores."""
        for source in self.expansion.variant.sources:
            if source.publisher == claim.publisher and source.layout in self.expansion.table.layouts:
                return source.layout
        return CANONICAL


_JUDGED = ("parameters", "flops", "activations")
