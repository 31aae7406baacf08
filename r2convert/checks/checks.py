"""What a verification says: one check a published number or property, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from r2convert.catalog.variant import Claim
from r2convert.checks.intervals import cut_interval, printed_interval

Verdict = Literal["pass", "fail", "known-deviation", "not-comparable", "inconclusive"]
Metric = Literal[
    "names", "shapes", "values", "receipt", "parity", "wiring", "parameters", "flops", "activations", "top1", "top5",
    "real_top1", "real_top5",
]  # fmt: skip

_WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "known-deviation", "pass")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked.

    Args:
        metric: what was checked.
        verdict: what came of it.
        source: who published the number, or ``None`` for a property of the file.
        convention: how it is counted, for parameters and FLOPs.
        published: the number as printed, or ``None``.
        unit: the unit it is printed in.
        measured: what was measured: parameters, operations, correct images, tensors.
        note: the reason, where the verdict alone does not say it.
    """

    metric: Metric
    verdict: Verdict
    source: str | None = None
    convention: str | None = None
    published: str | None = None
    unit: str | None = None
    measured: int | None = None
    note: str = ""


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict over several: the worst of those that could be told; ``not-comparable`` if none could."""
    found = set(verdicts)
    return next((verdict for verdict in _WORST_FIRST if verdict in found), "not-comparable")


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
