"""Several verifications as one table: a row a variant, published and measured and the verdict in every column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from r2convert.report.differences import measured_value, published_value
from r2convert.report.styles import plain_table, verdict_text
from r2convert.results.verdicts import Metric, Verdict, leading_check, reasons_of
from r2convert.results.verification import CheckpointResult

_HEADINGS: dict[Metric, str] = {
    "parameters": "params, M",
    "flops": "FLOPs, G",
    "activations": "activ., M",
    "top1": "top-1, %",
    "top5": "top-5, %",
}
_SHORT: dict[Verdict, str] = {"known-deviation": "deviates", "not-comparable": "not compared"}
"""Words that fit the columns; the whole ones stand under the variant's name."""


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


def reason_lines(results: Iterable[CheckpointResult]) -> Text:
    """Why a check did not simply pass, one line a reason, equal reasons together."""
    lines = Text()
    for reason in (reason for result in results for reason in reasons_of(result.variant, result.checks)):
        lines.append(f"{reason.variant}: {', '.join(reason.labels)}: ")
        lines.append(verdict_text(reason.verdict))
        lines.append(f": {reason.note}\n")
    lines.rstrip()
    return lines


def _name(result: CheckpointResult) -> Text:
    claimed = set(_HEADINGS)
    failing = [check.metric for check in result.checks if check.verdict == "fail" and check.metric not in claimed]
    name = Text(result.variant).append("\n").append(verdict_text(result.verdict))
    return name.append(": " + ", ".join(failing)) if failing else name


def _cell(result: CheckpointResult, metric: Metric) -> Text:
    check = leading_check(result.checks, metric)
    if check is None:
        return Text("-")
    text = Text(f"{published_value(check)}/{measured_value(check, result)}\n")
    return text.append(verdict_text(check.verdict, _SHORT.get(check.verdict)))
