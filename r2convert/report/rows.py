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
from r2convert.results.verdicts import COLUMNS, COUNTED, LABELS, WORST_FIRST, Check, Metric, Verdict, leading_check
from r2convert.results.verification import CheckpointResult, Speed, number

SHOWN: tuple[Metric, ...] = ("parameters", "flops", "top1", "top5")
"""Columns of the verdict table."""
SPEED = ("images/s", "ms a batch", "batch", "busy", "peak, GiB")
"""Columns of the speed table."""

_CHANGED_CLASSES = 6
_FOUR_DIGITS = 1000


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one network.

    Args:
        heading: what it is.
        published: as printed, or the empty string if nothing was.
        measured: in the same unit.
        difference: between the two, in words.
        verdict: what came of it, or ``None`` if nothing was published.
        order: what to sort by.
    """

    heading: str
    published: str
    measured: str
    difference: str
    verdict: Verdict | None
    order: float


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


@dataclass(frozen=True, slots=True)
class ChangedCheck:
    """A check that came out otherwise in the second run."""

    label: str
    source: str
    before: str
    after: str
    verdict_before: Verdict | None
    verdict_after: Verdict | None


@dataclass(frozen=True, slots=True)
class ChangedClass:
    """A class of which another number of images is right in the second run."""

    synset: str
    before: int
    after: int
    images: int


@dataclass(frozen=True, slots=True)
class Change:
    """One network in two runs.

    Args:
        name: the network.
        file: name of the file, of both if they differ.
        verdicts: before and after.
        checks: those that came out otherwise.
        top1: images right at top-1 before and after; ``None`` unless both were measured on as many images.
        classes: those that changed most.
        same_crops: whether both runs used the same pixels.
    """

    name: str
    file: str
    verdicts: tuple[Verdict, Verdict]
    checks: tuple[ChangedCheck, ...]
    top1: tuple[int, int] | None
    classes: tuple[ChangedClass, ...]
    same_crops: bool


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
            label=_label(check),
            source=check.source or "",
            published=readable(check.published, check.unit or "") if check.published is not None else "",
            measured=_measured(check, result),
            share=_share(check, result),
            difference=difference(check, result),
            verdict=check.verdict,
            note=check.note,
            next=next_command(check, result, run),
        )
        for check in result.checks
    )


def next_command(check: Check, result: CheckpointResult, run: Run) -> str:
    """The command that says more about a check that is not a pass; the empty string where none does."""
    if check.verdict in ("pass", "known-deviation") or result.checkpoint is None:
        return ""
    file, images = shlex.quote(result.checkpoint), shlex.quote(_option(run, "--imagenet") or "PATH")
    if is_accuracy(check):
        return _next_for_accuracy(check, result, file, images)
    commands: dict[Metric, str] = {
        "names": f"r2convert inspect {file} --tensors",
        "shapes": f"r2convert inspect {file} --tensors",
        "values": f"r2convert inspect {file}",
        "receipt": f"r2convert compare {shlex.quote(result.variant)} {file}",
        "wiring": f"r2convert compare {shlex.quote(result.variant)} {file}",
        "parity": f"r2convert verify {file} --wiring=FOLDER",
    }
    if check.metric == "wiring" and check.verdict == "inconclusive":
        return f"r2convert verify {file} --wiring=FOLDER"
    return commands.get(check.metric, f"r2convert inspect {file}" if check.verdict == "fail" else "")


def _next_for_accuracy(check: Check, result: CheckpointResult, file: str, images: str) -> str:
    whole = result.accuracy is not None and result.accuracy.images >= IMAGENET_IMAGES
    if check.verdict == "fail":
        return f"r2convert doctor {file} --imagenet {images}"
    if check.verdict == "inconclusive":
        return f"r2convert verify {file} --imagenet {images}" + (" --device cpu" if whole else "")
    if result.weights is None:
        return f"r2convert compare {shlex.quote(result.variant)} {file}"
    if check.weights not in (None, result.weights):
        return f"r2convert verify {shlex.quote(check.weights or '')} --fetch --imagenet {images}"
    # Another set may have been measured: where the 50,000 images are, nobody has said.
    return "" if whole else f"r2convert verify {file} --imagenet PATH"


def _option(run: Run, name: str) -> str:
    """What the run's command line gives an option; the empty string where it does not have it."""
    words = run.verification.command or ()
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def predictions_command(before: Run, after: Run) -> str:
    """The command that names the images two runs predict otherwise; the empty string if they kept no predictions."""
    files = [_option(run, "--predictions") for run in (before, after)]
    return f"r2convert compare {shlex.join(files)}" if all(files) and files[0] != files[1] else ""


def changes(before: Run, after: Run, catalog: Catalog) -> tuple[Change, ...]:
    """What came out otherwise in the second run, network by network; those that neither run shares are left out."""
    earlier: dict[str, list[CheckpointResult]] = {}
    for result in before.results:
        earlier.setdefault(result.variant, []).append(result)
    pairs = [(earlier[each.variant].pop(0), each) for each in after.results if earlier.get(each.variant)]
    return tuple(_change(first, second, network_name(second.variant, catalog)) for first, second in pairs)


def _change(before: CheckpointResult, after: CheckpointResult, name: str) -> Change:
    one, other = before.accuracy, after.accuracy
    comparable = one is not None and other is not None and one.images == other.images
    top1 = (one.top1_correct, other.top1_correct) if one and other and comparable else None
    names = dict.fromkeys((file_name(before), file_name(after)))
    return Change(
        name,
        " → ".join(names),
        (before.verdict, after.verdict),
        tuple(_changed_checks(before, after)),
        top1,
        _changed_classes(before, after) if comparable else (),
        same_crops=comparable and one is not None and other is not None and one.crops_sha256 == other.crops_sha256,
    )


def _changed_checks(before: CheckpointResult, after: CheckpointResult) -> list[ChangedCheck]:
    first, second = ({(_label(check), check.source or ""): check for check in each.checks} for each in (before, after))
    changed = []
    for key in dict.fromkeys([*first, *second]):
        one, other = first.get(key), second.get(key)
        was, now = _measured(one, before) if one else "", _measured(other, after) if other else ""
        verdicts = (one.verdict if one else None, other.verdict if other else None)
        if was != now or verdicts[0] != verdicts[1]:
            changed.append(ChangedCheck(*key, was, now, *verdicts))
    return changed


def _changed_classes(before: CheckpointResult, after: CheckpointResult) -> tuple[ChangedClass, ...]:
    first, second = (result.accuracy.per_class if result.accuracy else {} for result in (before, after))
    changed = [
        ChangedClass(synset, right, second[synset][1], images)
        for synset, (images, right) in first.items()
        if synset in second and second[synset][1] != right
    ]
    return tuple(sorted(changed, key=lambda each: (-abs(each.after - each.before), each.synset))[:_CHANGED_CLASSES])


def _label(check: Check) -> str:
    return LABELS[check.metric] + (f" ({check.convention})" if check.convention else "")


def _cell(result: CheckpointResult, metric: Metric) -> Cell:
    check = leading_check(result.checks, metric)
    if check is None:
        return Cell(COLUMNS[metric], "", "", "", None, -1.0)
    return Cell(
        COLUMNS[metric],
        str(published_value(check)),
        measured_value(check, result),
        difference(check, result),
        check.verdict,
        float(published_value(check)),
    )


def _measured(check: Check, result: CheckpointResult) -> str:
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
