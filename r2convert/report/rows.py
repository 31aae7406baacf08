"""The rows of the page's tables, and what to do about those that are not a pass."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath

from r2convert.catalog import Catalog
from r2convert.catalog.printed import readable
from r2convert.catalog.variant import IMAGENET_IMAGES
from r2convert.report.differences import (
    difference,
    images_behind,
    is_accuracy,
    measured_value,
    network_name,
    published_value,
)
from r2convert.results.reading import Run
from r2convert.results.verdicts import COUNTED, LABELS, WORST_FIRST, Check, Metric, Verdict, leading_check
from r2convert.results.verification import CheckpointResult, Speed, number

SHOWN: tuple[Metric, ...] = ("parameters", "flops", "top1", "top5")
"""Columns of the verdict table."""
SPEED = ("images/s", "ms a batch", "batch", "busy", "peak, GiB")
"""Columns of the speed table."""

_COUNTS = ("parameters", "flops", "activations")
_FOUR_DIGITS = 1000


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one network.

    Args:
        published: as printed, or the empty string if nothing was.
        measured: in the same unit.
        difference: between the two, in words.
        verdict: what came of it, or ``None`` if nothing was published.
    """

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
        order: of the verdict, worst first.
        failing: labels of failing checks that have no cell.
    """

    anchor: str
    name: str
    file: str
    cells: tuple[Cell, ...]
    verdict: Verdict
    order: int
    failing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check; texts are empty where there is nothing to say.

    Args:
        next: a command to run next.
    """

    label: str
    source: str
    published: str
    measured: str
    share: str
    difference: str
    verdict: Verdict
    note: str
    next: str


def network_row(anchor: str, result: CheckpointResult, catalog: Catalog) -> NetworkRow:
    """A result's row in the verdict table."""
    failing = [check.metric for check in result.checks if check.verdict == "fail" and check.metric not in SHOWN]
    return NetworkRow(
        anchor=anchor,
        name=network_name(result.variant, catalog),
        file=file_name(result),
        cells=tuple(_cell(result, metric) for metric in SHOWN),
        verdict=result.verdict,
        order=WORST_FIRST.index(result.verdict),
        failing=tuple(dict.fromkeys(LABELS[metric] for metric in failing)),
    )


def file_name(result: CheckpointResult) -> str:
    """The last part of a checkpoint's path, wherever it was verified."""
    if result.checkpoint is None:
        return "the reference network itself"
    return PurePath(result.checkpoint.replace("\\", "/")).name


def check_rows(result: CheckpointResult, run: Run) -> tuple[CheckRow, ...]:
    """All checks of a result, in order."""
    return tuple(
        CheckRow(
            label=check_label(check),
            source=check.source or "",
            published=readable(check.published, check.unit or "") if check.published is not None else "",
            measured=shown_measurement(check, result),
            share=_share(check, result),
            difference=difference(check, result),
            verdict=check.verdict,
            note=check.note,
            next=next_command(check, result, run),
        )
        for check in result.checks
    )


def next_command(check: Check, result: CheckpointResult, run: Run) -> str:
    """The command that says more about a check; the empty string for one that passes."""
    if check.verdict == "pass":
        return ""
    if result.checkpoint is None:
        return "r2convert list --claims"
    file, images = shlex.quote(result.checkpoint), shlex.quote(option_of(run, "--imagenet") or "PATH")
    if is_accuracy(check):
        return _next_for_accuracy(check, result, file, images)
    if check.metric in _COUNTS:
        return f"r2convert verify {file} --by-layer"
    published = f"r2convert compare {shlex.quote(result.variant)} {file}"
    photographs = f"r2convert verify {file} --wiring=FOLDER"
    commands: dict[Metric, str] = {
        "names": f"r2convert inspect {file} --tensors",
        "shapes": f"r2convert inspect {file} --tensors",
        "receipt": published,
        "wiring": published if check.verdict == "fail" else photographs,
        "parity": photographs,
    }
    undecided = check.verdict == "not-comparable"
    return f"r2convert inspect {file}" if undecided else commands.get(check.metric, f"r2convert inspect {file}")


def _next_for_accuracy(check: Check, result: CheckpointResult, file: str, images: str) -> str:
    if check.verdict == "fail":
        return f"r2convert doctor {file} --imagenet {images}"
    if check.verdict == "inconclusive":
        whole = result.accuracy is not None and result.accuracy.images >= IMAGENET_IMAGES
        return f"r2convert verify {file} --imagenet {images}" + (" --device cpu" if whole else "")
    if result.weights is None:
        return f"r2convert compare {shlex.quote(result.variant)} {file}"
    if check.weights not in (None, result.weights):
        return f"r2convert verify {shlex.quote(check.weights or '')} --fetch --imagenet {images}"
    # Other images were measured, or in another way: where the 50,000 are, nobody has said.
    return f"r2convert verify {file} --imagenet PATH"


def option_of(run: Run, name: str) -> str:
    """What a run's command line gives an option; the empty string where it does not have it."""
    words = run.verification.command or ()
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def check_label(check: Check) -> str:
    """What is checked, with the convention it is counted in."""
    return LABELS[check.metric] + (f" ({check.convention})" if check.convention else "")


def _cell(result: CheckpointResult, metric: Metric) -> Cell:
    check = leading_check(result.checks, metric)
    if check is None:
        return Cell("", "", "", None)
    return Cell(
        str(published_value(check)),
        measured_value(check, result),
        difference(check, result),
        check.verdict,
    )


def shown_measurement(check: Check, result: CheckpointResult) -> str:
    """What was measured, as a count of what it is; the empty string if nothing was."""
    if check.measured is None:
        return ""
    if is_accuracy(check):
        return f"{check.measured:,} of {images_behind(check, result):,}"
    return f"{check.measured:,} {COUNTED.get(check.metric, '')}".rstrip()


def _share(check: Check, result: CheckpointResult) -> str:
    images = images_behind(check, result)
    if check.measured is None or not is_accuracy(check) or not images:
        return ""
    return f"{100 * check.measured / images:.3f} %"


def speed_cells(speed: Speed) -> tuple[str, ...]:
    """What a run tells of one network, a word under each of :data:`SPEED`; empty where the system did not say it."""
    rate, batch = number(speed.images_per_second), number(speed.batch_milliseconds)
    return (
        f"{rate:,.{0 if rate >= _FOUR_DIGITS else 1}f}",
        f"{batch:,.{0 if batch >= _FOUR_DIGITS else 1}f}",
        str(speed.batch_size),
        f"{100 * number(speed.busy):.0f} %",
        f"{speed.peak_bytes / 2**30:.2f}" if speed.peak_bytes else "",
    )
