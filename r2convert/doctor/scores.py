"""What a setting scored on the sample, and what that says of all images.

A sample says little about a level: of 256 images, an accuracy of 78 % is known to 2.6 points. It says more about a
difference, since both settings were run on the same images, and most are right in both or wrong in both.
"""

from __future__ import annotations

from math import erfc, exp, isinf, log, pi, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from r2convert.evaluation.statistics import SURE, accuracy_interval, mcnemar
from r2convert.results.diagnosis import Expectation, KnownScore, Score

Right = npt.NDArray[np.bool_]
"""Shape (images, 2): whether the label was ranked first, and whether it was among the first five."""

OTHER_DEVICE = 0.0005
"""Share of the images that another decoder or device can decide differently (25 of 50,000)."""
HARDLY_ANY = 0.1
"""Share of right images below which something is off, whatever images these are."""
TELLING = 0.1
"""Half width of the 99.9 % interval of the score up to which a sample can say that nothing is off."""
SIGMAS = 3.29
"""Standard errors either side of a 99.9 % interval."""

TELLING_ODDS = 20.0
"""Two settings are not told apart by lower odds than these."""

_NOTHING = KnownScore(0.0)


class Held(NamedTuple):
    """A setting held against a score.

    Args:
        expectation: what it would score on all images.
        log_density: logarithm of the density of the other score under that.
    """

    expectation: Expectation
    log_density: float

    @property
    def agrees(self) -> bool:
        """Whether chance alone could do this more than once in a thousand times."""
        return self.expectation.probability >= SURE

    def fits(self, highest: float) -> bool:
        """Whether the setting gives the score, and none with this logarithm of the density does so much better."""
        return self.agrees and self.log_density + log(TELLING_ODDS) >= highest

    def reaches(self, known: KnownScore) -> bool:
        """Whether the setting gives a score, or more than that."""
        return self.agrees or self.expectation.top1 > known.top1


def hold(right: Right, target: KnownScore, all_images: float, *, sound: tuple[Right, KnownScore] | None = None) -> Held:
    """Hold a setting against a score that was measured on all images.

    Args:
        right: what the setting had right in the sample.
        target: the score it is held against.
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


def score_of(right: Right, sound: Right, all_images: float) -> Score:
    """Counts of a setting, and how much of all images it wins back from the sound one.

    Args:
        right: what it had right.
        sound: what the sound setting had right, in the same images and perhaps more.
        all_images: as :func:`hold` takes it.
    """
    gained, lost = changed_images(sound, right)
    wins, low, high = 0.0, -1.0, 1.0
    if len(right):
        change = hold(right, _NOTHING, all_images, sound=(sound, _NOTHING)).expectation
        wins, error = change.top1, SIGMAS * change.standard_error
        low, high = max(-1.0, wins - error), min(1.0, wins + error)
    top1, top5 = map(int, right.sum(axis=0))
    return Score(
        len(right), top1, top5, gained, lost, mcnemar(gained, lost), wins_back=wins, wins_back_interval=(low, high)
    )


def changed_images(first: Right, second: Right) -> tuple[int, int]:
    """How many images only the second setting has right, and how many only the first; of those that both were shown."""
    shared = min(len(first), len(second))
    one, other = first[:shared, 0], second[:shared, 0]
    return int((other & ~one).sum()), int((one & ~other).sum())


def images_that_tell(share: float, images: int) -> int:
    """How many images would do to say whether a score is too low, if so many of them go on to be right.

    Args:
        share: of the images so far, those that are right, 0 to 1.
        images: how many there were; the result is as large at least.
    """
    while not tells(round(share * images), images):
        images += max(1, images // 16)
    return images


def tells(correct: int, images: int) -> bool:
    """Whether so many images can show that a score is too low, or that it is not."""
    low, high = accuracy_interval(correct, images)
    return high < HARDLY_ANY or (low >= HARDLY_ANY and (high - low) / 2 <= TELLING)
