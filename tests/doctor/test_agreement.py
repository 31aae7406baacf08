"""The statistics: exact where everything was shown, honest where only a part was."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from r2convert.doctor.agreement import KnownScore, Right, difference, expect


def right(top1: int, top5: int, images: int) -> Right:
    rows = np.arange(images)[:, None]
    return np.concatenate((rows < top1, rows < top5), axis=1)


def test_all_images_leave_no_doubt_but_the_last_digit() -> None:
    found = expect(right(156, 187, 200), KnownScore(0.78), 200)
    assert found.top1 == 0.78
    assert found.agrees
    assert not expect(right(156, 187, 200), KnownScore(0.80), 200).agrees


def test_a_part_of_them_leaves_the_doubt_of_a_draw() -> None:
    found = expect(right(156, 187, 200), KnownScore(0.80), 50_000)
    assert found.agrees
    assert found.standard_error == pytest.approx((0.78 * 0.22 / 200) ** 0.5, rel=0.05)


def test_a_difference_is_known_better_than_a_level() -> None:
    """Three images fewer of two hundred is known to a point, the level to three."""
    sound, other = right(156, 187, 200), right(153, 187, 200)
    level = expect(other, KnownScore(0.765), 50_000)
    paired = expect(other, KnownScore(0.765), 50_000, sound=(sound, KnownScore(0.78)))
    assert paired.top1 == pytest.approx(0.765)
    assert paired.standard_error < level.standard_error / 2


def test_what_is_known_of_the_sound_setting_is_not_drawn() -> None:
    sound = right(156, 187, 200)
    found = expect(sound, KnownScore(0.765), 50_000, sound=(sound, KnownScore(0.78)))
    assert not found.agrees


def test_the_expectation_covers_the_truth_as_often_as_it_says() -> None:
    """Drawn from a set of known score, the truth is within two standard errors about 95 times in a hundred."""
    generator = np.random.default_rng(0)
    population = right(3_900, 4_700, 5_000)
    truth = KnownScore(0.78)
    draws = [population[generator.permutation(5_000)[:256]] for _ in range(400)]
    within = sum(expect(draw, truth, 5_000).misfit < 4 for draw in draws)
    assert 370 <= within <= 394


def test_both_scores_are_taken_together() -> None:
    assert expect(right(100, 150, 200), KnownScore(0.5, 0.75), 50_000).agrees
    assert not expect(right(100, 150, 200), KnownScore(0.5, 0.95), 50_000).agrees


def test_a_setting_of_chance_stays_in_doubt_on_all_images() -> None:
    assert not expect(right(100, 150, 200), KnownScore(0.55), 200).agrees
    assert expect(right(100, 150, 200), KnownScore(0.55), inf).agrees


def test_images_are_compared_one_by_one() -> None:
    change = difference(right(10, 10, 20), right(10, 10, 20)[::-1])
    assert (change.gained, change.lost) == (10, 10)
    assert difference(right(10, 10, 20), right(3, 3, 5)).lost == 2
