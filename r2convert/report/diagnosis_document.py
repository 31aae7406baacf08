"""A diagnosis as a JSON document, schema ``r2convert.doctor/1``; fields may be added, never changed."""

from __future__ import annotations

from dataclasses import asdict

from r2convert.doctor.agreement import Expectation, KnownScore
from r2convert.doctor.consultation import Consultation
from r2convert.doctor.finding import Finding, Score
from r2convert.results.document import environment

SCHEMA = "r2convert.doctor/1"


def diagnosis_document(consultation: Consultation, device: str) -> dict[str, object]:
    """A consultation as plain values; shares of images are 0 to 1.

    Args:
        consultation: what was found.
        device: where the network ran.
    """
    diagnosis, question, images = consultation.diagnosis, consultation.question, consultation.images
    return {
        "schema": SCHEMA,
        "environment": environment(device),
        "checkpoint": str(consultation.path),
        "variant": consultation.variant,
        "layout": consultation.layout,
        "sha256": consultation.sha256,
        "images": {
            "path": str(images.sample.path),
            "layout": images.sample.layout,
            "all": images.all_images,
            "sample": len(images.sample.images),
            "lost": consultation.lost,
            "seed": images.seed,
        },
        "sound_setting": asdict(consultation.sound),
        "measured": _known(question.measured),
        "sound": _known(question.sound),
        "sound_source": question.sound_source,
        "verdict": diagnosis.verdict,
        "summary": diagnosis.summary,
        "is_low_here": diagnosis.is_low_here,
        "ranked_by": diagnosis.explained,
        "as_given": _score(diagnosis.as_given),
        "explanations": [finding.id for finding in diagnosis.explanations],
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "notes": list(diagnosis.notes),
        "not_tried": [{"id": cause, "reason": reason} for cause, reason in consultation.not_tried],
        "images_shown": consultation.shown,
        "seconds": round(consultation.seconds, 3),
    }


def _known(known: KnownScore | None) -> dict[str, object] | None:
    return None if known is None else {"top1": known.top1, "top5": known.top5}


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "id": finding.id,
        "what": finding.what,
        "change": finding.change,
        "kind": finding.kind,
        "explains": finding.explains,
        "score": None if finding.score is None else _score(finding.score),
        "evidence": list(finding.evidence),
    }


def _score(score: Score) -> dict[str, object]:
    return {
        "images": score.images,
        "top1_correct": score.top1_correct,
        "top5_correct": score.top5_correct,
        "gained": score.gained,
        "lost": score.lost,
        "mcnemar": score.probability,
        "expectation": None if score.expectation is None else _expectation(score.expectation),
        "weight": score.weight,
    }


def _expectation(expectation: Expectation) -> dict[str, object]:
    return {
        "top1": expectation.top1,
        "standard_error": expectation.standard_error,
        "probability": expectation.probability,
    }
