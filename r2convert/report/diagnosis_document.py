"""A diagnosis as results keep it, schema ``r2convert.doctor/1``."""

from __future__ import annotations

from dataclasses import asdict

from r2convert.doctor.agreement import KnownScore
from r2convert.doctor.consultation import Consultation
from r2convert.doctor.finding import Finding, Score
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
    )
