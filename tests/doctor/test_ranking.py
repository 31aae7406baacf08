"""The statistics: exact where everything was shown, honest where only a part was."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch

from r2convert.catalog import load_catalog
from r2convert.doctor.causes import SOUND, Cause, Setting
from r2convert.doctor.ranking import Answer, Ranking, hold, images_that_tell, wins_back
from r2convert.doctor.trials import Right, Trial
from r2convert.evaluation.statistics import SURE
from r2convert.imagenet.preprocessing import STANDARD
from r2convert.models.build import build_network
from r2convert.results.diagnosis import KnownScore

with torch.device("meta"):
    SETTING = Setting(STANDARD, build_network(load_catalog({}).find("res2net50_w14_s8")))


def right(top1: int, top5: int, images: int) -> Right:
    rows = np.arange(images)[:, None]
    return np.concatenate((rows < top1, rows < top5), axis=1)


def test_all_images_leave_no_doubt_but_the_last_digit() -> None:
    found = hold(right(156, 187, 200), KnownScore(0.78), 200)
    assert found.expected.top1 == 0.78
    assert found.expected.probability >= SURE
    assert hold(right(156, 187, 200), KnownScore(0.80), 200).expected.probability < SURE


def test_a_part_of_them_leaves_the_doubt_of_a_draw() -> None:
    found = hold(right(156, 187, 200), KnownScore(0.80), 50_000)
    assert found.expected.probability >= SURE
    assert found.expected.standard_error == pytest.approx((0.78 * 0.22 / 200) ** 0.5, rel=0.05)


def test_a_difference_is_known_better_than_a_level() -> None:
    """Three images fewer of two hundred is known to a point, the level to three."""
    sound, other = right(156, 187, 200), right(153, 187, 200)
    level = hold(other, KnownScore(0.765), 50_000)
    paired = hold(other, KnownScore(0.765), 50_000, sound=(sound, KnownScore(0.78)))
    assert paired.expected.top1 == pytest.approx(0.765)
    assert paired.expected.standard_error < level.expected.standard_error / 2


def test_what_is_known_of_the_sound_setting_is_not_drawn() -> None:
    sound = right(156, 187, 200)
    found = hold(sound, KnownScore(0.765), 50_000, sound=(sound, KnownScore(0.78)))
    assert found.expected.probability < SURE


def test_the_expectation_covers_the_truth_as_often_as_it_says() -> None:
    """Drawn from a set of known score, the truth is within two standard errors about 95 times in a hundred."""
    generator = np.random.default_rng(0)
    population = right(3_900, 4_700, 5_000)
    truth = KnownScore(0.78)
    draws = [population[generator.permutation(5_000)[:256]] for _ in range(400)]
    within = sum(hold(draw, truth, 5_000).expected.probability > 0.0455 for draw in draws)
    assert 370 <= within <= 394


def test_both_scores_are_taken_together() -> None:
    assert hold(right(100, 150, 200), KnownScore(0.5, 0.75), 50_000).expected.probability >= SURE
    assert hold(right(100, 150, 200), KnownScore(0.5, 0.95), 50_000).expected.probability < SURE


def test_a_setting_of_chance_stays_in_doubt_on_all_images() -> None:
    assert hold(right(100, 150, 200), KnownScore(0.55), 200).expected.probability < SURE
    assert hold(right(100, 150, 200), KnownScore(0.55), inf).expected.probability >= SURE


def diagnosed(correct: int, images: int, known: KnownScore | None = None, all_images: int = 50_000) -> Answer:
    """With no cause that changes anything."""
    return Ranking(Trial(SOUND, SETTING, right(correct, correct, images)), (), known, all_images).explain(None)


def remedied(correct: int, known: KnownScore | None = None, **remedies: int) -> Answer:
    """Of 256 images so many are right as given, and so many with each remedy."""
    others = [
        Trial(Cause(name, name, lambda sound: sound, "", "mend it"), SETTING, right(after, after, 256))
        for name, after in remedies.items()
    ]
    return Ranking(Trial(SOUND, SETTING, right(correct, correct, 256)), others, known, 50_000).explain(None)


def test_the_remedy_that_wins_back_most_is_the_cause() -> None:
    found = remedied(130, small=150, great=200, none=130, worse=90)
    assert found.verdict == "cause found"
    assert found.explanations == ("great",)
    assert [each.id for each in found.findings] == ["great", "small", "none", "worse"]


def test_a_rise_that_chance_may_give_is_no_cause() -> None:
    assert remedied(180, lucky=184).verdict == "nothing is off"


def test_remedies_that_win_back_alike_are_all_named() -> None:
    found = remedied(130, one=200, other=198, small=150)
    assert found.verdict == "hard to tell apart"
    assert found.explanations == ("one", "other")


def test_a_remedy_that_leaves_a_part_of_the_gap_says_so() -> None:
    assert "a part of the gap" in remedied(60, KnownScore(0.78), part=130).summary
    assert "a part of the gap" not in remedied(60, KnownScore(0.78), whole=200).summary


@pytest.mark.parametrize(("correct", "images"), [(0, 8), (8, 8), (5, 8), (0, 34), (100, 128)])
def test_too_few_images_to_tell_is_said_with_how_many_would_do(correct: int, images: int) -> None:
    found = diagnosed(correct, images)
    assert found.verdict == "too few images"
    enough = images_that_tell(correct / images, images)
    assert enough > images
    assert f"About {enough:,} would do (--limit {enough})" in found.summary
    # With so many, and as many of them right, it can be told.
    again = diagnosed(round(enough * correct / images), enough)
    assert again.verdict == ("unexplained" if correct == 0 else "nothing is off")


def test_a_set_smaller_than_what_would_do_says_so() -> None:
    assert "there are 8 here" in diagnosed(0, 8, all_images=8).summary


def test_a_sample_of_usual_size_is_enough() -> None:
    assert diagnosed(200, 256).verdict == "nothing is off"
    assert diagnosed(200, 256, KnownScore(0.78)).verdict == "nothing is off"
    assert diagnosed(100, 256, KnownScore(0.78)).verdict == "unexplained"


def test_all_images_of_a_known_score_leave_no_doubt() -> None:
    assert diagnosed(8, 8, KnownScore(1.0), all_images=8).verdict == "nothing is off"
    assert diagnosed(6, 8, KnownScore(1.0), all_images=8).verdict == "unexplained"


def test_eight_images_are_too_few_for_a_published_number_too() -> None:
    found = diagnosed(5, 8, KnownScore(0.78))
    assert found.verdict == "too few images"
    assert diagnosed(0, 8, KnownScore(0.78)).verdict == "unexplained"


def test_the_interval_of_what_is_won_back_covers_the_truth() -> None:
    """Of 4,000 images a cause wins back 300 and loses 60: 6 points, on samples of 200 known to a few."""
    generator = np.random.default_rng(1)
    given = generator.random(4_000) < 0.7
    mended = given.copy()
    mended[np.flatnonzero(~given)[:300]] = True
    mended[np.flatnonzero(given)[:60]] = False
    before, after = (np.stack((rows, rows), axis=1) for rows in (given, mended))
    covered = 0
    for _ in range(300):
        drawn = generator.permutation(4_000)[:200]
        _, low, high = wins_back(after[drawn], before[drawn], 4_000)
        covered += low <= 0.06 <= high
    assert covered >= 297
