"""Correct images held against published accuracies.

A published accuracy speaks of one publisher's file on all 50,000 images. It counts for a file only if the file
is that publisher's (told by its SHA-256, or by the receipt of its conversion) or at least has the publisher's
layout; other publishers' numbers are shown, and judged ``not-comparable``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from r2convert.catalog.variant import Claim, Publisher, Variant
from r2convert.verify.checks import Check, claim_check
from r2convert.verify.intervals import printed_interval
from r2convert.verify.predictions import Accuracy

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


def accuracy_checks(variant: Variant, accuracy: Accuracy, origin: Origin, *, whole_set: bool) -> Iterator[Check]:
    """Judge every published top-1 and top-5.

    Args:
        variant: the network.
        accuracy: what was measured.
        origin: whose weights the file holds.
        whole_set: whether the images were the 50,000 of the validation set.
    """
    counts = {"top1": accuracy.top1_correct, "top5": accuracy.top5_correct}
    for claim in variant.claims:
        if claim.metric in counts:
            yield _check(claim, counts[claim.metric], accuracy, origin, whole_set=whole_set)


def _check(claim: Claim, correct: int, accuracy: Accuracy, origin: Origin, *, whole_set: bool) -> Check:
    if not whole_set:
        note = f"measured on {accuracy.images:,} images, published for the 50,000 of the validation set"
        return claim_check(claim, "not-comparable", correct, note)
    if claim.publisher != origin.publisher:
        return claim_check(claim, "not-comparable", correct, f"published for the file of {claim.publisher}")
    notes = [] if origin.certain else [f"taken for the weights of {origin.publisher}; no digest proves it"]
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
