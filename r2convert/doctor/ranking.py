"""From a checkpoint and images to a diagnosis: causes ranked by how much accuracy each wins back.

Too low here, a cause is taken for a property of the file or the images, and wins back what the score rises by with it.
Too low elsewhere, it is taken for a mistake made there, and wins back what it costs here. Either way it explains the
gap only if that is what it wins back, as far as the sample can tell.

A sample says little about a level: of 256 images, an accuracy of 78 % is known to 2.6 points. It says more about a
difference, since both settings were run on the same images, and most are right in both or wrong in both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import erfc, exp, inf, isinf, log, pi, sqrt
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from r2convert.catalog.printed import printed_interval
from r2convert.catalog.variant import IMAGENET_IMAGES, Claim
from r2convert.checks.claims import likely_weights
from r2convert.checks.run import Examined, Probes, Request, examine
from r2convert.doctor.causes import WRONG_FOLDERS, Setting, causes_for
from r2convert.doctor.changes import crop_functions
from r2convert.doctor.trials import (
    Network,
    Progress,
    Right,
    Sampling,
    Trial,
    Trials,
    changed_images,
    prepared,
    run_trials,
    shuffled,
    untouched_layers,
    wiring_suspects,
)
from r2convert.errors import DatasetError, MappingError
from r2convert.evaluation.statistics import SURE, accuracy_interval, mcnemar
from r2convert.imagenet.labels import CLASS_COUNT, validation_labels
from r2convert.imagenet.preprocessing import opencv_crop_pixels, pixel_function
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.mapping.evidence import recognise
from r2convert.mapping.tables import Tables
from r2convert.models.build import load_network

Verdict = Literal["nothing is off", "cause found", "hard to tell apart", "unexplained", "too few images"]

OTHER_DEVICE = 0.0005
"""Share of the images that another decoder or device can decide otherwise (25 of 50,000)."""
CHANCE = 0.01
"""Probability at which a rise is no longer taken for chance."""
HARDLY_ANY = 0.1
"""Share of right images below which something is off, whatever images these are."""
TELLING = 0.1
"""Half width of the 99.9 % interval of the score up to which a sample can say that nothing is off."""
ALIKE, TELLING_ODDS = 0.05, 20.0
"""Two causes are not told apart by a difference of this probability, or by lower odds than these."""
_SIGMAS = 3.29
"""Standard errors either side of a 99.9 % interval."""
_MANY_LOST = 0.01
"""Share of images from which on their loss is a cause of its own."""
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class KnownScore:
    """A score that is known for all images.

    Args:
        top1: share of the images that are right, 0 to 1.
        top5: the same among the first five, or ``None`` if unknown.
        digit: what one unit of its last printed digit stands for.
    """

    top1: float
    top5: float | None = None
    digit: float = 0.0

    def values(self, metrics: int) -> npt.NDArray[np.float64]:
        """The first one or both."""
        return np.array([self.top1, self.top5][:metrics], np.float64)

    @property
    def metrics(self) -> int:
        """How many are known."""
        return 1 if self.top5 is None else 2


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a setting is expected to score on all images, as far as the sample tells.

    Args:
        top1: expected share of right images, 0 to 1.
        standard_error: of that.
        probability: of being at least as far from the other score, if the setting is what gave it.
        log_density: logarithm of the density of the other score under this expectation.
    """

    top1: float
    standard_error: float
    probability: float
    log_density: float

    @property
    def agrees(self) -> bool:
        """Whether chance alone could do this more than once in a thousand times."""
        return self.probability >= SURE


def expect(
    right: Right, target: KnownScore, all_images: float, *, sound: tuple[Right, KnownScore] | None = None
) -> Expectation:
    """Hold a setting against a score that was measured on all images.

    Args:
        right: what the setting had right in the sample.
        target: the score it is held against.
        all_images: how many images the sample was drawn from; infinity for a setting that gives another score each
            time, even on all images.
        sound: what the sound setting had right in the same images, and its score on all images, if that is known:
            then only the difference is taken from the sample.
    """
    metrics = min(target.metrics, sound[1].metrics) if sound else target.metrics
    rows = right[:, :metrics].astype(np.float64)
    images, start = len(rows), np.zeros(metrics)
    # What so few images cannot show: one more right, one more wrong, as Laplace would have it.
    unseen = np.array([np.ones(metrics), np.zeros(metrics)])
    if sound is not None:
        rows = rows - sound[0][:images, :metrics]
        start, unseen = sound[1].values(metrics), np.array([np.ones(metrics), -np.ones(metrics)])
    covariance = np.atleast_2d(np.cov(np.concatenate((rows, unseen)), rowvar=False, bias=True)) / images
    # What the sound setting scores is known, not drawn.
    drawn = sound is None or right is not sound[0]
    left = drawn * (1.0 if isinf(all_images) else max(0.0, (all_images - images) / max(1.0, all_images - 1)))
    digit = max(target.digit, sound[1].digit if sound else 0.0)
    floor = digit**2 / 12 + max(OTHER_DEVICE, 0.5 / all_images) ** 2
    covariance = covariance * left + floor * np.eye(metrics)
    mean = start + rows.mean(axis=0)
    off = target.values(metrics) - mean
    misfit = float(off @ np.linalg.solve(covariance, off))
    log_density = -0.5 * (misfit + metrics * log(2 * pi) + float(np.linalg.slogdet(covariance)[1]))
    probability = erfc(sqrt(misfit / 2)) if metrics == 1 else exp(-misfit / 2)
    return Expectation(float(mean[0]), sqrt(float(covariance[0, 0])), probability, log_density)


@dataclass(frozen=True, slots=True)
class Score:
    """A setting on the sample.

    Args:
        images: how many it was shown; fewer than the sample where it was out of the question before.
        top1_correct: of them right at top-1.
        top5_correct: right among the first five.
        gained: images right with it that are wrong as given.
        lost: images wrong with it that are right as given.
        probability: of so lopsided a change if both were equally good (exact McNemar test).
        wins_back: share of all images that taking it into account is expected to win back at top-1, -1 to 1.
        low: lower end of the 99.9 % interval of that.
        high: its upper end.
        expectation: what it would score on all images, held against the score to be explained, if there is one.
        weight: for a score measured elsewhere, its posterior, 0 to 1, if every setting was equally likely before.
    """

    images: int
    top1_correct: int
    top5_correct: int
    gained: int
    lost: int
    probability: float
    wins_back: float
    low: float
    high: float
    expectation: Expectation | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A possible cause with its evidence.

    Args:
        id: the cause's name.
        what: what it is, in a few words.
        change: what to change if this is it.
        kind: ``score``: told by a score; ``file``: seen in the file; ``images``: seen in the data set.
        explains: whether it is one of the explanations that are left.
        score: the score, if it was tried.
        evidence: what else speaks for it, one sentence each.
    """

    id: str
    what: str
    change: str
    kind: Literal["score", "file", "images"]
    explains: bool
    score: Score | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be explained.

    Args:
        measured: the score that was measured elsewhere, if there is one.
        sound: what a sound measurement gives on all images, if that is known.
        sound_source: who says so.
    """

    measured: KnownScore | None = None
    sound: KnownScore | None = None
    sound_source: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen in the file and in the images, whatever the score.

    Args:
        untouched: layers whose values are still those they started with.
        suspects: BatchNorms at which arrives what they do not remember, with the best remedy in place.
        lost: names of images that are missing or cannot be read.
        images: images of the sample, those included.
        bad_values: what no training gives: NaN, negative variances, layers of zeros.
    """

    untouched: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    images: int = 0
    bad_values: tuple[str, ...] = ()

    def certain(self) -> list[Finding]:
        """What proves the file wrong whatever its score."""
        found = []
        if self.bad_values:
            change = "get the file again from its source: it was damaged before it was saved"
            found.append(_seen("bad-values", "values that no training gives", change, "file", self.bad_values))
        if self.untouched:
            change = "convert the file again from its source (`r2convert map` takes every tensor or none)"
            count = len(self.untouched)
            layers = "1 layer still at its start" if count == 1 else f"{count} layers still at their start"
            seen = (f"{layers}: {_names(self.untouched)}",)
            found.append(_seen("untouched-layers", "layers that were never loaded", change, "file", seen))
        return found

    def likely(self) -> list[Finding]:
        """What may have cost accuracy, if there is accuracy missing."""
        found = []
        if self.suspects:
            change = "compare these layers with the file's source (`r2convert compare A B` names what differs)"
            seen = (self.wiring,)
            found.append(_seen("wiring", "tensors swapped, or from another network", change, "file", seen))
        if len(self.lost) > _MANY_LOST * self.images:
            change = "unpack or download the images again: those that are lost count as wrong"
            seen = (f"{len(self.lost)} of {self.images} images lost: {_names(self.lost)}",)
            found.append(_seen("lost-images", "images missing or unreadable", change, "images", seen))
        return found

    @property
    def wiring(self) -> str:
        """What the wiring check says."""
        return f"what arrives is not what these BatchNorms remember, in network order: {_names(self.suspects)}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The answer.

    Args:
        verdict: what came of it.
        summary: the same in a sentence or two.
        is_low_here: whether the score as given, here, is below what is known to be sound.
        explained: ``measured``: the number that was measured elsewhere; ``gain``: the score here.
        as_given: the sound setting on the sample.
        findings: the causes, most likely first.
        notes: what else a reader has to know, one sentence each.
    """

    verdict: Verdict
    summary: str
    is_low_here: bool
    explained: Literal["measured", "gain"]
    as_given: Score
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def explanations(self) -> tuple[Finding, ...]:
        """The findings that explain it: one, or several that cannot be told apart."""
        return tuple(finding for finding in self.findings if finding.explains)


def diagnose(trials: Trials, question: Question, evidence: Evidence, all_images: int) -> Diagnosis:
    """Rank the causes; what is to be explained is told from the scores.

    A number from elsewhere may need a mistake to come about. Or it is what the file gives here as well: then the file
    or the images are to blame, if anything is.

    Args:
        trials: every cause on the sample.
        question: what is known of the score.
        evidence: what was seen in the file and the images.
        all_images: how many images the sample was drawn from.
    """
    trials = replace(trials, others=(*trials.others, *_from_the_names(trials)))
    case = _Case(trials.sound, trials.others, question, evidence, all_images)
    here = case.explain_here()
    if question.measured is None or evidence.certain():
        return here
    elsewhere = case.explain_measured(question.measured)
    return (
        here
        if elsewhere.verdict == "nothing is off"
        and here.verdict != "too few images"
        and (here.is_low_here or here.explanations)
        else elsewhere
    )


def is_low(sound: Trial, known: KnownScore | None, all_images: int) -> bool:
    """Whether the score as given is below a known one by more than chance, or far below any that was ever published."""
    if not len(sound.right):
        return False
    if known is None:
        return accuracy_interval(int(sound.right[:, 0].sum()), len(sound.right))[1] < HARDLY_ANY
    expectation = expect(sound.right, known, all_images)
    return not expectation.agrees and expectation.top1 < known.top1


def images_that_tell(share: float, images: int) -> int:
    """How many images would do to say whether a score is too low, if so many of them go on to be right.

    Args:
        share: of the images so far, those that are right, 0 to 1.
        images: how many there were; the result is as large at least.
    """
    while not _tells(round(share * images), images):
        images += max(1, images // 16)
    return images


def _tells(correct: int, images: int) -> bool:
    low, high = accuracy_interval(correct, images)
    return high < HARDLY_ANY or (low >= HARDLY_ANY and (high - low) / 2 <= TELLING)


@dataclass(frozen=True, slots=True)
class _Case:
    sound: Trial
    others: Sequence[Trial]
    question: Question
    evidence: Evidence
    all_images: int

    def explain_here(self) -> Diagnosis:
        """Too low here: which cause raises the score if the file or the images are taken to be like that?"""
        known = self.question.sound
        as_given, low = self._score(self.sound, known), is_low(self.sound, known, self.all_images)
        ranked = ranked_by_gain(self.sound, self.others)
        tried = 1 if low else len(ranked)
        best = best_remedy(self.sound, self.others, low=low)
        mended = best is not None and self._mends(best)
        alike = [] if best is None else [each for each in ranked if self._is_alike(each, best, tried)]
        if mended and known is not None:
            # What leaves part of the gap is no explanation where another cause leaves none.
            alike = [each for each in alike if each is best or self._reaches(each, known)]
        certain, likely = self.evidence.certain(), self.evidence.likely()
        blamed = (low or known is None) and not mended
        likely = [replace(each, explains=blamed) for each in likely]
        explaining = alike if mended or not (certain or (likely and blamed)) else []
        scored = [self._remedy(each, explains=any(each is other for other in explaining)) for each in ranked]
        split = len(alike) if mended else 0
        findings = [*scored[:split], *likely, *scored[split:]]
        if certain:
            # What is certain leaves no room for what is likely.
            findings = [*certain, *(replace(each, explains=False) for each in findings)]
        return self._conclude_here(tuple(findings), as_given, low=low, mended=mended)

    def explain_measured(self, measured: KnownScore) -> Diagnosis:
        """Too low elsewhere: which mistake costs what was measured less?"""
        known = self.question.sound
        # A known score speaks for the sound setting only where the file and the images reach it.
        base = None if known is None or is_low(self.sound, known, self.all_images) else (self.sound.right, known)
        as_given = self._score(self.sound, measured, base)
        as_given, *scores = _weighed([as_given, *(self._score(each, measured, base) for each in self.others)])
        scored = zip(self.others, scores, strict=True)
        ranked = sorted((pair for pair in scored if _advice(*pair)), key=lambda pair: -_density(pair[1]))
        best = max([as_given, *(score for _, score in ranked)], key=_density)
        if _fits(as_given, best):
            return self._nothing_elsewhere(measured, as_given, ranked)
        findings = []
        for trial, score in ranked:
            assert trial.cause is not None  # noqa: S101 - the sound setting is not among the ranked ones
            # Where a cause raises the score, the file is what differs, and not the measurement elsewhere.
            sign = 1 if score.gained > score.lost else -1
            low, high = sorted((sign * score.low, sign * score.high))
            turned = replace(score, wins_back=sign * score.wins_back, low=low, high=high)
            explains = _fits(score, ranked[0][1])
            findings.append(Finding(trial.cause.id, trial.cause.what, _advice(trial, score), "score", explains, turned))
        verdict, summary = _conclusion([each for each in findings if each.explains])
        if verdict == "unexplained":
            summary = (
                f"None of the usual mistakes gives {_percent(measured.top1)}; the file itself is sound as far as "
                "these images tell."
            )
        return Diagnosis(verdict, summary, False, "measured", as_given, tuple(findings))

    def _nothing_elsewhere(
        self, measured: KnownScore, as_given: Score, ranked: Sequence[tuple[Trial, Score]]
    ) -> Diagnosis:
        findings = tuple(
            Finding(trial.cause.id, trial.cause.what, _advice(trial, score), "score", False, score)
            for trial, score in ranked
            if trial.cause is not None
        )
        few = self._too_few(as_given)
        if few:
            return Diagnosis("too few images", few, False, "measured", as_given, findings)
        as_well = [trial.cause.id for trial, score in ranked if trial.cause and _fits(score, as_given)]
        summary = f"Nothing is off that could be seen here: {_percent(measured.top1)} is what this file gives here."
        notes = (f"mistakes with so small an effect cannot be ruled out: {', '.join(as_well)}",) if as_well else ()
        return Diagnosis("nothing is off", summary, False, "measured", as_given, findings, notes)

    def _conclude_here(self, findings: tuple[Finding, ...], as_given: Score, *, low: bool, mended: bool) -> Diagnosis:
        explaining = [each for each in findings if each.explains]
        here, known = _percent(as_given.top1_correct / max(1, as_given.images), 1), self.question.sound
        verdict, summary = _conclusion(explaining)
        if verdict == "cause found" and explaining[0].kind == "score" and not mended:
            summary += " It leaves a part of the gap, so there is more than this."
        if verdict == "unexplained" and low:
            summary = f"Top-1 is {here} on the sample, too low, and none of the usual causes explains it."
        elif verdict == "unexplained":
            few = self._too_few(as_given)
            verdict = "too few images" if few else "nothing is off"
            ending = (
                f"agrees with the {_percent(known.top1)} known."
                if known
                else ("is not raised by any remedy, and no published number speaks of these images.")
            )
            summary = few or f"Nothing is off that could be seen here: top-1 of {here} on the sample {ending}"
        return Diagnosis(verdict, summary, low, "gain", as_given, findings)

    def _too_few(self, as_given: Score) -> str:
        """What to say if the sample could not have shown that the score is too low; nothing if it could have."""
        images, correct = as_given.images, as_given.top1_correct
        question = self.question
        # Images of a known score that were all run leave no doubt.
        is_known = question.sound is not None or question.measured is not None
        if _tells(correct, images) or (is_known and images >= self.all_images):
            return ""
        enough = images_that_tell(correct / images, images)
        given = "" if enough <= self.all_images else f"; there are {self.all_images:,} here"
        return (
            f"Too few images to tell: {correct} of {images} right says that {_range(correct, images)} are. "
            f"About {enough:,} would do (--limit {enough}){given}."
        )

    def _score(self, trial: Trial, target: KnownScore | None, base: tuple[Right, KnownScore] | None = None) -> Score:
        gained, lost = changed_images(self.sound.right, trial.right)
        shown, nothing = len(trial.right), KnownScore(0.0)
        drawn_from = inf if trial.cause is not None and trial.cause.by_chance else self.all_images
        change = expect(trial.right, nothing, drawn_from, sound=(self.sound.right, nothing)) if shown else None
        wins, error = (change.top1, _SIGMAS * change.standard_error) if change else (0.0, 1.0)
        return Score(
            images=shown,
            top1_correct=int(trial.right[:, 0].sum()),
            top5_correct=int(trial.right[:, 1].sum()),
            gained=gained,
            lost=lost,
            probability=mcnemar(gained, lost),
            wins_back=wins,
            low=max(-1.0, wins - error),
            high=min(1.0, wins + error),
            expectation=expect(trial.right, target, drawn_from, sound=base) if target and shown else None,
        )

    def _remedy(self, trial: Trial, *, explains: bool) -> Finding:
        cause = trial.cause
        assert cause is not None  # noqa: S101 - the sound setting is not among the ranked ones
        seen = (self.evidence.wiring,) if explains and cause.by_chance and self.evidence.suspects else ()
        score = self._score(trial, self.question.sound)
        return Finding(cause.id, cause.what, cause.remedy, "score", explains, score, seen)

    def _is_alike(self, trial: Trial, best: Trial, tried: int) -> bool:
        """Whether a cause raises the score, too, and cannot be told from the best one."""
        return trial is best or (
            _rises(trial, self.sound, tried) and mcnemar(*changed_images(best.right, trial.right)) >= ALIKE
        )

    def _mends(self, best: Trial) -> bool:
        """Whether nothing is left to explain with the best remedy in place."""
        known = self.question.sound
        if best.cause is not None and best.cause.by_chance:
            # A batch's statistics are never as good as those that were lost: a good part of the way has to do.
            given, aim = float(self.sound.right[:, 0].mean()), 1.0 if known is None else known.top1
            return float(best.right[:, 0].mean()) - given >= (aim - given) / 3
        return not self.evidence.suspects if known is None else self._reaches(best, known)

    def _reaches(self, trial: Trial, known: KnownScore) -> bool:
        expectation = expect(trial.right, known, self.all_images)
        return expectation.agrees or expectation.top1 > known.top1


def ranked_by_gain(sound: Trial, others: Sequence[Trial]) -> list[Trial]:
    """Trials whose cause can be in the file or the images, those that raise the score most in front."""

    def gain(trial: Trial) -> float:
        gained, lost = changed_images(sound.right, trial.right)
        return (gained - lost) / max(1, len(trial.right))

    return sorted((each for each in others if each.cause and each.cause.remedy), key=gain, reverse=True)


def best_remedy(sound: Trial, others: Sequence[Trial], *, low: bool) -> Trial | None:
    """The one that raises the score most, if that is not chance.

    Args:
        sound: the sound setting.
        others: the causes' trials.
        low: whether the score is known to be too low. If so, something is off, and the question is only what; if not,
            one of so many causes may raise the score by chance, and all that were tried are taken into account.
    """
    ranked = ranked_by_gain(sound, others)
    return ranked[0] if ranked and _rises(ranked[0], sound, 1 if low else len(ranked)) else None


def _rises(trial: Trial, sound: Trial, tried: int) -> bool:
    gained, lost = changed_images(sound.right, trial.right)
    return gained > lost and mcnemar(gained, lost) * tried < CHANCE


def _conclusion(explaining: Sequence[Finding]) -> tuple[Verdict, str]:
    if not explaining:
        return "unexplained", ""
    if len(explaining) == 1:
        return "cause found", f"Most likely: {explaining[0].what}."
    return (
        "hard to tell apart",
        f"{len(explaining)} causes explain it equally well on this sample; more images may tell them apart.",
    )


def _advice(trial: Trial, score: Score) -> str:
    """What to change; where a cause raises the score, the file is what differs and not the measurement elsewhere."""
    assert trial.cause is not None  # noqa: S101
    return trial.cause.remedy if score.gained > score.lost else trial.cause.mistake


def _weighed(scores: Sequence[Score]) -> list[Score]:
    """Each with its posterior."""
    largest = max(map(_density, scores))
    everything = sum(exp(_density(score) - largest) for score in scores)
    return [replace(score, weight=exp(_density(score) - largest) / everything) for score in scores]


def _density(score: Score) -> float:
    return -inf if score.expectation is None else score.expectation.log_density


def _fits(score: Score, best: Score) -> bool:
    """Whether a setting gives the number, and the best one does not do so much better."""
    agrees = score.expectation is not None and score.expectation.agrees
    return agrees and _density(score) + log(TELLING_ODDS) >= _density(best)


def _seen(name: str, what: str, change: str, kind: Literal["file", "images"], evidence: tuple[str, ...]) -> Finding:
    return Finding(name, what, change, kind, True, evidence=evidence)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _range(correct: int, images: int) -> str:
    low, high = accuracy_interval(correct, images)
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _from_the_names(trials: Trials) -> list[Trial]:
    """A trial with the labels that ILSVRC 2012 gives to the images' names, where the set gives them others."""
    official = validation_labels()
    given = np.array([image.label for image in trials.images])
    named = np.array([image.label if image.number is None else official[image.number - 1] for image in trials.images])
    if (given == named).all():
        return []
    trial = Trial(WRONG_FOLDERS, trials.sound.setting)
    trial.add(trials.sound.top, named)
    return [trial]


@dataclass(frozen=True, slots=True)
class DoctorImages:
    """The images to try causes on.

    Args:
        sample: the images.
        all_images: how many it was drawn from.
        full_set: whether it was drawn from the 50,000 images that published numbers speak of.
        seed: random seed of the sample.
    """

    sample: ValidationSet
    all_images: int
    full_set: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Consultation:
    """A diagnosis, and what it was made from.

    Args:
        path: the checkpoint.
        variant: which network it holds.
        layout: whose names it has.
        sha256: of the file.
        images: the images.
        lost: how many of the sample are missing or cannot be read.
        sound: how the published number was measured.
        question: what was to be explained.
        diagnosis: the answer.
        not_tried: cause -> why it could not be tried here.
        shown: images run, over all settings.
        seconds: how long that took.
    """

    path: Path
    variant: str
    layout: str
    sha256: str
    images: DoctorImages
    lost: int
    sound: Setting
    question: Question
    diagnosis: Diagnosis
    not_tried: tuple[tuple[str, str], ...]
    shown: int
    seconds: float


def consult(
    tables: Tables,
    request: Request,
    images: DoctorImages,
    *,
    measured: KnownScore | None = None,
    expected: KnownScore | None = None,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    thorough: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Consultation:
    """Try the usual causes of a wrong accuracy and rank them.

    Args:
        tables: the tables of the catalogue.
        request: the checkpoint.
        images: what to try them on.
        measured: a score that was measured elsewhere on all of these images.
        expected: the score that these images ought to give; by default the published one where it speaks of them.
        device: where the network runs.
        batch_size: images that run at once; by default 32 on a CPU, else 128.
        thorough: try every cause on every image, also what is clearly out of the question after a few.
        progress: called before every setting is tried on some images.

    Raises:
        InputError: the file cannot be read, is none of the known networks, or is no classifier of ImageNet; or none
            of the images can be read.
        AccessError: the file is not there, or the device is out of memory.
        UsageError: OpenCV is needed and not installed.
    """
    started = time.monotonic()
    examined = examine(tables, request, Probes(), classes=None)
    network = _open_network(tables, request, torch.device(device), batch_size)
    sound = _sound_setting(examined)
    question = _question(examined, images, measured, expected)
    crops = crop_functions()
    causes = list(causes_for(examined.identity.variant.architecture, sound))
    missing = [cause for cause in causes if cause.setting.crop not in crops]
    sampling = Sampling(shuffled(images.sample.images, images.seed), pixel_function(), crops, _threads())
    trials = run_trials(
        network,
        sampling,
        sound,
        [cause for cause in causes if cause not in missing],
        progress,
        measured=measured.top1 if measured else None,
        thorough=thorough,
    )
    if not trials.images:
        raise DatasetError(
            "none of the images can be read", where=str(images.sample.path), got=", ".join(trials.lost[:3])
        )
    evidence = gather_evidence(network, trials, question, images.all_images, _bad_values(examined))
    return Consultation(
        path=request.path,
        variant=examined.identity.variant.id,
        layout=examined.result.layout or "",
        sha256=examined.result.sha256 or "",
        images=images,
        lost=len(trials.lost),
        sound=sound,
        question=question,
        diagnosis=diagnose(trials, question, evidence, images.all_images),
        not_tried=tuple((cause.id, "OpenCV is not installed") for cause in missing),
        shown=trials.shown,
        seconds=time.monotonic() - started,
    )


def gather_evidence(
    network: Network, trials: Trials, question: Question, all_images: int, bad_values: tuple[str, ...] = ()
) -> Evidence:
    """Look at the file's values, and at what arrives at its BatchNorms with the best remedy in place."""
    low = is_low(trials.sound, question.sound, all_images)
    remedy = best_remedy(trials.sound, trials.others, low=low)
    suspects = wiring_suspects(network, trials.crops, trials.sound.setting)
    if suspects and remedy is not None:
        suspects = wiring_suspects(network, trials.crops, remedy.setting)
    untouched = tuple(name.removeprefix("backbone.") for name in untouched_layers(network.network))
    return Evidence(untouched, suspects, trials.lost, len(trials.images) + len(trials.lost), bad_values)


def _open_network(tables: Tables, request: Request, device: torch.device, batch_size: int | None) -> Network:
    """The network; a background class in front of the thousand is one of the causes, so it may have one."""
    with request.open(tables) as checkpoint:
        resolution = recognise(tables, checkpoint, request.variant, request.layout)
        identity = resolution.identity
        if not identity.has_classifier or identity.classes not in (CLASS_COUNT, CLASS_COUNT + 1):
            raise MappingError(
                "this file has no accuracy on ImageNet",
                where=str(request.path),
                expected=f"a classifier of {CLASS_COUNT} classes, or one more for the background",
                got=f"{identity.classes} classes" if identity.has_classifier else "a backbone without classifier",
                next_step="`r2convert verify` checks the rest",
            )
        return prepared(load_network(checkpoint, resolution), device, batch_size)


def _sound_setting(examined: Examined) -> Setting:
    """How the file's publisher measured."""
    weights = likely_weights(examined.identity)
    if weights is None or weights.protocol.pipeline != "opencv":
        return Setting()
    opencv_crop_pixels()  # says so where OpenCV is missing
    return Setting(crop="opencv")


def _question(
    examined: Examined, images: DoctorImages, measured: KnownScore | None, expected: KnownScore | None
) -> Question:
    if expected is not None:
        return Question(measured, expected, "given as expected")
    weights = likely_weights(examined.identity)
    claims = {claim.metric: claim for claim in reversed(weights.claims)} if weights else {}
    if not images.full_set or "top1" not in claims:
        return Question(measured)
    top5 = _share(claims["top5"]) if "top5" in claims else None
    interval = printed_interval(claims["top1"])
    digit = (interval.last - interval.first + 1) / IMAGENET_IMAGES
    source = claims["top1"].source if examined.identity.weights else f"{claims['top1'].source}, if the file is theirs"
    return Question(measured, KnownScore(_share(claims["top1"]), top5, digit), source)


def _share(claim: Claim) -> float:
    interval = printed_interval(claim)
    return (interval.first + interval.last) / 2 / IMAGENET_IMAGES


def _bad_values(examined: Examined) -> tuple[str, ...]:
    """What is wrong with the file's values, such as NaN or negative variances."""
    return tuple(check.note for check in examined.result.checks if check.metric == "values" and check.verdict == "fail")


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
