"""What the terminal shows of results: one with all its checks, of several a row each; readable without colour.

Tables are at most 80 columns wide; where a terminal is narrower still, rows become blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from r2convert.catalog.printed import readable
from r2convert.checks.counting import shown_size
from r2convert.files import printable
from r2convert.report.differences import SPEED, file_name, measured_value, published_value, short_name, speed_cells
from r2convert.report.tables import plain_table, verdict_text
from r2convert.results.verdicts import (
    COLUMNS,
    COUNTED,
    LABELS,
    Check,
    Metric,
    Verdict,
    leading_check,
)
from r2convert.results.verification import (
    Accuracy,
    ActivationComparison,
    CheckpointResult,
    Operations,
    UncheckedFile,
    WiringResult,
    number,
)

_SHORT: dict[Verdict, str] = {"known-deviation": "deviates", "not-comparable": "not compared"}
"""Words that fit the columns; the whole ones stand under the variant's name."""
_FIRST = "published/measured"
_LISTED = 3
_LINE = 66
_PROPERTIES = ("receipt", "names", "shapes", "values", "wiring", "parity")


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
        if not details and any(result.accuracy and result.accuracy.speed for result in results):
            views.append(speed_table(results))
    return Group(*views, reason_lines(results))


def result_view(result: CheckpointResult) -> RenderableType:
    """One checkpoint: what it is, its own properties, then published against measured, row by row."""
    parts: list[RenderableType] = [_heading(result)]
    if result.evidence:
        parts.append(_evidence_line(result.evidence))
    properties = [check for check in result.checks if check.metric in _PROPERTIES]
    if properties:
        parts.append(_property_lines(properties))
    parts.append(_claim_table([check for check in result.checks if check.metric not in _PROPERTIES]))
    if result.accuracy is not None:
        parts.append(_accuracy_line(result.accuracy))
    return Group(*parts)


def _heading(result: CheckpointResult) -> Text:
    heading = Text(result.variant, style="bold")
    if result.checkpoint is None:
        return heading.append("  the reference network itself, no file", style="not bold")
    half = f", {result.half_precision}: half precision" if result.half_precision else ""
    return heading.append(f"  {file_name(result)}, {result.layout} layout{half}", style="not bold")


def _evidence_line(evidence: str) -> Table:
    """Why the file is believed to be this network; what does not fit in a line continues below it."""
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(no_wrap=True)
    line.add_column(overflow="fold")
    line.add_row("  evidence", evidence)
    return line


def _property_lines(checks: Iterable[Check]) -> Text:
    lines = Text()
    for check in checks:
        lines.append(f"  {LABELS[check.metric]:<9}")
        lines.append(verdict_text(check.verdict))
        counted = f"{check.measured:,} {COUNTED[check.metric]}" if check.measured is not None else ""
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


_PARAMETERS = {"weights+statistics": "parameters+BN", "fluid": "params (fluid)"}
"""What is counted as parameters, where that is not what is learned."""


def _label(check: Check) -> str:
    if check.metric == "flops":
        return f"{LABELS[check.metric]} ({check.convention})"
    if check.metric == "parameters":
        return _PARAMETERS.get(check.convention or "", "parameters")
    return LABELS[check.metric]


def _accuracy_line(accuracy: Accuracy) -> Text:
    images = accuracy.images
    line = Text("  accuracy  ")
    for name, correct in (("top-1", accuracy.top1_correct), ("top-5", accuracy.top5_correct)):
        line.append(f"{name} {correct:,} of {images:,} ({100 * correct / images:.3f} %)  ")
    for more in (*_lost_images(accuracy), *_precision_lines(accuracy)):
        line.append(f"\n            {more}")
    if accuracy.speed is not None:
        rate, milliseconds, batch, busy, peak = speed_cells(accuracy.speed)
        line.append(f"\n  speed     {rate} images/s, {milliseconds} ms a batch of {batch}, {busy} busy")
        line.append(f", peak {peak} GiB" if peak else "")
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
        text = printable(f"{name}: {reason}")
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


def verdict_table(results: Sequence[CheckpointResult]) -> Table:
    """One row a result, in at most 80 columns: variant and file, and published/measured with the verdict below.

    Of several published numbers for one column the one with the worst verdict is shown; of equal verdicts, the one
    printed with most digits.
    """
    others: tuple[Metric, ...] = ("top1", "top5") if any(each.accuracy for each in results) else ("activations",)
    metrics: tuple[Metric, ...] = ("parameters", "flops", *others)
    headings = [COLUMNS[metric] for metric in metrics]
    # A long file name wraps to the next line; a variant does not.
    table = plain_table(_FIRST, *headings, right=headings, fold=(_FIRST,))
    table.columns[0].min_width = max(map(len, (_FIRST, *(result.variant for result in results))))
    for result in results:
        table.add_row(_name(result), *(_cell(result, metric) for metric in metrics))
    return table


def speed_table(results: Sequence[CheckpointResult]) -> Table:
    """How fast each network was shown its images; those that were shown none in this run are left out."""
    table = plain_table("speed", *SPEED, right=SPEED)
    for result in results:
        if result.accuracy is not None and result.accuracy.speed is not None:
            table.add_row(result.variant, *speed_cells(result.accuracy.speed))
    return table


def reason_lines(results: Iterable[CheckpointResult]) -> Text:
    """Why a check did not simply pass, one line a reason, equal reasons of one network together."""
    lines = Text()
    for result in results:
        reasons: dict[tuple[Verdict, str], list[str]] = {}
        for check in result.checks:
            if check.verdict != "pass" and check.note:
                label = LABELS[check.metric] if check.source is None else f"{LABELS[check.metric]} ({check.source})"
                reasons.setdefault((check.verdict, check.note), []).append(label)
        for (verdict, note), labels in reasons.items():
            lines.append(f"{result.variant}: {', '.join(labels)}: ").append(verdict_text(verdict)).append(f": {note}\n")
    lines.rstrip()
    return lines


def unchecked_lines(files: Iterable[UncheckedFile]) -> Text:
    """Files that could not be checked, and why."""
    lines = []
    for each in files:
        why = [f"{word} {text}" for word, text in (("expected", each.expected), ("got", each.got)) if text]
        lines.append(printable(f"{each.checkpoint}: not checked: " + ", ".join([each.what, *why])))
    return Text("\n".join(lines), style="bold red")


def _name(result: CheckpointResult) -> Text:
    failing = [check.metric for check in result.checks if check.verdict == "fail" and check.metric not in COLUMNS]
    name = Text(result.variant).append("\n")
    if result.checkpoint is not None:
        name.append(f"{printable(file_name(result))}\n")
    name.append(verdict_text(result.verdict))
    return name.append(": " + ", ".join(failing)) if failing else name


def _cell(result: CheckpointResult, metric: Metric) -> Text:
    check = leading_check(result.checks, metric)
    if check is None:
        return Text("-")
    text = Text(f"{published_value(check)}/{measured_value(check, result)}\n")
    return text.append(verdict_text(check.verdict, _SHORT.get(check.verdict)))


def operations_view(operations: Operations) -> RenderableType:
    """What every layer costs for one image, in network order, and all together; layers that cost nothing left out."""
    headings = ("MACs", "mmcv", "fvcore", "activ.")
    # Where the counts leave no room for a name, it wraps to the next line.
    table = plain_table("layer", *headings, right=headings, fold=("layer",))
    for layer in operations.layers or ():
        counts = (layer.macs, layer.mmcv, layer.fvcore, layer.activations)
        if any(counts):
            table.add_row(short_name(layer.name), *(f"{count:,}" if count else "" for count in counts))
    conventions = ("macs", "mmcv", "fvcore", "activations")
    total = "\n".join(f"  {each:<11} {getattr(operations, each):>15,}" for each in conventions)
    return Group(table, Text(f"all layers\n{total}\n"))


def wiring_table(wiring: WiringResult) -> Table:
    """How well every BatchNorm's running statistics fit its input, in network order."""
    measured = ("mean shift", "log var.", "corr. means", "corr. vars")
    table = plain_table("BatchNorm", *measured, "", right=measured)
    for layer in wiring.layers:
        values = (layer.mean_shift, layer.log_variance, layer.mean_correlation, layer.variance_correlation)
        word = verdict_text("fail", "suspect") if layer.suspect else Text("")
        table.add_row(short_name(layer.name), *(f"{number(value):.2f}" for value in values), word)
    return table


def stages_table(comparison: ActivationComparison) -> Table:
    """How far two networks are apart at every stage, and at the first layer that differs."""
    table = plain_table("output", "largest difference", "share of largest", right=("largest difference",))
    first = comparison.first_layer
    for output in (*comparison.stages, *([first] if first is not None and first not in comparison.stages else [])):
        name = short_name(output.name) + (" (first layer to differ)" if output is first else "")
        table.add_row(name, f"{number(output.max_abs_diff):.3g}", f"{100 * number(output.relative):.2g} %")
    return table


def activations_view(comparison: ActivationComparison) -> Text:
    """Whether two networks' activations are equal, and if not, where they first differ."""
    if comparison.equal:
        return Text("equal activations", style="green").append(f": {comparison.layers} layers", style="default")
    view = Text("different activations", style="bold red").append(f": {comparison.parting}", style="not bold default")
    for stage in comparison.stages:
        state = stage.size if stage.differs else "equal"
        view.append(f"\n  {stage.name}: {state}", style="not bold default")
    return view
