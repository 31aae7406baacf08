"""Several verifications as one table: a row a variant, published and measured and the verdict in every column."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from rich.table import Table
from rich.text import Text

from r2convert.report.styles import plain_table, verdict_text
from r2convert.verify.checks import Check, Metric, Verdict
from r2convert.verify.results import CheckpointResult

_HEADINGS: dict[Metric, str] = {
    "parameters": "params, M",
    "flops": "FLOPs, G",
    "activations": "activ., M",
    "top1": "top-1, %",
    "top5": "top-5, %",
}
_SHORT: dict[Verdict, str] = {"known-deviation": "deviates", "not-comparable": "not compared"}
"""Words that fit the columns; the whole ones stand under the variant's name."""
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "known-deviation", "pass", "not-comparable")
_SCALE = {"M": Decimal(10) ** 6, "G": Decimal(10) ** 9}


def verdict_table(results: Sequence[CheckpointResult]) -> Table:
    """One row a result, in at most 80 columns: published/measured with the verdict below.

    Of several published numbers for one column the one with the worst verdict is shown; of equal verdicts, the one
    printed with most digits.
    """
    with_images = any(result.accuracy for result in results)
    metrics: tuple[Metric, ...] = ("parameters", "flops", "top1", "top5") if with_images else ("parameters", "flops")
    metrics = metrics if with_images else (*metrics, "activations")
    headings = [_HEADINGS[metric] for metric in metrics]
    table = plain_table("published/measured", *headings, right=headings)
    for result in results:
        table.add_row(_name(result), *(_cell(result, metric) for metric in metrics))
    return table


def _name(result: CheckpointResult) -> Text:
    claimed = set(_HEADINGS)
    failing = [check.metric for check in result.checks if check.verdict == "fail" and check.metric not in claimed]
    name = Text(result.variant).append("\n").append(verdict_text(result.verdict))
    return name.append(": " + ", ".join(failing)) if failing else name


def _cell(result: CheckpointResult, metric: Metric) -> Text:
    checks = [check for check in result.checks if check.metric == metric and check.published is not None]
    if not checks:
        return Text("-")
    check = min(checks, key=lambda check: (_WORST_FIRST.index(check.verdict), -len(check.published or "")))
    published = _published(check)
    measured = _measured(check, published, result)
    text = Text(f"{published}/{measured}\n")
    return text.append(verdict_text(check.verdict, _SHORT.get(check.verdict)))


def _published(check: Check) -> Decimal:
    """The printed number; accuracies in per cent of images that are right, however they were printed."""
    printed = Decimal(check.published or "0")
    if check.unit == "error %":
        return 100 - printed
    return printed.scaleb(2) if check.unit == "fraction" else printed


def _measured(check: Check, published: Decimal, result: CheckpointResult) -> str:
    """What was measured, in the printed unit, with two decimals or as many as were printed."""
    if check.measured is None:
        return "-"
    decimals = max(2, -int(published.as_tuple().exponent))
    if check.unit in _SCALE:
        return f"{check.measured / _SCALE[check.unit]:.{decimals}f}"
    images = result.accuracy.images if result.accuracy else 0
    return f"{100 * Decimal(check.measured) / images:.{decimals}f}" if images else "-"
