"""Exact probabilities, against sums of fractions."""

from fractions import Fraction
from math import comb, isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.evaluation.statistics import (
    accuracy_interval,
    is_certainly_below,
    judge_sample,
    mcnemar,
    part_has_at_least,
    part_has_at_most,
    probability_of_at_least,
    probability_of_at_most,
    whole_interval,
)


def exactly_at_most(correct: int, images: int, chance: Fraction) -> Fraction:
    return sum(
        (comb(images, k) * chance**k * (1 - chance) ** (images - k) for k in range(correct + 1)), start=Fraction(0)
    )


@settings(deadline=None)
@given(images=st.integers(1, 60), share=st.integers(0, 60), chance=st.integers(0, 20))
def test_probabilities_are_exact(images: int, share: int, chance: int) -> None:
    correct = min(share, images)
    expected = exactly_at_most(correct, images, Fraction(chance, 20))
    assert isclose(probability_of_at_most(correct, images, chance / 20), expected, rel_tol=1e-9, abs_tol=1e-15)
    at_least = 1 - (exactly_at_most(correct - 1, images, Fraction(chance, 20)) if correct else 0)
    assert isclose(probability_of_at_least(correct, images, chance / 20), at_least, rel_tol=1e-9, abs_tol=1e-12)


@settings(deadline=None)
@given(images=st.integers(1, 200), share=st.integers(0, 200))
def test_the_interval_leaves_out_what_is_improbable(images: int, share: int) -> None:
    correct = min(share, images)
    low, high = accuracy_interval(correct, images)
    assert low <= correct / images <= high
    if correct > 0:
        assert isclose(probability_of_at_least(correct, images, low), 0.0005, rel_tol=1e-6)
    if correct < images:
        assert isclose(probability_of_at_most(correct, images, high), 0.0005, rel_tol=1e-6)


@settings(deadline=None)
@given(only_first=st.integers(0, 40), only_second=st.integers(0, 40))
def test_mcnemar_is_a_fair_coin(only_first: int, only_second: int) -> None:
    differing = only_first + only_second
    expected = min(Fraction(1), 2 * exactly_at_most(min(only_first, only_second), differing, Fraction(1, 2)))
    assert isclose(mcnemar(only_first, only_second), expected, rel_tol=1e-9)
    assert mcnemar(only_first, only_second) == mcnemar(only_second, only_first)


@pytest.mark.parametrize(
    ("correct", "images", "consistency"),
    [
        (7814, 10_000, "consistent"),
        (781, 1000, "consistent"),
        (76, 100, "inconclusive"),
        (60, 100, "inconsistent"),
        (700, 1000, "inconsistent"),
        (860, 1000, "inconsistent"),
        (1, 1000, "inconsistent"),
        (3, 3, "inconclusive"),
        (0, 3, "inconclusive"),
        (0, 8, "inconsistent"),
    ],
)
def test_samples_are_held_against_the_published_digits(correct: int, images: int, consistency: str) -> None:
    verdict = judge_sample(correct, images, (39_068, 39_072), 50_000)
    assert verdict.consistency == consistency
    assert verdict.low <= correct / images <= verdict.high


def test_half_of_a_set_says_more_than_as_many_coins() -> None:
    """1 in 1,400 for coins; without replacement, what 78.14 % of 50,000 allows at most: 5.8 in a million."""
    verdict = judge_sample(19_324, 25_000, (39_068, 39_072), 50_000)
    assert verdict.consistency == "inconsistent"
    assert isclose(verdict.probability, 5.788e-6, rel_tol=1e-3)
    assert verdict.high < 0.7814


@pytest.mark.parametrize(("correct", "consistency"), [(39_068, "consistent"), (39_067, "inconsistent")])
def test_a_part_that_is_all_of_the_set_leaves_no_doubt(correct: int, consistency: str) -> None:
    verdict = judge_sample(correct, 50_000, (39_068, 39_072), 50_000)
    assert verdict.consistency == consistency
    assert verdict.low == verdict.high == correct / 50_000


@settings(deadline=None)
@given(whole=st.integers(1, 40), data=st.data())
def test_parts_are_counted_exactly(whole: int, data: st.DataObject) -> None:
    images, right = data.draw(st.integers(1, whole)), data.draw(st.integers(0, whole))
    correct = data.draw(st.integers(0, images))
    ways = {k: comb(right, k) * comb(whole - right, images - k) for k in range(images + 1)}
    at_most = Fraction(sum(ways[k] for k in range(correct + 1)), comb(whole, images))
    at_least = Fraction(sum(ways[k] for k in range(correct, images + 1)), comb(whole, images))
    assert isclose(part_has_at_most(correct, images, right, whole), at_most, rel_tol=1e-9, abs_tol=1e-12)
    assert isclose(part_has_at_least(correct, images, right, whole), at_least, rel_tol=1e-9, abs_tol=1e-12)


@settings(deadline=None)
@given(whole=st.integers(1, 60), data=st.data())
def test_the_interval_of_the_whole_holds_what_the_part_allows(whole: int, data: st.DataObject) -> None:
    images = data.draw(st.integers(1, whole))
    correct = data.draw(st.integers(0, images))
    low, high = whole_interval(correct, images, whole, doubt=0.1)
    allowed = [
        right
        for right in range(correct, whole - images + correct + 1)
        if part_has_at_most(correct, images, right, whole) > 0.05
        and part_has_at_least(correct, images, right, whole) > 0.05
    ]
    assert (round(low * whole), round(high * whole)) == (allowed[0], allowed[-1])


def test_a_broken_conversion_is_certain_early_and_a_sound_one_never() -> None:
    assert is_certainly_below(0, 40, 39_000, 50_000)
    assert not is_certainly_below(0, 8, 39_000, 50_000)
    assert not is_certainly_below(750, 1000, 39_000, 50_000)
    assert not is_certainly_below(900, 1000, 39_000, 50_000)
    assert is_certainly_below(38_000, 50_000, 39_000, 50_000)


def test_large_sets_are_summed_too() -> None:
    # Half, and half of the probability of the middle: comb(50000, 25000) / 2**50000 = 0.00356823.
    assert isclose(probability_of_at_most(25_000, 50_000, 0.5), 0.5 + 0.00356823 / 2, rel_tol=1e-7)
