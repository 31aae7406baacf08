"""How well a score on a few images agrees with a score known for all of them.

A sample says little about a level: of 256 images, an accuracy of 78 % is known to 2.6 points. It says more about a
difference, since both settings answered the same images: most answers are right in both or wrong in both. So where
the score of the sound setting is known for all images (published, or told by the user), only the difference is taken
from the sample.

Two scores (top-1 and top-5) are taken together as they vary together. Images are drawn without replacement, so that
a sample of all images leaves no doubt but that of printed digits and of other decoders and devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, isinf, log, pi, sqrt

import numpy as np
import numpy.typing as npt

from r2convert.evaluation.statistics import SURE

Right = npt.NDArray[np.bool_]
"""Shape (images, 2): whether the label was ranked first, and whether it was among the first five."""

OTHER_DEVICE = 0.0005
"""Share of the images that another decoder or device can decide otherwise (25 of 50,000)."""


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
        misfit: squared distance from the other score, in standard errors.
        probability: of a misfit at least as large, if the setting is what gave the other score.
        log_density: logarithm of the density of the other score under this expectation.
    """

    top1: float
    standard_error: float
    misfit: float
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
        sound: what the sound setting had right in the same images, and its score on all images, if that is known.
    """
    metrics = min(target.metrics, sound[1].metrics) if sound else target.metrics
    rows = right[:, :metrics].astype(np.float64)
    images = len(rows)
    start = np.zeros(metrics)
    # Answers not seen in so few images: one more right, one more wrong, as Laplace would have it.
    unseen = np.array([np.ones(metrics), np.zeros(metrics)])
    if sound is not None:
        rows = rows - sound[0][:, :metrics]
        start = sound[1].values(metrics)
        unseen = np.array([np.ones(metrics), -np.ones(metrics)])
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
    return Expectation(float(mean[0]), sqrt(float(covariance[0, 0])), misfit, probability, log_density)


@dataclass(frozen=True, slots=True)
class Difference:
    """How two settings differ on the same images.

    Args:
        gained: images only the second has right at top-1.
        lost: images only the first has right.
    """

    gained: int
    lost: int


def difference(first: Right, second: Right) -> Difference:
    """Count on the images that both were shown, from the first one on."""
    shared = min(len(first), len(second))
    one, other = first[:shared, 0], second[:shared, 0]
    return Difference(int((other & ~one).sum()), int((one & ~other).sum()))
