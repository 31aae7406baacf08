"""What the doctor says: plain values, the same for the terminal and for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from r2convert.doctor.agreement import Expectation, KnownScore

Verdict = Literal["nothing is off", "cause found", "hard to tell apart", "unexplained"]
Kind = Literal["score", "file", "images"]


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
        expectation: what it would score on all images, held against the number to be explained, if there is one.
        weight: how much of the belief goes to it when every setting was equally likely before, 0 to 1.
    """

    images: int
    top1_correct: int
    top5_correct: int
    gained: int
    lost: int
    probability: float
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
    kind: Kind
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
class Diagnosis:
    """The answer.

    Args:
        verdict: what came of it.
        summary: the same in a sentence or two.
        is_low_here: whether the score as given, here, is below what is known to be sound.
        explained: ``measured``: the findings are ranked by how well they give that number; ``gain``: by how much they
            raise the score here.
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
