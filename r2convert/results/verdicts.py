"""Checks and their verdicts: what was published, what was measured, and the outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from r2convert.catalog.variant import Dataset, Unit
from r2convert.catalog.variant import Metric as Published

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""Bounded, since documents may come from anybody; a measured NaN is ``None``."""
Digest = Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9a-f]{64}$"})]
Verdict = Literal["pass", "fail", "known-deviation", "not-comparable", "inconclusive"]
Metric = Literal[
    "names", "shapes", "values", "receipt", "parity", "wiring", "parameters", "flops", "activations", "top1", "top5",
    "real_top1", "real_top5",
]  # fmt: skip
PrintedNumber = Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,12})?$")]

LABELS: dict[Metric, str] = {
    "names": "names",
    "shapes": "shapes",
    "values": "values",
    "receipt": "receipt",
    "wiring": "wiring",
    "parity": "parity",
    "parameters": "parameters",
    "flops": "FLOPs",
    "activations": "activations",
    "top1": "top-1",
    "top5": "top-5",
    "real_top1": "ReaL top-1",
    "real_top5": "ReaL top-5",
}
"""Names of metrics as people read them."""

ACCURACIES: tuple[Metric, ...] = ("top1", "top5", "real_top1", "real_top5")
"""Metrics that are counts of images."""

COLUMNS: dict[Metric, str] = {
    "parameters": "params, M",
    "flops": "FLOPs, G",
    "activations": "activ., M",
    "top1": "top-1, %",
    "top5": "top-5, %",
}
"""Headings of columns, with the unit."""

COUNTED: dict[Metric, str] = {
    "names": "tensors",
    "shapes": "tensors",
    "values": "tensors",
    "wiring": "sound BatchNorms",
    "parity": "layers",
}
"""What checks of the file itself count."""

SIGNS: dict[Verdict, str] = {
    "pass": "✓",
    "fail": "✗",
    "known-deviation": "≈",
    "inconclusive": "?",
    "not-comparable": "·",
}
"""Signs beside the words, so that colour is never the only cue."""

WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "known-deviation", "pass", "not-comparable")


class Check(Struct, frozen=True):
    """One thing that was checked.

    Args:
        metric: what was checked
        verdict: the outcome
        source: who published the number; null for a property of the file
        convention: how it is counted, for parameters and FLOPs
        published: the digits as printed
        unit: the unit they are printed in
        measured: parameters, operations, correct images, or tensors
        note: the reason, where the verdict alone does not say it
        weights: id of the weights that an accuracy was published for
        dataset: the set that an accuracy was published for
    """

    metric: Metric
    verdict: Verdict
    source: str | None = None
    convention: str | None = None
    published: PrintedNumber | None = None
    unit: Unit | None = None
    measured: Count | None = None
    note: str = ""
    weights: str | None = None
    dataset: Dataset | None = None

    def __post_init__(self) -> None:
        """Refuse a published number that nobody could compare.

        Raises:
            ValueError: the number has no unit, or its metric is never published.
        """
        if self.published is not None and (self.unit is None or self.metric not in get_args(Published)):
            raise ValueError(f"Expected a published number with its unit, got {self.metric} in {self.unit}")


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict over several: the worst of those that could be decided; ``not-comparable`` if none could."""
    found = set(verdicts)
    return next((verdict for verdict in WORST_FIRST if verdict in found), "not-comparable")


def leading_check(checks: Iterable[Check], metric: Metric) -> Check | None:
    """Of several published numbers for one metric the one to show: the worst verdict, then the most digits."""
    published = [check for check in checks if check.metric == metric and check.published is not None]
    return min(
        published, key=lambda check: (WORST_FIRST.index(check.verdict), -len(check.published or "")), default=None
    )
