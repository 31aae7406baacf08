"""Finds out what a faster precision changes, and settles in strict float32 what it could have changed.

A faster precision moves every logit a little, so it can decide an image otherwise only if two logits are close: the
first and the second, or the label's and the one at the cut below the fifth. How close is measured, not assumed: a
random part of the images is shown in both precisions, the largest change of these margins is doubled, and every
image with a margin below that is shown again in strict float32. Each such image widens the measurement; if the
bound grows by it, more images follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from r2convert.evaluation.backends import ComputePrecision
from r2convert.evaluation.predictions import NetworkAnswers, Predictions
from r2convert.imagenet.labels import TOP
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.results.verification import PrecisionAudit

Answer = Callable[[Sequence[ValidationImage], ComputePrecision], Predictions]
Rows = npt.NDArray[np.intp]

_AUDITED_SHARE = 0.02
_LEAST_AUDITED = 256
_SAFETY = 2.0


def answer_and_audit(
    answer: Answer, images: Sequence[ValidationImage], precision: ComputePrecision
) -> tuple[Predictions, dict[str, PrecisionAudit]]:
    """All images in a faster precision, and by network what that changed on a random part of them.

    Args:
        answer: shows images to the networks in a precision.
        images: all images.
        precision: the faster precision.
    """
    first = answer(images, precision)
    rows = _random_rows(first)
    strict = answer([first.images[row] for row in rows], "strict")
    audits = {name: _compare(first.answers[name], strict.answers[name], rows, precision) for name in first.answers}
    return first, audits


def answer_and_settle(
    answer: Answer, images: Sequence[ValidationImage], precision: ComputePrecision
) -> tuple[Predictions, dict[str, PrecisionAudit]]:
    """Strict's counts for less: all images in a faster precision, the doubtful ones again in strict float32.

    Returns:
        Predictions whose first classes, and whose labels' places among the first five, are those of strict; and by
        network what was found out on the images that were shown twice.
    """
    first = answer(images, precision)
    settled: dict[str, NetworkAnswers] = {name: _copy(answers) for name, answers in first.answers.items()}
    shown_again = np.zeros(first.done, bool)
    bounds = dict.fromkeys(settled, 0.0)
    rows = _random_rows(first)
    while len(rows):
        strict = answer([first.images[row] for row in rows], "strict")
        shown_again[rows] = True
        doubtful = np.zeros(first.done, bool)
        for name, answers in settled.items():
            _overwrite(answers, rows, strict.answers[name])
            drift = _largest_drift(first.answers[name], answers, np.flatnonzero(shown_again))
            bounds[name] = _SAFETY * drift
            # "not above" instead of "below": a NaN is doubtful.
            doubtful |= ~(np.abs(first.answers[name].margins[: first.done]) > bounds[name]).all(1)
        rows = np.flatnonzero(doubtful & ~shown_again & _has_crop(first))
    twice = np.flatnonzero(shown_again)
    audits = {}
    for name, answers in settled.items():
        strict_part = NetworkAnswers(answers.top[twice], answers.rank[twice], answers.margins[twice])
        audits[name] = _compare(first.answers[name], strict_part, twice, precision, bounds[name])
        _overwrite(first.answers[name], twice, strict_part)
    return first, audits


def _random_rows(answered: Predictions) -> Rows:
    """Rows of the images with the smallest hashes of their ids: random, and the same every time."""
    count = max(_LEAST_AUDITED, round(_AUDITED_SHARE * answered.done))
    rows = np.flatnonzero(_has_crop(answered))
    rows_by_lot = sorted(rows, key=lambda row: hashlib.sha256(answered.images[row].id.encode()).digest())
    return np.sort(np.array(rows_by_lot[:count], np.intp))


def _has_crop(answered: Predictions) -> npt.NDArray[np.bool_]:
    return np.array([loaded.problem is None for loaded in answered.loaded], bool)


def _compare(
    first: NetworkAnswers, strict: NetworkAnswers, rows: Rows, precision: str, bound: float | None = None
) -> PrecisionAudit:
    """What a precision changed; ``strict`` holds the given rows only."""
    whole = _copy(first)
    _overwrite(whole, rows, strict)
    return PrecisionAudit(
        first_precision=precision,
        images=len(rows),
        changed_top1=int(np.count_nonzero(first.top[rows, 0] != strict.top[:, 0])),
        changed_top1_correct=int(np.count_nonzero((first.rank[rows] < 1) != (strict.rank < 1))),
        changed_top5_correct=int(np.count_nonzero((first.rank[rows] < TOP) != (strict.rank < TOP))),
        largest_drift=_largest_drift(first, whole, rows),
        bound=bound,
    )


def _largest_drift(first: NetworkAnswers, strict: NetworkAnswers, rows: Rows) -> float:
    """By how much a margin of these rows changed at most; NaNs are not counted, they are always doubtful."""
    before, after = first.margins[rows].astype(np.float64), strict.margins[rows].astype(np.float64)
    # If another class came first, the margin went through zero and out on the other side.
    after[:, 0] = np.where(first.top[rows, 0] == strict.top[rows, 0], after[:, 0], -after[:, 0])
    with np.errstate(invalid="ignore"):
        return float(np.fmax.reduce(np.abs(before - after), axis=None, initial=0.0))


def _copy(answers: NetworkAnswers) -> NetworkAnswers:
    return NetworkAnswers(answers.top.copy(), answers.rank.copy(), answers.margins.copy())


def _overwrite(answers: NetworkAnswers, rows: Rows, by: NetworkAnswers) -> None:
    count = len(rows)
    answers.top[rows], answers.rank[rows], answers.margins[rows] = by.top[:count], by.rank[:count], by.margins[:count]
