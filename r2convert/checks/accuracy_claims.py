"""Correct images held against published accuracies.

A published accuracy speaks of one publisher's file on all 50,000 images. It counts for a file only if the file
is that publisher's (told by its SHA-256, or by the receipt of its conversion) or at least has the publisher's
layout; other publishers' numbers are shown, and judged ``not-comparable``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from r2convert.catalog.printed import readable
from r2convert.catalog.variant import Claim, Publisher, Variant
from r2convert.checks.checks import Check, Verdict, claim_check
from r2convert.checks.intervals import images_of, printed_interval
from r2convert.evaluation.predictions import Accuracy
from r2convert.evaluation.statistics import judge_sample

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


def lowest_published_top1(variant: Variant, origin: Origin) -> float | None:
    """The least top-1 (0 to 1) that any number counting for a file stands for; ``None`` if none counts."""
    counting = [claim for claim in variant.claims_on("top1") if claim.publisher == origin.publisher]
    return min((printed_interval(claim).first / images_of(claim) for claim in counting), default=None)


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
    """A random part of the images: an exact binomial test of the printed interval."""
    interval, whole = printed_interval(claim), images_of(claim)
    said = judge_sample(correct, images, interval.first / whole, interval.last / whole)
    notes.insert(
        0,
        f"{correct:,} of {images:,} drawn images is {said.consistency} with {readable(claim.printed, claim.unit)} "
        f"(p = {said.probability:.2g}; 99.9 % interval {100 * said.low:.1f}..{100 * said.high:.1f} %)",
    )
    verdicts: dict[str, Verdict] = {"consistent": "pass", "inconsistent": "fail", "inconclusive": "inconclusive"}
    return claim_check(claim, verdicts[said.consistency], correct, "; ".join(notes))
