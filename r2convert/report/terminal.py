"""A verification as a table for the terminal: at most 80 columns, readable without colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from r2convert.catalog.printed import readable
from r2convert.checks.counting import shown_size
from r2convert.report.layer_tables import operations_view, stages_table, wiring_table
from r2convert.report.styles import plain_table, verdict_text
from r2convert.report.verdict_table import reason_lines, verdict_table
from r2convert.results.verdicts import Check
from r2convert.results.verification import Accuracy, CheckpointResult

_LISTED = 3
_LINE = 66
_PROPERTIES = ("receipt", "names", "shapes", "values", "wiring", "parity")
_COUNTED = {"names": "tensors", "shapes": "tensors", "values": "tensors", "wiring": "BatchNorms", "parity": "layers"}


def results_view(
    results: Sequence[CheckpointResult], *, details: bool = False, by_layer: bool = False
) -> RenderableType:
    """One result with all its checks; of several a row each, and all their checks only if details are wanted.

    Why a check did not simply pass stands below in any case.

    Args:
        results: what to show.
        details: show every check of every result, every layer of the wiring check, and every stage of parity (which
            is shown in any case where two networks part).
        by_layer: show every layer's operations.
    """
    views: list[RenderableType] = []
    for result in results:
        if details or len(results) == 1:
            views.append(result_view(result))
        if details and result.wiring is not None:
            views.append(wiring_table(result.wiring))
        comparison = result.parity.comparison if result.parity else None
        if comparison is not None and (details or not comparison.equal):
            views.append(stages_table(comparison))
        if by_layer and result.operations is not None:
            title = f"\n{result.variant}: one {shown_size(result.operations.input_size)} image, layer by layer"
            views += [Text(title, style="bold"), operations_view(result.operations)]
    if len(results) > 1:
        views.append(verdict_table(results))
    return Group(*views, reason_lines(results))


def result_view(result: CheckpointResult) -> RenderableType:
    """One checkpoint: what it is, its own properties, then published against measured, row by row."""
    parts: list[RenderableType] = [_heading(result)]
    properties = [check for check in result.checks if check.metric in _PROPERTIES]
    claims = [check for check in result.checks if check.metric not in _PROPERTIES]
    if properties:
        parts.append(_property_lines(properties))
    parts.append(_claim_table(claims))
    if result.accuracy is not None:
        parts.append(_accuracy_line(result))
    return Group(*parts)


def _heading(result: CheckpointResult) -> Text:
    heading = Text(result.variant, style="bold")
    if result.checkpoint is None:
        return heading.append("  the reference network itself, no file", style="not bold")
    half = f", {result.half_precision}: half precision" if result.half_precision else ""
    return heading.append(f"  {Path(result.checkpoint).name}, {result.layout} layout{half}", style="not bold")


def _property_lines(checks: Iterable[Check]) -> Text:
    lines = Text()
    for check in checks:
        lines.append(f"  {check.metric:<9}")
        lines.append(verdict_text(check.verdict))
        counted = f"{check.measured:,} {_COUNTED[check.metric]}" if check.measured is not None else ""
        # Why something did not pass stands below all tables, see reason_lines.
        said = "; ".join(filter(None, (check.source, counted, check.note if check.verdict == "pass" else "")))
        lines.append(f"  {said}\n" if said else "\n")
    lines.rstrip()
    return lines


def _claim_table(checks: Sequence[Check]) -> Table:
    """Published against measured; why a row is not a pass stands under the table, see :func:`reason_lines`."""
    table = plain_table("check", "published by", "published", "measured", "verdict", right=("published", "measured"))
    for check in checks:
        table.add_row(
            _label(check),
            check.source or "",
            readable(check.published or "", check.unit or ""),
            f"{check.measured:,}" if check.measured is not None else "-",
            verdict_text(check.verdict),
        )
    return table


def _label(check: Check) -> str:
    if check.metric == "flops":
        return f"FLOPs ({check.convention})"
    if check.metric == "parameters":
        return "parameters+BN" if check.convention == "weights+statistics" else "parameters"
    return {"top1": "top-1", "top5": "top-5"}.get(check.metric, check.metric)


def _accuracy_line(result: CheckpointResult) -> Text:
    accuracy = result.accuracy
    assert accuracy is not None  # noqa: S101 - asked for only with an accuracy
    images = accuracy.images
    line = Text("  accuracy  ")
    for name, correct in (("top-1", accuracy.top1_correct), ("top-5", accuracy.top5_correct)):
        line.append(f"{name} {correct:,} of {images:,} ({100 * correct / images:.3f} %)  ")
    for more in (*_lost_images(accuracy), *_precision_lines(accuracy)):
        line.append(f"\n            {more}")
    return line


def _lost_images(accuracy: Accuracy) -> Iterator[str]:
    """How many images count as wrong unseen, what that leaves open, and the first of them by name."""
    lost = accuracy.missing + accuracy.unreadable
    if not lost:
        return
    worst, best = (100 * count / accuracy.images for count in (accuracy.top1_correct, accuracy.top1_correct + lost))
    yield f"{accuracy.missing} missing and {accuracy.unreadable} unreadable images count as wrong:"
    yield f"top-1 is {worst:.3f} % at worst and {best:.3f} % at best"
    for name, reason in accuracy.problems[:_LISTED]:
        # What a name or a message holds must not steer the terminal.
        text = repr(f"{name}: {reason}")[1:-1]
        yield text if len(text) <= _LINE else text[: _LINE - 3] + "..."
    if len(accuracy.problems) > _LISTED:
        yield f"and {len(accuracy.problems) - _LISTED:,} more (--json lists them)"


def _precision_lines(accuracy: Accuracy) -> Iterator[str]:
    """What another precision than strict changed, among the images that were shown in strict as well."""
    if accuracy.precision == "strict":
        return
    yield " ".join(("precision", accuracy.precision, *accuracy.accelerations))
    audit = accuracy.audit
    if audit is None:
        return
    if audit.bound is not None:
        yield f"first in {audit.first_precision}; {audit.images:,} images again in strict, those with"
        yield f"a margin up to {audit.bound:.2g} among them: the counts are strict's"
    else:
        yield f"of {audit.images:,} images shown in strict as well, {audit.changed_top1:,} first answers differ"
        yield f"(right or wrong: {audit.changed_top1_correct:,}; among the first five: {audit.changed_top5_correct:,})"
