"""What a verification says: one check a published number or property, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

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
