"""Too low here: which cause raises the score if the file or the images are taken to be like that?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from r2convert.doctor.agreement import KnownScore, difference, expect
from r2convert.doctor.evidence import Evidence
from r2convert.doctor.finding import Diagnosis, Finding, Question, Score
from r2convert.doctor.trials import Trial
from r2convert.evaluation.statistics import accuracy_interval, mcnemar

CHANCE = 0.01
"""Probability at which a rise is no longer taken for chance."""
_HARDLY_ANY = 0.1
"""Share of right images below which something is off, whatever images these are."""
_ALIKE = 0.05
"""Probability of a difference between two causes from which on they are not told apart."""


def score_of(trial: Trial, sound: Trial, known: KnownScore | None, all_images: int) -> Score:
    """A trial's counts, its change against the sound setting, and how it agrees with a known score."""
    change = difference(sound.right, trial.right)
    return Score(
        images=len(trial.right),
        top1_correct=int(trial.right[:, 0].sum()),
        top5_correct=int(trial.right[:, 1].sum()),
        gained=change.gained,
        lost=change.lost,
        probability=mcnemar(change.gained, change.lost),
        expectation=expect(trial.right, known, all_images) if known else None,
    )


def by_gain(sound: Trial, others: Sequence[Trial]) -> list[Trial]:
    """Trials whose cause can be in the file or the images, those that raise the score most in front."""

    def gain(trial: Trial) -> float:
        change = difference(sound.right, trial.right)
        return (change.gained - change.lost) / max(1, len(trial.right))

    return sorted((each for each in others if each.cause and each.cause.remedy), key=gain, reverse=True)


def best_remedy(sound: Trial, others: Sequence[Trial], *, low: bool) -> Trial | None:
    """The one that raises the score most, if that is not chance.

    Args:
        sound: the sound setting.
        others: the causes' trials.
        low: whether the score is known to be too low. If so, something is off, and the question is only what; if not,
            one of so many causes may raise the score by chance, and all that were tried are taken into account.
    """
    ranked = by_gain(sound, others)
    return ranked[0] if ranked and _rises(ranked[0], sound, 1 if low else len(ranked)) else None


def diagnose_low_score(
    sound: Trial, others: Sequence[Trial], question: Question, evidence: Evidence, all_images: int
) -> Diagnosis:
    """Rank the causes by what they would mend here.

    Args:
        sound: the sound setting.
        others: the causes' trials.
        question: what is known of the score.
        evidence: what was seen in the file and the images.
        all_images: how many images the sample was drawn from.
    """
    ranked = by_gain(sound, others)
    as_given = score_of(sound, sound, question.sound, all_images)
    low = is_low(as_given, question.sound)
    best = best_remedy(sound, others, low=low)
    mended = best is not None and _mends(best, float(sound.right[:, 0].mean()), question.sound, evidence, all_images)
    alike = [] if best is None else [each for each in ranked if _is_alike(each, best, sound, 1 if low else len(ranked))]
    if mended and question.sound is not None:
        # What leaves part of the gap is no explanation where another cause leaves none.
        alike = [each for each in alike if each is best or _reaches(each, question.sound, all_images)]
    seen = evidence.findings(blamed=low or question.sound is None, mended=mended)
    certain, uncertain = _by_certainty(seen, evidence)
    explaining = {id(each) for each in alike} if mended or not any(each.explains for each in seen) else set()
    scored = [_finding(each, sound, question, evidence, all_images, explains=id(each) in explaining) for each in ranked]
    split = len(alike) if mended else 0
    likely = (*scored[:split], *uncertain, *scored[split:])
    if certain:
        # What is certain leaves no room for what is likely.
        likely = tuple(replace(each, explains=False) for each in likely)
    findings = (*certain, *likely)
    return _conclude(findings, as_given, question, low=low, mended=mended)


def is_low(as_given: Score, known: KnownScore | None) -> bool:
    """Whether the score as given is below a known one by more than chance, or far below any that was ever published."""
    expectation = as_given.expectation
    if known is None:
        return as_given.images > 0 and accuracy_interval(as_given.top1_correct, as_given.images)[1] < _HARDLY_ANY
    return expectation is not None and not expectation.agrees and expectation.top1 < known.top1


def _rises(trial: Trial, sound: Trial, tried: int) -> bool:
    change = difference(sound.right, trial.right)
    return change.gained > change.lost and mcnemar(change.gained, change.lost) * tried < CHANCE


def _is_alike(trial: Trial, best: Trial, sound: Trial, tried: int) -> bool:
    """Whether a cause raises the score, too, and cannot be told from the best one."""
    between = difference(best.right, trial.right)
    return trial is best or (_rises(trial, sound, tried) and mcnemar(between.gained, between.lost) >= _ALIKE)


def _mends(best: Trial, as_given: float, known: KnownScore | None, evidence: Evidence, all_images: int) -> bool:
    """Whether nothing is left to explain with the best remedy in place."""
    if best.cause is not None and best.cause.by_chance:
        # A batch's statistics are never as good as those that were lost: a good part of the way has to do.
        aim = 1.0 if known is None else known.top1
        return float(best.right[:, 0].mean()) - as_given >= (aim - as_given) / 3
    return not evidence.suspects_left if known is None else _reaches(best, known, all_images)


def _reaches(trial: Trial, known: KnownScore, all_images: int) -> bool:
    expectation = expect(trial.right, known, all_images)
    return expectation.agrees or expectation.top1 > known.top1


def _finding(
    trial: Trial, sound: Trial, question: Question, evidence: Evidence, all_images: int, *, explains: bool
) -> Finding:
    cause = trial.cause
    assert cause is not None  # noqa: S101 - the sound setting is not among the ranked ones
    score = score_of(trial, sound, question.sound, all_images)
    named = evidence.sentences() if explains and cause.id == "training-mode" else ()
    return Finding(cause.id, cause.what, cause.remedy, "score", explains, score, named)


def _by_certainty(seen: Sequence[Finding], evidence: Evidence) -> tuple[list[Finding], list[Finding]]:
    """What proves the file wrong, and what only makes it likely."""
    count = bool(evidence.bad_values) + bool(evidence.untouched)
    return list(seen[:count]), list(seen[count:])


def _conclude(
    findings: Sequence[Finding], as_given: Score, question: Question, *, low: bool, mended: bool
) -> Diagnosis:
    explaining = [each for each in findings if each.explains]
    here = f"{100 * as_given.top1_correct / max(1, as_given.images):.1f} %"
    if not explaining and not low:
        known = f"agrees with the {100 * question.sound.top1:.2f} % known" if question.sound else "is not raised"
        summary = f"Nothing is off that could be seen here: top-1 of {here} on the sample {known}"
        summary += "." if question.sound else " by any remedy, and no published number speaks of these images."
        return Diagnosis("nothing is off", summary, low, "gain", as_given, tuple(findings))
    if not explaining:
        summary = f"Top-1 is {here} on the sample, too low, and none of the usual causes explains it."
        return Diagnosis("unexplained", summary, low, "gain", as_given, tuple(findings))
    if len(explaining) > 1:
        summary = f"{len(explaining)} causes explain it equally well on this sample; more images may tell them apart."
        return Diagnosis("hard to tell apart", summary, low, "gain", as_given, tuple(findings))
    summary = f"Most likely: {explaining[0].what}."
    if explaining[0].kind == "score" and not mended:
        summary += " It leaves a part of the gap, so there is more than this."
    return Diagnosis("cause found", summary, low, "gain", as_given, tuple(findings))
