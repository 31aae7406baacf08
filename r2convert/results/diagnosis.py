"""The result of `doctor`. Shares of images are 0 to 1.

A new field needs a default, so that older documents can still be read.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from r2convert.results.verdicts import Count, Digest, Number
from r2convert.results.verification import Environment

Outcome = Literal["nothing is off", "cause found", "hard to tell apart", "unexplained", "too few images"]
Kind = Literal["score", "file", "images"]


class TriedImages(Struct, frozen=True):
    """What causes were tried on.

    Args:
        path: the data set
        layout: how it is stored
        all: images it has
        sample: images drawn from it
        lost: sampled images that are missing or unreadable
        seed: random seed of the sample
    """

    path: str
    layout: str
    all: Count
    sample: Count
    lost: Count
    seed: int


class TriedSetting(Struct, frozen=True):
    """How published numbers are measured.

    Args:
        crop: how an image becomes a crop
        feed: how crops become input
        network: what is changed in the network
        labels: in which order classes are counted
        protocol: how images are resized, in words
    """

    crop: str
    feed: str = "published"
    network: str = "none"
    labels: str = "as given"
    protocol: str = ""


class KnownScore(Struct, frozen=True):
    """A score that is known for all images.

    Args:
        top1: share of correct images, 0 to 1
        top5: the same among the first five
        digit: what one unit of its last printed digit stands for
    """

    top1: Number
    top5: Number | None = None
    digit: Number = 0.0

    @property
    def shares(self) -> tuple[float, ...]:
        """Those that are known, top-1 first."""
        return (self.top1,) if self.top5 is None else (self.top1, self.top5)


class Expectation(Struct, frozen=True):
    """What a setting would score on all images.

    Args:
        top1: share of images, 0 to 1
        standard_error: of that share
        probability: of being at least as far from the score it is compared with
    """

    top1: Number
    standard_error: Number
    probability: Number


class Score(Struct, frozen=True):
    """A setting on the sample.

    Args:
        images: images it was run on
        top1_correct: of them correct at top-1
        top5_correct: of them correct at top-5
        gained: correct with it, wrong as given
        lost: wrong with it, correct as given
        mcnemar: probability of so lopsided a change if both were equally good
        expectation: what it would score on all images
        weight: its posterior, 0 to 1, if every setting was equally likely before
        wins_back: share of all images that fixing it is expected to win back at top-1, -1 to 1
        wins_back_interval: the ends of the 99.9 % interval of that share
    """

    images: Count
    top1_correct: Count
    top5_correct: Count
    gained: Count
    lost: Count
    mcnemar: Number
    expectation: Expectation | None = None
    weight: Number | None = None
    wins_back: Number | None = None
    wins_back_interval: tuple[Number, Number] | None = None


class Finding(Struct, frozen=True):
    """A possible cause with its evidence.

    Args:
        id: its name
        what: what it is
        change: what to change if this is it
        kind: where it shows
        explains: whether it remains as an explanation
        score: its score; null if it was not tried
        evidence: what else speaks for it
    """

    id: str
    what: str
    change: str
    kind: Kind
    explains: bool
    score: Score | None = None
    evidence: tuple[str, ...] = ()


class CauseNotTried(Struct, frozen=True):
    """A cause that could not be tried.

    Args:
        id: its name
        reason: why
    """

    id: str
    reason: str


class Diagnosis(Struct, frozen=True, kw_only=True):
    """What explains an accuracy that is off. Shares of images are 0 to 1.

    Args:
        schema: of this document
        environment: the machine
        checkpoint: the file
        variant: which network
        layout: whose names the file has
        sha256: digest of the file
        images: what causes were tried on
        sound_setting: how published numbers are measured
        measured: what was measured elsewhere
        sound: what a sound measurement gives on all images
        sound_source: who says so
        verdict: the outcome
        summary: the same in a sentence or two
        is_low_here: whether the score here is below what is known to be sound
        ranked_by: by how well a cause gives the measured number, or by what it gains here
        as_given: the sound setting
        explanations: ids of the findings that explain it
        findings: causes, most likely first
        notes: what else a reader should know
        not_tried: causes that could not be tried
        images_shown: images run in total, over all settings
        seconds: time it took
    """

    schema: Literal["r2convert.doctor/1"] = "r2convert.doctor/1"
    environment: Environment
    checkpoint: str
    variant: str
    layout: str
    sha256: Digest | None
    images: TriedImages
    sound_setting: TriedSetting
    measured: KnownScore | None
    sound: KnownScore | None
    sound_source: str | None
    verdict: Outcome
    summary: str
    is_low_here: bool
    ranked_by: Literal["measured", "gain"]
    as_given: Score
    explanations: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    not_tried: tuple[CauseNotTried, ...]
    images_shown: Count
    seconds: Number
