"""Measured elsewhere, and another number than here: which mistake gives that number?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log

from r2convert.doctor.agreement import KnownScore, Right, expect
from r2convert.doctor.finding import Diagnosis, Finding, Question, Score
from r2convert.doctor.gains import is_low, score_of
from r2convert.doctor.trials import Trial

TELLING_ODDS = 20.0
"""Odds at which one of two causes is taken to be told from the other."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How the settings fit a number that was measured elsewhere.

    Args:
        as_given: the sound setting's fit.
        others: every cause's, those that fit best in front.
    """

    as_given: Score
    others: tuple[tuple[Trial, Score], ...]

    @property
    def as_given_fits(self) -> bool:
        """Whether no mistake is needed to get that number."""
        best = max([self.as_given, *(score for _, score in self.others)], key=_weight)
        return _fits(self.as_given, best)


def fit_number(sound: Trial, others: Sequence[Trial], question: Question, all_images: int) -> Fit:
    """Hold every setting against the measured number.

    Args:
        sound: the sound setting.
        others: the causes' trials.
        question: the measured number, and what is known to be sound.
        all_images: how many images the sample was drawn from.
    """
    measured = question.measured
    assert measured is not None  # noqa: S101 - asked for with a measured number only
    here = score_of(sound, sound, question.sound, all_images)
    # A known score speaks for the sound setting only where the file and the images reach it.
    known = None if question.sound is None or is_low(here, question.sound) else (sound.right, question.sound)
    scores = [_score(each, sound, measured, known, all_images) for each in (sound, *others)]
    largest = max(_log_density(score) for score in scores)
    everything = largest + log(sum(exp(_log_density(score) - largest) for score in scores))
    weighed = [replace(score, weight=exp(_log_density(score) - everything)) for score in scores]
    ranked = sorted(zip(others, weighed[1:], strict=True), key=lambda pair: -_log_density(pair[1]))
    return Fit(weighed[0], tuple(pair for pair in ranked if _advice(*pair)))


def diagnose_number(fit: Fit, question: Question) -> Diagnosis:
    """Rank the mistakes by how well each gives the measured number, which the sound setting does not give."""
    fitting = [score for _, score in fit.others if _fits(score, fit.others[0][1])]
    findings = tuple(_finding(trial, score, explains=score in fitting) for trial, score in fit.others)
    measured = f"{100 * question.measured.top1:.2f} %" if question.measured else ""
    if not fitting:
        summary = f"None of the usual mistakes gives {measured}; the file itself is sound as far as these images tell."
        return Diagnosis("unexplained", summary, False, "measured", fit.as_given, findings)
    if len(fitting) > 1:
        summary = f"{len(fitting)} mistakes give about {measured} on this sample; more images may tell them apart."
        return Diagnosis("hard to tell apart", summary, False, "measured", fit.as_given, findings)
    summary = f"Most likely: {findings[0].what}."
    return Diagnosis("cause found", summary, False, "measured", fit.as_given, findings)


def diagnose_nothing(fit: Fit, question: Question) -> Diagnosis:
    """The measured number is what a sound measurement gives, as far as the sample tells."""
    findings = tuple(_finding(trial, score, explains=False) for trial, score in fit.others)
    measured = f"{100 * question.measured.top1:.2f} %" if question.measured else ""
    as_well = [trial.cause.id for trial, score in fit.others if trial.cause and _fits(score, fit.as_given)]
    summary = f"Nothing is off that could be seen here: {measured} is what this file gives on these images."
    notes = (f"mistakes with so small an effect cannot be ruled out: {', '.join(as_well)}",) if as_well else ()
    return Diagnosis("nothing is off", summary, False, "measured", fit.as_given, findings, notes)


def _score(
    trial: Trial, sound: Trial, measured: KnownScore, known: tuple[Right, KnownScore] | None, all_images: int
) -> Score:
    score = score_of(trial, sound, None, all_images)
    drawn_from = inf if trial.cause is not None and trial.cause.by_chance else all_images
    shown = len(trial.right)
    if known is None:
        return replace(score, expectation=expect(trial.right, measured, drawn_from))
    # The sound setting is compared with itself on every image, others on those they were shown.
    right = known[0] if trial is sound else known[0][:shown]
    return replace(score, expectation=expect(trial.right, measured, drawn_from, sound=(right, known[1])))


def _finding(trial: Trial, score: Score, *, explains: bool) -> Finding:
    assert trial.cause is not None  # noqa: S101 - the sound setting is not among the ranked ones
    return Finding(trial.cause.id, trial.cause.what, _advice(trial, score), "score", explains, score)


def _advice(trial: Trial, score: Score) -> str:
    """What to change; where a cause raises the score, the file is what differs and not the measurement elsewhere."""
    assert trial.cause is not None  # noqa: S101
    return trial.cause.remedy if score.gained > score.lost else trial.cause.mistake


def _fits(score: Score, best: Score) -> bool:
    """Whether a setting gives the number, and the best one does not do so much better."""
    agrees = score.expectation is not None and score.expectation.agrees
    return agrees and _weight(score) * TELLING_ODDS >= _weight(best)


def _weight(score: Score) -> float:
    return score.weight or 0.0


def _log_density(score: Score) -> float:
    assert score.expectation is not None  # noqa: S101 - every score was held against the number
    return score.expectation.log_density
