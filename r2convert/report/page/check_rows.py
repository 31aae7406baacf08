"""The rows of the page's tables: one a network in the verdict table, one a check further down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from r2convert.catalog import Catalog
from r2convert.catalog.printed import readable
from r2convert.report.differences import (
    difference,
    images_behind,
    is_accuracy,
    measured_value,
    network_name,
    published_value,
)
from r2convert.results.verdicts import Check, Metric, Verdict, leading_check
from r2convert.results.verification import CheckpointResult

HEADINGS: dict[Metric, str] = {
    "parameters": "Params, M",
    "flops": "FLOPs, G",
    "top1": "Top-1, %",
    "top5": "Top-5, %",
}
_LABELS: dict[Metric, str] = {
    "parameters": "Parameters",
    "flops": "FLOPs",
    "activations": "Activations",
    "top1": "Top-1",
    "top5": "Top-5",
    "real_top1": "ReaL top-1",
    "real_top5": "ReaL top-5",
    "names": "Tensor names",
    "shapes": "Shapes",
    "values": "Values",
    "receipt": "Receipt",
    "wiring": "Wiring",
    "parity": "Parity",
}
_COUNTED: dict[Metric, str] = {
    "names": "tensors",
    "shapes": "tensors",
    "values": "tensors",
    "wiring": "BatchNorms",
    "parity": "layers",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one network.

    Args:
        heading: what it is.
        published: as printed, or the empty string if nothing was.
        measured: in the same unit.
        difference: between the two, in words.
        verdict: what came of it, or ``None`` if nothing was published.
    """

    heading: str
    published: str
    measured: str
    difference: str
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """One network.

    Args:
        anchor: id of its part of the page.
        name: the network's name.
        file: name of the file, or what stands for one.
        cells: one a metric.
        verdict: over all checks.
        failing: labels of failing checks that have no cell.
    """

    anchor: str
    name: str
    file: str
    cells: tuple[Cell, ...]
    verdict: Verdict
    failing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check; texts are empty where there is nothing to say."""

    label: str
    source: str
    published: str
    measured: str
    share: str
    difference: str
    verdict: Verdict
    note: str


def network_row(anchor: str, result: CheckpointResult, catalog: Catalog) -> NetworkRow:
    """A result's row in the verdict table."""
    failing = dict.fromkeys(
        _LABELS[check.metric] for check in result.checks if check.verdict == "fail" and check.metric not in HEADINGS
    )
    return NetworkRow(
        anchor=anchor,
        name=network_name(result.variant, catalog),
        file=file_name(result),
        cells=tuple(_cell(result, metric) for metric in HEADINGS),
        verdict=result.verdict,
        failing=tuple(failing),
    )


def file_name(result: CheckpointResult) -> str:
    """The last part of a checkpoint's path, wherever it was verified."""
    if result.checkpoint is None:
        return "the reference network itself"
    return PurePath(result.checkpoint.replace("\\", "/")).name


def check_rows(result: CheckpointResult) -> Iterable[CheckRow]:
    """All checks of a result, in order."""
    for check in result.checks:
        yield CheckRow(
            label=_LABELS[check.metric] + (f" ({check.convention})" if check.convention else ""),
            source=check.source or "",
            published=readable(check.published, check.unit or "") if check.published is not None else "",
            measured=_measured(check, result),
            share=_share(check, result),
            difference=difference(check, result),
            verdict=check.verdict,
            note=check.note,
        )


def _cell(result: CheckpointResult, metric: Metric) -> Cell:
    check = leading_check(result.checks, metric)
    if check is None:
        return Cell(HEADINGS[metric], "", "", "", None)
    return Cell(
        HEADINGS[metric],
        str(published_value(check)),
        measured_value(check, result),
        difference(check, result),
        check.verdict,
    )


def _measured(check: Check, result: CheckpointResult) -> str:
    if check.measured is None:
        return ""
    images = images_behind(check, result)
    if is_accuracy(check):
        return f"{check.measured:,} of {images:,}"
    return f"{check.measured:,} {_COUNTED.get(check.metric, '')}".rstrip()


def _share(check: Check, result: CheckpointResult) -> str:
    images = images_behind(check, result)
    if check.measured is None or not is_accuracy(check) or not images:
        return ""
    return f"{100 * check.measured / images:.3f} %"
