"""A diagnosis for the terminal (a ranked table, then what to change) and as results keep it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import fill

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from r2convert.doctor.ranking import Consultation, Diagnosis, Finding, KnownScore, Question, Score
from r2convert.report.tables import plain_table
from r2convert.results.documents import (
    CauseNotTried,
    DiagnosisSummary,
    ExpectedShare,
    FindingSummary,
    KnownShares,
    TriedImages,
    TriedScore,
    TriedSetting,
)
from r2convert.results.verification import environment

_ROWS = 8


def diagnosis_view(consultation: Consultation, *, details: bool = False) -> RenderableType:
    """What was shown, the causes in order, the verdict, and what to change.

    Args:
        consultation: what was found.
        details: list every cause, not the first eight only.
    """
    diagnosis = consultation.diagnosis
    count = len(diagnosis.findings) if details else max(_ROWS, len(diagnosis.explanations))
    shown, rest = diagnosis.findings[:count], diagnosis.findings[count:]
    parts: list[RenderableType] = [_heading(consultation)]
    parts.append(_table(diagnosis, shown))
    if rest:
        names = ", ".join(finding.id for finding in rest)
        parts.append(Text(_wrapped(f"less likely: {names}", others="  ") + "\n", style="dim"))
    parts.append(_conclusion(diagnosis))
    remarks = [*diagnosis.notes, *(f"not tried: {cause}: {reason}" for cause, reason in consultation.not_tried)]
    if remarks:
        parts.append(Text("\n" + "\n".join(_wrapped(remark, others="  ") for remark in remarks)))
    return Group(*parts)


def _heading(consultation: Consultation) -> Text:
    images, question, score = consultation.images, consultation.question, consultation.diagnosis.as_given
    heading = Text(consultation.variant, style="bold")
    heading.append(f"  {consultation.path.name}, {consultation.layout} layout\n", style="not bold")
    lost = f", {consultation.lost} of them lost" if consultation.lost else ""
    drawn = f"{len(images.sample.images):,} of {images.all_images:,} images{lost}, random seed {images.seed}"
    heading.append(f"  images     {drawn}\n", style="not bold")
    heading.append(f"  as given   {_counts(score)}\n", style="not bold")
    heading.append("".join(_known_lines(question)), style="not bold")
    heading.rstrip()
    return heading


def _known_lines(question: Question) -> list[str]:
    lines = []
    for label, known, source in (
        ("should be", question.sound, question.sound_source),
        ("measured", question.measured, "elsewhere"),
    ):
        if known is not None:
            top5 = "" if known.top5 is None else f", top-5 {100 * known.top5:.2f} %"
            lines.append(f"  {label:<10} top-1 {100 * known.top1:.2f} %{top5}  {source}\n")
    return lines


def _counts(score: Score) -> str:
    shares = (
        f"{name} {correct} of {score.images} ({100 * correct / max(1, score.images):.1f} %)"
        for name, correct in (("top-1", score.top1_correct), ("top-5", score.top5_correct))
    )
    return ", ".join(shares)


def _table(diagnosis: Diagnosis, findings: Sequence[Finding]) -> Table:
    """How much accuracy each cause wins back, in points of all images."""
    right = ("images", "top-1", "wins back", "99.9 % interval")
    table = plain_table("cause", *right, "", right=right)
    if diagnosis.explained == "measured":
        table.add_row("none", str(diagnosis.as_given.images), _share(diagnosis.as_given), "", "", "")
    for finding in findings:
        score, cells = finding.score, 4 * ("-",)
        if score is not None:
            interval = f"{_points(score.low)} .. {_points(score.high)}"
            cells = (str(score.images), _share(score), _points(score.wins_back), interval)
        table.add_row(finding.id, *cells, _mark(finding))
    return table


def _share(score: Score) -> str:
    return f"{100 * score.top1_correct / max(1, score.images):.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _mark(finding: Finding) -> Text:
    return Text("explains", style="bold red") if finding.explains else Text("")


def _conclusion(diagnosis: Diagnosis) -> Text:
    style = "bold green" if diagnosis.verdict == "nothing is off" else "bold red"
    said = Text(f"{diagnosis.verdict}\n", style=style).append(_wrapped(diagnosis.summary), style="not bold default")
    for finding in diagnosis.explanations:
        said.append(f"\n\n{finding.id}", style="bold default").append(f": {finding.what}\n", style="not bold default")
        lines = [*(f"seen   {sentence}" for sentence in finding.evidence), f"to do  {finding.change}"]
        said.append("\n".join(_wrapped(line, "  ", 9 * " ") for line in lines), style="not bold default")
    return said


def _wrapped(text: str, first: str = "", others: str = "") -> str:
    """Lines of at most 80 columns, whatever the terminal's width: they are read, and copied."""
    return fill(text, 80, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def diagnosis_summary(consultation: Consultation, device: str) -> DiagnosisSummary:
    """A consultation as results keep it; shares of images are 0 to 1.

    Args:
        consultation: what was found.
        device: what the network ran on.
    """
    diagnosis, question, images = consultation.diagnosis, consultation.question, consultation.images
    return DiagnosisSummary(
        environment=environment(device),
        checkpoint=str(consultation.path),
        variant=consultation.variant,
        layout=consultation.layout,
        sha256=consultation.sha256,
        images=TriedImages(
            path=str(images.sample.path),
            layout=images.sample.layout,
            all=images.all_images,
            sample=len(images.sample.images),
            lost=consultation.lost,
            seed=images.seed,
        ),
        sound_setting=TriedSetting(**asdict(consultation.sound)),
        measured=_known(question.measured),
        sound=_known(question.sound),
        sound_source=question.sound_source,
        verdict=diagnosis.verdict,
        summary=diagnosis.summary,
        is_low_here=diagnosis.is_low_here,
        ranked_by=diagnosis.explained,
        as_given=_score(diagnosis.as_given),
        explanations=tuple(finding.id for finding in diagnosis.explanations),
        findings=tuple(_finding(finding) for finding in diagnosis.findings),
        notes=diagnosis.notes,
        not_tried=tuple(CauseNotTried(cause, reason) for cause, reason in consultation.not_tried),
        images_shown=consultation.shown,
        seconds=round(consultation.seconds, 3),
    )


def _known(known: KnownScore | None) -> KnownShares | None:
    return None if known is None else KnownShares(known.top1, known.top5)


def _finding(finding: Finding) -> FindingSummary:
    score = None if finding.score is None else _score(finding.score)
    return FindingSummary(
        finding.id, finding.what, finding.change, finding.kind, finding.explains, score, finding.evidence
    )


def _score(score: Score) -> TriedScore:
    known = score.expectation
    return TriedScore(
        images=score.images,
        top1_correct=score.top1_correct,
        top5_correct=score.top5_correct,
        gained=score.gained,
        lost=score.lost,
        mcnemar=score.probability,
        expectation=None if known is None else ExpectedShare(known.top1, known.standard_error, known.probability),
        weight=score.weight,
        wins_back=score.wins_back,
        wins_back_interval=(score.low, score.high),
    )
