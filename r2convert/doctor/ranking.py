"""Causes ranked by how much accuracy each wins back.

Too low here, a cause is taken for a property of the file or the images, and wins back what the score rises by with it.
Too low elsewhere, it is taken for a mistake made there, and wins back what it costs here. Either way it explains the
gap only if that is what it wins back, as far as the sample can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf
from typing import Literal, NamedTuple

from msgspec.structs import replace

from r2convert.doctor.scores import HARDLY_ANY, changed_images, hold, images_that_tell, score_of, tells
from r2convert.doctor.trials import Trial
from r2convert.evaluation.statistics import accuracy_interval, mcnemar
from r2convert.results.diagnosis import Finding, KnownScore, Outcome, Score

CHANCE = 0.01
"""Probability at which a rise is no longer taken for chance."""
ALIKE = 0.05
"""Two causes are not told apart by a difference of this probability."""


class Answer(NamedTuple):
    """What came of it; the fields are those of :class:`~r2convert.results.diagnosis.Diagnosis`."""

    verdict: Outcome
    summary: str
    is_low_here: bool
    as_given: Score
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def explanations(self) -> tuple[str, ...]:
        """The names of the findings that explain it: one, or several that cannot be told apart."""
        return tuple(finding.id for finding in self.findings if finding.explains)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Trials on a sample, and what is known of the score.

    Args:
        sound: the sound setting.
        others: one trial a cause.
        known: what a sound measurement gives on all images, if that is known.
        all_images: how many images the sample was drawn from.
    """

    sound: Trial
    others: Sequence[Trial]
    known: KnownScore | None
    all_images: int

    @property
    def is_low(self) -> bool:
        """Whether the score as given is below the known one by more than chance, or far below any ever published."""
        right = self.sound.right
        if self.known is None:
            return len(right) > 0 and accuracy_interval(int(right[:, 0].sum()), len(right))[1] < HARDLY_ANY
        return not hold(right, self.known, self.all_images).reaches(self.known)

    def remedies(self) -> list[Trial]:
        """Trials whose cause can be in the file or the images, those that raise the score most in front."""
        possible = [each for each in self.others if each.cause.remedy]
        return sorted(possible, key=self._gain, reverse=True)

    def rising(self) -> list[Trial]:
        """The remedies that raise the score by more than chance, best first.

        If the score is known to be too low, something is off, and the question is only what. If not, one of so many
        may raise it by chance, and all that were tried are taken into account.
        """
        remedies = self.remedies()
        tried = 1 if self.is_low else len(remedies)
        return [each for each in remedies if self._rises(each, tried)]

    def explain_here(self, certain: Sequence[Finding], likely: Sequence[Finding]) -> Answer:
        """Too low here: which cause raises the score if the file or the images are taken to be like that?

        Args:
            certain: what proves the file wrong whatever its score.
            likely: what may have cost accuracy, if there is accuracy missing with the best remedy in place.
        """
        low, known, remedies, rising = self.is_low, self.known, self.remedies(), self.rising()
        wiring = [each for each in likely if each.kind == "file"]
        alike = [each for each in rising if mcnemar(*changed_images(rising[0].right, each.right)) >= ALIKE]
        mends = bool(rising) and (not wiring if known is None else self._reaches(rising[0], known))
        if mends and known is not None:
            # What leaves part of the gap is no explanation where another cause leaves none.
            alike = [each for each in alike if self._reaches(each, known)]
        blamed = (low or known is None) and not mends and not certain
        if certain or (wiring and blamed):
            alike = []
        scored = [_finding(each, each.cause.remedy, self._score(each, known), each in alike) for each in remedies]
        explaining = [each for each in scored if each.explains]
        rest = [each for each in scored if not each.explains]
        blamed = blamed and not alike
        findings = (*certain, *explaining, *(replace(each, explains=blamed) for each in likely), *rest)
        verdict, summary = self._conclude_here(findings, leaves_a_part=bool(explaining) and not mends)
        return Answer(verdict, summary, low, self._score(self.sound, known), findings)

    def explain_measured(self, measured: KnownScore) -> Answer:
        """Too low elsewhere: which mistake costs what was measured less?"""
        # A known score speaks for the sound setting only where the file and the images reach it.
        base = None if self.known is None or self.is_low else (self.sound.right, self.known)
        trials = [self.sound, *(each for each in self.others if self._advice(each))]
        held = [hold(each.right, measured, self._drawn_from(each), sound=base) for each in trials]
        highest = max(each.log_density for each in held)
        odds = [exp(each.log_density - highest) for each in held]
        scores = [
            replace(self._score(trial), expectation=each.expectation, weight=odd / sum(odds))
            for trial, each, odd in zip(trials, held, odds, strict=True)
        ]
        agrees = held[0].fits(highest)
        ranked = sorted(zip(trials, scores, held, strict=True), key=lambda row: -row[2].log_density)
        ranked = [row for row in ranked if row[0] is not self.sound]
        nearest = held[0] if agrees else ranked[0][2]
        fitting = [trial for trial, _, each in ranked if each.fits(nearest.log_density)]
        findings = tuple(
            _finding(trial, self._advice(trial), self._turned(trial, score), trial in fitting and not agrees)
            for trial, score, _ in ranked
        )
        percent = _percent(measured.top1)
        if not agrees:
            sound = "the file itself is sound as far as these images tell"
            verdict, summary = _conclusion(findings, f"None of the usual mistakes gives {percent}; {sound}.")
            return Answer(verdict, summary, False, scores[0], findings)
        verdict, summary = self._nothing_is_off(f"{percent} is what this file gives here.", measured)
        as_well = ", ".join(each.cause.id for each in fitting)
        ruled_out = f"mistakes with so small an effect cannot be ruled out: {as_well}"
        notes = (ruled_out,) if as_well and verdict == "nothing is off" else ()
        return Answer(verdict, summary, False, scores[0], findings, notes)

    def _conclude_here(self, findings: tuple[Finding, ...], *, leaves_a_part: bool) -> tuple[Outcome, str]:
        images, correct = len(self.sound.right), int(self.sound.right[:, 0].sum())
        here = _percent(correct / max(1, images), 1)
        if any(each.explains for each in findings):
            verdict, summary = _conclusion(findings, "")
            return verdict, summary + " It leaves a part of the gap, so there is more than this." * leaves_a_part
        if self.is_low:
            return "unexplained", f"Top-1 is {here} on the sample, too low, and none of the usual causes explains it."
        ending = "is not raised by any remedy, and no published number speaks of these images"
        if self.known:
            ending = f"agrees with the {_percent(self.known.top1)} known"
        return self._nothing_is_off(f"top-1 of {here} on the sample {ending}.", self.known)

    def _nothing_is_off(self, why: str, known: KnownScore | None) -> tuple[Outcome, str]:
        """The verdict, unless the sample could not have shown that the score is too low."""
        images, correct = len(self.sound.right), int(self.sound.right[:, 0].sum())
        # Images of a known score that were all run leave no doubt.
        if tells(correct, images) or ((known or self.known) and images >= self.all_images):
            return "nothing is off", f"Nothing is off that could be seen here: {why}"
        enough = images_that_tell(correct / images, images)
        given = "" if enough <= self.all_images else f"; there are {self.all_images:,} here"
        low, high = accuracy_interval(correct, images)
        return "too few images", (
            f"Too few images to tell: {correct} of {images} right says that {100 * low:.0f} to {100 * high:.0f} % are. "
            f"About {enough:,} would do (--limit {enough}){given}."
        )

    def _turned(self, trial: Trial, score: Score) -> Score:
        """A score of a mistake made elsewhere, which wins back what it costs here."""
        if self._gain(trial) > 0:
            return score
        low, high = score.wins_back_interval or (-1.0, 1.0)
        return replace(score, wins_back=-(score.wins_back or 0.0), wins_back_interval=(-high, -low))

    def _advice(self, trial: Trial) -> str:
        """What to change: where a cause raises the score, the file is what differs and not what was done elsewhere."""
        return trial.cause.remedy if self._gain(trial) > 0 else trial.cause.mistake

    def _score(self, trial: Trial, target: KnownScore | None = None) -> Score:
        score = score_of(trial.right, self.sound.right, self._drawn_from(trial))
        if target is None:
            return score
        return replace(score, expectation=hold(trial.right, target, self._drawn_from(trial)).expectation)

    def _gain(self, trial: Trial) -> float:
        gained, lost = changed_images(self.sound.right, trial.right)
        return (gained - lost) / max(1, len(trial.right))

    def _rises(self, trial: Trial, tried: int) -> bool:
        return self._gain(trial) > 0 and mcnemar(*changed_images(self.sound.right, trial.right)) * tried < CHANCE

    def _drawn_from(self, trial: Trial) -> float:
        return inf if trial.cause.by_chance else self.all_images

    def _reaches(self, trial: Trial, known: KnownScore) -> bool:
        return hold(trial.right, known, self.all_images).reaches(known)


def diagnose(
    ranking: Ranking, measured: KnownScore | None, certain: Sequence[Finding] = (), likely: Sequence[Finding] = ()
) -> tuple[Literal["measured", "gain"], Answer]:
    """Explain a score; what is to be explained is told from the scores.

    A number from elsewhere may need a mistake to come about. Or it is what the file gives here as well: then the file
    or the images are to blame, if anything is.

    Args:
        ranking: every cause on the sample.
        measured: the score that was measured elsewhere, if there is one.
        certain: what proves the file wrong whatever its score.
        likely: what may have cost accuracy, if there is accuracy missing with the best remedy in place.

    Returns:
        What was explained, the number from elsewhere or the score here, and the answer.
    """
    here = ranking.explain_here(certain, likely)
    if measured is None or certain:
        return "gain", here
    elsewhere = ranking.explain_measured(measured)
    is_same = elsewhere.verdict == "nothing is off" and here.verdict != "too few images"
    return ("gain", here) if is_same and (here.is_low_here or here.explanations) else ("measured", elsewhere)


def _finding(trial: Trial, change: str, score: Score, explains: bool) -> Finding:
    return Finding(trial.cause.id, trial.cause.what, change, "score", explains, score)


def _conclusion(findings: Sequence[Finding], otherwise: str) -> tuple[Outcome, str]:
    explaining = [each for each in findings if each.explains]
    if not explaining:
        return "unexplained", otherwise
    if len(explaining) == 1:
        return "cause found", f"Most likely: {explaining[0].what}."
    return (
        "hard to tell apart",
        f"{len(explaining)} causes explain it equally well on this sample; more images may tell them apart.",
    )


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"
