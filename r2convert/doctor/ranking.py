"""Causes ranked by how much accuracy each wins back.

Too low here, a cause is taken for a property of the file or the images, and wins back what the score rises by with it.
Too low elsewhere, it is taken for a mistake made there, and wins back what it costs here. Either way it explains the
gap only if that is what it wins back, as far as the sample can tell.

A sample says little about a level: of 256 images, an accuracy of 78 % is known to 2.6 points. It says more about a
difference, since both settings were run on the same images, and most are right in both or wrong in both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import erfc, exp, inf, isinf, log, pi, sqrt
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from r2convert.doctor.trials import Right, Trial
from r2convert.evaluation.statistics import SURE, accuracy_interval, mcnemar
from r2convert.results.diagnosis import Expectation, Finding, KnownScore, Outcome, Score

SIGMAS = 3.29
"""Standard errors either side of a 99.9 % interval."""
TELLING_ODDS = 20.0
"""Two settings are not told apart by lower odds than these."""
OTHER_DEVICE = 0.0005
"""Share of the images that another decoder or device can decide differently (25 of 50,000)."""
HARDLY_ANY = 0.1
"""Share of right images below which something is off, whatever images these are."""
TELLING = 0.1
"""Half width of the 99.9 % interval of the score up to which a sample can say that nothing is off."""

_NOTHING = KnownScore(0.0)


class Held(NamedTuple):
    """A setting compared with a score: what it would score, and the log density of the other score under that."""

    expected: Expectation
    log_density: float

    def fits(self, highest: float) -> bool:
        """Whether it gives the score, as far as the sample can tell, and none of this log density does so better."""
        return self.expected.probability >= SURE and self.log_density + log(TELLING_ODDS) >= highest


def hold(right: Right, target: KnownScore, all_images: float, *, sound: tuple[Right, KnownScore] | None = None) -> Held:
    """Compare a setting with a score that was measured on all images.

    Args:
        right: what the setting had right in the sample.
        target: the score to compare with.
        all_images: how many images the sample was drawn from; infinity for a setting that gives another score each
            time, even on all images.
        sound: what the sound setting had right in the same images, and its score on all images, if that is known:
            then only the difference is taken from the sample.
    """
    metrics = min(len(each.shares) for each in (target, sound[1] if sound else target))
    rows = right[:, :metrics].astype(np.float64)
    images, start, digit = len(rows), np.zeros(metrics), target.digit
    # What so few images cannot show: one more right, one more wrong, as Laplace would have it.
    unseen = np.array([np.ones(metrics), np.zeros(metrics)])
    if sound is not None:
        rows = rows - sound[0][:images, :metrics]
        start, unseen = np.array(sound[1].shares[:metrics]), np.array([np.ones(metrics), -np.ones(metrics)])
        digit = max(digit, sound[1].digit)
    covariance = np.atleast_2d(np.cov(np.concatenate((rows, unseen)), rowvar=False, bias=True)) / images
    # What the sound setting scores is known, not drawn.
    drawn = sound is None or right is not sound[0]
    left = drawn * (1.0 if isinf(all_images) else max(0.0, (all_images - images) / max(1.0, all_images - 1)))
    floor = digit**2 / 12 + max(OTHER_DEVICE, 0.5 / all_images) ** 2
    covariance = covariance * left + floor * np.eye(metrics)
    mean = start + rows.mean(axis=0)
    off = np.array(target.shares[:metrics]) - mean
    misfit = float(off @ np.linalg.solve(covariance, off))
    log_density = -0.5 * (misfit + metrics * log(2 * pi) + float(np.linalg.slogdet(covariance)[1]))
    probability = erfc(sqrt(misfit / 2)) if metrics == 1 else exp(-misfit / 2)
    return Held(Expectation(float(mean[0]), sqrt(float(covariance[0, 0])), probability), log_density)


def wins_back(right: Right, sound: Right, all_images: float) -> tuple[float, float, float]:
    """The share of all images that a setting wins back from another one, and the ends of its 99.9 % interval."""
    change = hold(right, _NOTHING, all_images, sound=(sound, _NOTHING)).expected
    error = SIGMAS * change.standard_error
    return change.top1, max(-1.0, change.top1 - error), min(1.0, change.top1 + error)


def is_hopeless(trial: Trial, sound: Trial, sample: int, measured: KnownScore | None) -> bool:
    """Whether a cause certainly loses accuracy on the sample, and does not give the measured number either."""
    _, _, most = wins_back(trial.right, sound.right, sample)
    if most >= 0 or measured is None:
        return most < 0
    found = hold(trial.right, KnownScore(measured.top1), inf).expected
    return abs(found.top1 - measured.top1) > 1.5 * SIGMAS * found.standard_error


class Answer(NamedTuple):
    """What came of it; the fields are those of :class:`~r2convert.results.diagnosis.Diagnosis`."""

    ranked_by: Literal["measured", "gain"]
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

    def explained_by(self, ids: Collection[str], but: str = "") -> Answer:
        """The answer with these findings in front as what explains it, if there are any."""
        explaining = [replace(each, explains=True) for each in self.findings if each.id in ids]
        if not explaining:
            return self
        rest = [each for each in self.findings if each.id not in ids]
        answer = self._replace(findings=(*explaining, *rest))
        if len(explaining) == 1:
            return answer._replace(verdict="cause found", summary=f"Most likely: {explaining[0].what}.{but}")
        summary = f"{len(explaining)} causes explain it equally well on this sample; more images may tell them apart."
        return answer._replace(verdict="hard to tell apart", summary=summary + but)


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

    def explain(
        self, measured: KnownScore | None, certain: Sequence[Finding] = (), likely: Sequence[Finding] = ()
    ) -> Answer:
        """Explain a score; what is to be explained is told from the scores.

        A number from elsewhere may need a mistake to come about. Or it is what the file gives here as well, or more:
        then the file or the images are to blame, if anything is.

        Args:
            measured: the score that was measured elsewhere, if there is one.
            certain: what proves the file wrong whatever its score.
            likely: what may have cost accuracy, if there is accuracy missing with the best remedy in place.
        """
        if measured is not None and not self._reaches(self.sound, measured):
            return Ranking(self.sound, self.others, self.known or measured, self.all_images)._explain_here(
                certain, likely
            )
        here = self._explain_here(certain, likely)
        if measured is None or certain:
            return here
        elsewhere = self._explain_measured(measured)
        is_same = elsewhere.verdict == "nothing is off" and here.verdict != "too few images"
        return here if is_same and (here.is_low_here or here.explanations) else elsewhere

    @property
    def is_low(self) -> bool:
        """Whether the score as given is below the known one by more than chance, or far below any ever published."""
        if self.known is not None:
            return not self._reaches(self.sound, self.known)
        return accuracy_interval(*self._counts)[1] < HARDLY_ANY

    def remedies(self) -> list[Trial]:
        """Trials whose cause can be in the file or the images, those that raise the score most in front."""
        return sorted((each for each in self.others if each.cause.remedy), key=self._gain, reverse=True)

    def rising(self) -> list[Trial]:
        """The remedies that raise the score by more than chance, best first."""
        return [each for each in self.remedies() if self._wins_back(each)[1] > 0]

    def _explain_here(self, certain: Sequence[Finding], likely: Sequence[Finding]) -> Answer:
        """Too low here: which cause raises the score if the file or the images are taken to be like that?"""
        known, low, rising, but = self.known, self.is_low, self.rising(), ""
        wiring = any(each.kind == "file" for each in likely)
        alike = [each for each in rising if wins_back(rising[0].right, each.right, self.all_images)[1] <= 0]
        # What leaves part of the gap is no explanation where another cause leaves none.
        mending = [each for each in alike if (not wiring if known is None else self._reaches(each, known))]
        if certain or (not mending and (low or known is None) and (wiring or not alike)):
            explaining = [each.id for each in certain or likely]
        else:
            explaining = [each.cause.id for each in mending or alike]
            but = "" if mending else " It leaves a part of the gap, so there is more than this."
        trials = (self.sound, *self.others)
        held = {} if known is None else {each: hold(each.right, known, self._drawn_from(each)) for each in trials}
        scores = {each: self._score(each, held.get(each)) for each in trials}
        tried = [_finding(each, each.cause.remedy, scores[each]) for each in self.remedies()]
        verdict, summary = self._judge_here()
        answer = Answer("gain", verdict, summary, low, scores[self.sound], (*certain, *likely, *tried))
        return answer.explained_by(explaining, but)

    def _explain_measured(self, measured: KnownScore) -> Answer:
        """Too low elsewhere: which mistake costs what was measured less?"""
        # A known score speaks for the sound setting only where the file and the images reach it.
        base = None if self.known is None or self.is_low else (self.sound.right, self.known)
        mistakes = [each for each in self.others if each.cause.mistake]
        held = {
            each: hold(each.right, measured, self._drawn_from(each), sound=base) for each in (self.sound, *mistakes)
        }
        given, densities = held[self.sound], [each.log_density for each in held.values()]
        likeliest = max(densities)
        is_given_here = given.fits(likeliest)
        rival = given.log_density if is_given_here else max(densities[1:])
        fitting = [each.cause.id for each in mistakes if held[each].fits(rival)]
        # What a mistake costs beyond the gap counts against it like what it leaves of it.
        gap = given.expected.top1 - measured.top1
        mistakes.sort(key=lambda each: (abs(gap + self._gain(each)), -held[each].log_density))
        total = sum(exp(each - likeliest) for each in densities)
        scores = {
            trial: replace(self._score(trial, each, elsewhere=True), weight=exp(each.log_density - likeliest) / total)
            for trial, each in held.items()
        }
        findings = tuple(_finding(each, each.cause.mistake, scores[each]) for each in mistakes)
        percent = _percent(measured.top1)
        if not is_given_here:
            summary = (
                f"None of the usual mistakes gives {percent}; the file itself is sound as far as these images tell."
            )
            return Answer("measured", "unexplained", summary, False, scores[self.sound], findings).explained_by(fitting)
        verdict, summary = self._nothing_is_off(f"{percent} is what this file gives here.", measured)
        ruled_out = f"mistakes with so small an effect cannot be ruled out: {', '.join(fitting)}"
        notes = (ruled_out,) if fitting and verdict == "nothing is off" else ()
        return Answer("measured", verdict, summary, False, scores[self.sound], findings, notes)

    def _judge_here(self) -> tuple[Outcome, str]:
        """The verdict on the score here where nothing explains it."""
        correct, images = self._counts
        here = f"{_percent(correct / images, 1)} on the sample"
        if self.is_low:
            return "unexplained", f"Top-1 is {here}, too low, and none of the usual causes explains it."
        ending = "is not raised by any remedy, and no published number speaks of these images"
        if self.known is not None:
            ending = f"agrees with the {_percent(self.known.top1)} known"
        return self._nothing_is_off(f"top-1 of {here} {ending}.", self.known)

    def _nothing_is_off(self, why: str, known: KnownScore | None) -> tuple[Outcome, str]:
        """The verdict, unless the sample could not have shown that the score is too low."""
        correct, images = self._counts
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

    def _score(self, trial: Trial, held: Held | None, *, elsewhere: bool = False) -> Score:
        """The counts of a trial and what it wins back: here what the score rises by, elsewhere what it costs here."""
        wins, low, high = self._wins_back(trial)
        if elsewhere:
            wins, low, high = 0.0 - wins, 0.0 - high, 0.0 - low
        sound, top1 = self.sound.right[: len(trial.right), 0], trial.right[:, 0]
        gained, lost = int((top1 & ~sound).sum()), int((sound & ~top1).sum())
        return Score(
            images=len(trial.right),
            top1_correct=int(top1.sum()),
            top5_correct=int(trial.right[:, 1].sum()),
            gained=gained,
            lost=lost,
            mcnemar=mcnemar(gained, lost),
            expectation=held and held.expected,
            wins_back=wins,
            wins_back_interval=(low, high),
        )

    def _wins_back(self, trial: Trial) -> tuple[float, float, float]:
        return wins_back(trial.right, self.sound.right, self._drawn_from(trial))

    def _gain(self, trial: Trial) -> float:
        return self._wins_back(trial)[0]

    def _reaches(self, trial: Trial, known: KnownScore) -> bool:
        """Whether a setting gives a score, or more than that."""
        found = hold(trial.right, known, self.all_images).expected
        return found.probability >= SURE or found.top1 > known.top1

    @property
    def _counts(self) -> tuple[int, int]:
        """How many images the sound setting had right, and of how many."""
        return int(self.sound.right[:, 0].sum()), len(self.sound.right)

    def _drawn_from(self, trial: Trial) -> float:
        return inf if trial.cause.by_chance else self.all_images


def _finding(trial: Trial, change: str, score: Score) -> Finding:
    return Finding(trial.cause.id, trial.cause.what, change, "score", False, score)


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def images_that_tell(share: float, images: int) -> int:
    """How many images, at least so many, would tell whether a score is too low if this share of them goes on right."""
    while not tells(round(share * images), images):
        images += max(1, images // 16)
    return images


def tells(correct: int, images: int) -> bool:
    """Whether so many images can show that a score is too low, or that it is not."""
    low, high = accuracy_interval(correct, images)
    return high < HARDLY_ANY or (low >= HARDLY_ANY and (high - low) / 2 <= TELLING)
