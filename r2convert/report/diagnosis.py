"""A diagnosis for the terminal: a ranked table, then what to change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from textwrap import fill

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from r2convert.report.tables import plain_table
from r2convert.results.diagnosis import Diagnosis, Finding, Score

_ROWS, _WIDTH = 8, 80


def diagnosis_view(diagnosis: Diagnosis, width: int = _WIDTH, *, details: bool = False) -> RenderableType:
    """What was shown, the causes in order, the verdict, and what to change.

    Args:
        diagnosis: what was found.
        width: columns of the terminal; sentences take 80 of them at most: they are read, and copied.
        details: list every cause, not the first eight only.
    """
    width = min(width, _WIDTH)
    count = len(diagnosis.findings) if details else max(_ROWS, len(diagnosis.explanations))
    shown, rest = diagnosis.findings[:count], diagnosis.findings[count:]
    parts: list[RenderableType] = [_heading(diagnosis, width), _table(diagnosis, shown)]
    if rest:
        names = ", ".join(finding.id for finding in rest)
        parts.append(Text(_wrapped(f"less likely: {names}", width, others="  ") + "\n", style="dim"))
    parts.append(_conclusion(diagnosis, width))
    remarks = [*diagnosis.notes, *(f"not tried: {each.id}: {each.reason}" for each in diagnosis.not_tried)]
    if remarks:
        parts.append(Text("\n" + "\n".join(_wrapped(remark, width, others="  ") for remark in remarks)))
    return Group(*parts)


def _heading(diagnosis: Diagnosis, width: int) -> Text:
    images, given = diagnosis.images, diagnosis.as_given
    lost = f", {images.lost} of them lost" if images.lost else ""
    counts = (
        f"{name} {correct} of {given.images} ({100 * correct / max(1, given.images):.1f} %)"
        for name, correct in (("top-1", given.top1_correct), ("top-5", given.top5_correct))
    )
    lines = [
        f"images     {images.sample:,} of {images.all:,} images{lost}, random seed {images.seed}",
        f"as given   {', '.join(counts)}",
    ]
    for label, known, source in (
        ("should be", diagnosis.sound, diagnosis.sound_source),
        ("measured", diagnosis.measured, "elsewhere"),
    ):
        if known is not None:
            top5 = "" if known.top5 is None else f", top-5 {100 * known.top5:.2f} %"
            lines.append(f"{label:<10} top-1 {100 * known.top1:.2f} %{top5}  {source}")
    described = [_wrapped(line, width, "  ", 13 * " ") for line in lines]
    first = f"  {PurePath(diagnosis.checkpoint).name}, {diagnosis.layout} layout"
    return Text(diagnosis.variant, style="bold").append("\n".join((first, *described)), style="not bold")


def _table(diagnosis: Diagnosis, findings: Sequence[Finding]) -> Table:
    """How much accuracy each cause wins back, in points of all images."""
    right = ("images", "top-1", "wins back", "99.9 % interval")
    table = plain_table("cause", *right, "", right=right)
    if diagnosis.ranked_by == "measured":
        table.add_row("none", str(diagnosis.as_given.images), _share(diagnosis.as_given), "", "", "")
    for finding in findings:
        score, cells = finding.score, 4 * ("-",)
        if score is not None:
            interval = " .. ".join(map(_points, score.wins_back_interval or ()))
            cells = (str(score.images), _share(score), _points(score.wins_back or 0.0), interval)
        mark = Text("explains", style="bold red") if finding.explains else Text("")
        table.add_row(finding.id, *cells, mark)
    return table


def _share(score: Score) -> str:
    return f"{100 * score.top1_correct / max(1, score.images):.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _conclusion(diagnosis: Diagnosis, width: int) -> Text:
    style = "bold green" if diagnosis.verdict == "nothing is off" else "bold red"
    said = Text(f"{diagnosis.verdict}\n", style=style).append(
        _wrapped(diagnosis.summary, width), style="not bold default"
    )
    for finding in diagnosis.findings:
        if finding.explains:
            lines = [*(f"seen   {sentence}" for sentence in finding.evidence), f"to do  {finding.change}"]
            said.append(f"\n\n{finding.id}", style="bold default")
            said.append(f": {finding.what}\n", style="not bold default")
            said.append("\n".join(_wrapped(line, width, "  ", 9 * " ") for line in lines), style="not bold default")
    return said


def _wrapped(text: str, width: int, first: str = "", others: str = "") -> str:
    return fill(text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
