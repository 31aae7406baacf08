"""A verification as a table for the terminal: at most 80 columns, readable without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from r2convert.catalog.printed import readable
from r2convert.verify.checks import Check, Verdict
from r2convert.verify.results import CheckpointResult

_STYLES: dict[Verdict, str] = {
    "pass": "green",
    "fail": "bold red",
    "known-deviation": "yellow",
    "inconclusive": "yellow",
    "not-comparable": "dim",
}
_PROPERTIES = ("receipt", "names", "shapes", "values")


def results_view(results: Sequence[CheckpointResult], *, details: bool = False) -> RenderableType:
    """One result with all its checks; of several a row each, and all their checks only if details are wanted.

    Why a check did not simply pass stands below in any case.
    """
    views: list[RenderableType] = []
    if details or len(results) == 1:
        views += [result_view(result) for result in results]
    if len(results) > 1:
        views.append(_summary(results))
    return Group(*views, _reasons(results))


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
    return heading.append(f"  {Path(result.checkpoint).name}, {result.layout} layout", style="not bold")


def _property_lines(checks: Iterable[Check]) -> Text:
    lines = Text()
    for check in checks:
        lines.append(f"  {check.metric:<9}")
        lines.append(check.verdict, style=_STYLES[check.verdict])
        counted = f"{check.measured:,} tensors" if check.measured is not None else ""
        said = "; ".join(filter(None, (counted, check.note)))
        lines.append(f"  {said}\n" if said else "\n")
    lines.rstrip()
    return lines


def _claim_table(checks: Sequence[Check]) -> Table:
    """Published against measured; why a row is not a pass stands under the table, see :func:`_reasons`."""
    table = _table("check", "published by", "published", "measured", "verdict", right=("published", "measured"))
    for check in checks:
        table.add_row(
            _label(check),
            check.source or "",
            readable(check.published or "", check.unit or ""),
            f"{check.measured:,}" if check.measured is not None else "-",
            Text(check.verdict, style=_STYLES[check.verdict]),
        )
    return table


def _label(check: Check) -> str:
    if check.metric == "flops":
        return f"FLOPs ({check.convention})"
    if check.metric == "parameters":
        return "parameters+BN" if check.convention == "weights+statistics" else "parameters"
    return {"top1": "top-1", "top5": "top-5"}.get(check.metric, check.metric)


def _table(*headings: str, right: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    return table


def _reasons(results: Iterable[CheckpointResult]) -> Text:
    """Why a check did not simply pass, one line a reason, equal reasons together."""
    lines = Text()
    for result in results:
        grouped: dict[tuple[Verdict, str], list[str]] = {}
        for check in result.checks:
            if check.verdict != "pass" and check.note:
                label = check.metric if check.source is None else f"{check.metric} ({check.source})"
                grouped.setdefault((check.verdict, check.note), []).append(label)
        for (verdict, note), labels in grouped.items():
            lines.append(f"{result.variant}: {', '.join(labels)}: ")
            lines.append(verdict, style=_STYLES[verdict])
            lines.append(f": {note}\n")
    lines.rstrip()
    return lines


def _accuracy_line(result: CheckpointResult) -> Text:
    accuracy = result.accuracy
    assert accuracy is not None  # noqa: S101 - asked for only with an accuracy
    images = accuracy.images
    line = Text("  accuracy  ")
    for name, correct in (("top-1", accuracy.top1_correct), ("top-5", accuracy.top5_correct)):
        line.append(f"{name} {correct:,} of {images:,} ({100 * correct / images:.3f} %)  ")
    lost = accuracy.missing + accuracy.unreadable
    if lost:
        best = 100 * (accuracy.top1_correct + lost) / images
        line.append(
            f"\n            {accuracy.missing} missing and {accuracy.unreadable} unreadable images count as wrong "
        )
        line.append(f"(top-1 at best {best:.3f} %)")
    return line


def _summary(results: Sequence[CheckpointResult]) -> Table:
    """One row a checkpoint, with what was measured."""
    with_images = any(result.accuracy for result in results)
    columns = ("params", "FLOPs", "top-1" if with_images else "MACs", "passed")
    table = _table("variant", *columns, "verdict", right=columns)
    for result in results:
        told = [check for check in result.checks if check.verdict != "not-comparable"]
        passed = sum(check.verdict == "pass" for check in told)
        table.add_row(
            result.variant,
            _measured(result, "parameters", "weights", 1e6, "M"),
            _measured(result, "flops", "mmcv", 1e9, "G"),
            _top1(result) if with_images else _measured(result, "flops", "macs", 1e9, "G"),
            f"{passed}/{len(told)}",
            Text(result.verdict, style=_STYLES[result.verdict]),
        )
    return table


def _measured(result: CheckpointResult, metric: str, convention: str, scale: float, unit: str) -> str:
    for check in result.checks:
        if (check.metric, check.convention) == (metric, convention) and check.measured is not None:
            return f"{check.measured / scale:.2f} {unit}"
    return "-"


def _top1(result: CheckpointResult) -> str:
    accuracy = result.accuracy
    return f"{100 * accuracy.top1_correct / accuracy.images:.2f} %" if accuracy else "-"
