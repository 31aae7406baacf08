"""How sure a count of images makes one: exact probabilities, no normal approximation.

A sample of a finite set drawn without replacement is hypergeometric: half of the set scatters only 0.7 times as far as
a binomial would, and all of it not at all. (A stratified sample, every class alike, scatters less still: what is called
inconsistent here is so all the more.) Two networks compared on the same images differ as coins do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, fsum, lgamma, log, log1p
from typing import Literal

Consistency = Literal["consistent", "inconsistent", "inconclusive"]

SURE = 0.001
"""Probability below which a difference is no longer considered chance."""

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
        low: lower end of the exact 99.9 % interval of the accuracy on the whole set, 0 to 1.
        high: its upper end.
    """

    consistency: Consistency
    probability: float
    low: float
    high: float


def judge_sample(correct: int, images: int, published: tuple[int, int], whole: int) -> SampleVerdict:
    """Hold a sample against a published accuracy.

    Args:
        correct: images of the sample that are right.
        images: images of the sample, at least one.
        published: the least and the most right images of the whole set that the published digits stand for.
        whole: images of the whole set.
    """
    least, most = published
    probability = 1.0
    if correct * whole > most * images:
        probability = min(1.0, 2 * part_has_at_least(correct, images, most, whole))
    elif correct * whole < least * images:
        probability = min(1.0, 2 * part_has_at_most(correct, images, least, whole))
    low, high = whole_interval(correct, images, whole)
    if probability < SURE:
        return SampleVerdict("inconsistent", probability, low, high)
    telling = (high - low) / 2 <= TELLING_WIDTH
    return SampleVerdict("consistent" if telling else "inconclusive", probability, low, high)


def is_certainly_below(correct: int, images: int, least: int, whole: int) -> bool:
    """Whether a random part of a set already rules out that at least this many of the whole are correct."""
    too_few = images <= whole and correct * whole < least * images
    return too_few and part_has_at_most(correct, images, least, whole) < CERTAIN


def part_has_at_most(correct: int, images: int, right: int, whole: int) -> float:
    """Probability that a random part of a set has no more than ``correct`` right images.

    Args:
        correct: right images of the part.
        images: images of the part.
        right: right images of the whole set.
        whole: images of the whole set.
    """
    least, most = max(0, images - (whole - right)), min(images, right)
    if correct >= most:
        return 1.0
    if correct < least:
        return 0.0
    all_ways = _log_ways(whole, images)

    def term(count: int) -> float:
        return exp(_log_ways(right, count) + _log_ways(whole - right, images - count) - all_ways)

    # Summed away from the likeliest count, so that terms fall.
    if correct * whole > right * images:
        return max(0.0, 1.0 - _tail(range(correct + 1, most + 1), term))
    return min(1.0, _tail(range(correct, least - 1, -1), term))


def part_has_at_least(correct: int, images: int, right: int, whole: int) -> float:
    """Probability that a random part of a set has ``correct`` right images or more; see :func:`part_has_at_most`."""
    return part_has_at_most(images - correct, images, whole - right, whole)


def whole_interval(correct: int, images: int, whole: int, *, doubt: float = SURE) -> tuple[float, float]:
    """The exact interval of the accuracy (0 to 1) on a whole set, from a random part of it."""
    possible, each_end = range(correct, whole - (images - correct) + 1), doubt / 2
    low = bisect_left(possible, x=True, key=lambda right: part_has_at_least(correct, images, right, whole) > each_end)
    too_high = bisect_left(
        possible, x=True, key=lambda right: part_has_at_most(correct, images, right, whole) <= each_end
    )
    return possible[low] / whole, possible[too_high - 1] / whole


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

    def term(count: int) -> float:
        return exp(_log_ways(images, count) + count * log(chance) + (images - count) * log1p(-chance))

    if correct > chance * images:
        return max(0.0, 1.0 - _tail(range(correct + 1, images + 1), term))
    return min(1.0, _tail(range(correct, -1, -1), term))


def probability_of_at_least(correct: int, images: int, chance: float) -> float:
    """Probability of ``correct`` or more right answers in ``images``, each right by ``chance``."""
    return probability_of_at_most(images - correct, images, 1.0 - chance)


def _log_ways(of: int, chosen: int) -> float:
    return lgamma(of + 1) - lgamma(chosen + 1) - lgamma(of - chosen + 1)


def _tail(counts: range, term: Callable[[int], float]) -> float:
    """Sum of probabilities away from the likeliest count; stops where they no longer matter."""
    terms: list[float] = []
    for count in counts:
        terms.append(term(count))
        if terms[-1] < 1e-18 * terms[0]:
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
