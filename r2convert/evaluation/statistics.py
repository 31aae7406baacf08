"""How sure a count of images makes one: exact binomial probabilities, no normal approximation.

A sample drawn without replacement, every class alike, scatters less than a binomial does: what is called
inconsistent here is so all the more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, fsum, lgamma, log, log1p
from typing import Literal

Consistency = Literal["consistent", "inconsistent", "inconclusive"]

SURE = 0.001
"""Probability at which a difference is no longer taken for chance."""

TELLING_WIDTH = 0.05
"""Half width of the 99.9 % interval up to which a sample can clear a conversion: broken ones lose more than that."""

CERTAIN = 1e-9
"""Probability at which a measurement need not be finished."""

_BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class SampleVerdict:
    """What a sample says about a published accuracy.

    Args:
        consistency: ``inconsistent``: chance alone does this less than once in 1,000 times; ``consistent``: it is
            not, and the sample is large enough to have shown a broken conversion; ``inconclusive``: too small for that.
        probability: two-sided probability of a count at least as far off, for the most favourable published value.
        low: lower end of the exact 99.9 % interval of the accuracy, 0 to 1.
        high: its upper end.
    """

    consistency: Consistency
    probability: float
    low: float
    high: float


def judge_sample(correct: int, images: int, published_low: float, published_high: float) -> SampleVerdict:
    """Holds a sample against a published accuracy.

    Args:
        correct: images answered rightly.
        images: images of the sample, at least one.
        published_low: lower end of the interval the published digits stand for, 0 to 1.
        published_high: its upper end.
    """
    probability = 1.0
    if correct > published_high * images:
        probability = min(1.0, 2 * probability_of_at_least(correct, images, published_high))
    elif correct < published_low * images:
        probability = min(1.0, 2 * probability_of_at_most(correct, images, published_low))
    low, high = accuracy_interval(correct, images)
    if probability < SURE:
        return SampleVerdict("inconsistent", probability, low, high)
    telling = (high - low) / 2 <= TELLING_WIDTH
    return SampleVerdict("consistent" if telling else "inconclusive", probability, low, high)


def is_certainly_below(correct: int, images: int, published_low: float) -> bool:
    """Whether a random part of a set already rules out that the whole reaches a published accuracy."""
    return correct < published_low * images and probability_of_at_most(correct, images, published_low) < CERTAIN


def accuracy_interval(correct: int, images: int, *, doubt: float = SURE) -> tuple[float, float]:
    """The exact (Clopper-Pearson) interval of an accuracy, each end with half the doubt."""
    low = 0.0 if correct == 0 else _bisect(lambda p: probability_of_at_least(correct, images, p) > doubt / 2)
    high = 1.0 if correct == images else _bisect(lambda p: probability_of_at_most(correct, images, p) < doubt / 2)
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test of two networks that answered the same images.

    Args:
        only_first: images only the first network has right.
        only_second: images only the second one has right.

    Returns:
        Probability of so lopsided a difference if both were equally good.
    """
    differing = only_first + only_second
    if differing == 0:
        return 1.0
    return min(1.0, 2 * probability_of_at_most(min(only_first, only_second), differing, 0.5))


def probability_of_at_most(correct: int, images: int, chance: float) -> float:
    """Probability of no more than ``correct`` right answers in ``images``, each right by ``chance``."""
    if chance in (0.0, 1.0):
        return 1.0 if chance == 0.0 or correct >= images else 0.0
    if correct > chance * images:
        return max(0.0, 1.0 - _tail(range(correct + 1, images + 1), images, chance))
    return min(1.0, _tail(range(correct, -1, -1), images, chance))


def probability_of_at_least(correct: int, images: int, chance: float) -> float:
    """Probability of ``correct`` or more right answers in ``images``, each right by ``chance``."""
    return probability_of_at_most(images - correct, images, 1.0 - chance)


def _tail(counts: range, images: int, chance: float) -> float:
    """Sum of binomial probabilities away from the mode; stops where they no longer matter."""
    terms: list[float] = []
    for count in counts:
        ways = lgamma(images + 1) - lgamma(count + 1) - lgamma(images - count + 1)
        term = exp(ways + count * log(chance) + (images - count) * log1p(-chance))
        terms.append(term)
        if term < 1e-18 * terms[0]:
            break
    return fsum(terms)


def _bisect(is_above: Callable[[float], bool]) -> float:
    """The chance from which on a condition holds."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if is_above(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2
