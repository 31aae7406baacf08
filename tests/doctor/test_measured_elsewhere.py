"""The file is sound, and somebody measured less elsewhere: the mistake that was made comes first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from r2convert.doctor.causes import LabelOrder, relabelled
from r2convert.doctor.ranking import Answer
from r2convert.doctor.trials import shuffled
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.results.diagnosis import KnownScore
from tests.doctor.conftest import Tried, ranking
from tests.doctor.lab import published_input, top_five
from tests.doctor.mistakes import (
    FEEDS,
    RESIZES,
    in_training_mode,
    not_divided,
    raw_pixels,
    without_stem,
)


def score(top: Tensor, labels: tuple[int, ...]) -> KnownScore:
    """What somebody writes down: top-1 and top-5 of all pictures."""
    own = torch.tensor(labels)[:, None]
    return KnownScore(float((top[:, :1] == own).float().mean()), float((top == own).any(1).float().mean()))


def diagnosed(tried: Tried, measured: KnownScore, known: KnownScore | None = None, images: int = 64) -> Answer:
    return ranking(tried.trials, known, images).explain(measured)


def names(answer: Answer) -> list[str]:
    return [*answer.explanations]


@pytest.mark.parametrize("mistake", sorted(RESIZES))
def test_a_resize_comes_first(tried: Tried, mistake: str) -> None:
    measured = score(top_five(tried.network, tried.pictures, RESIZES[mistake]), tried.pictures.labels)
    found = diagnosed(tried, measured)
    assert found.verdict == "cause found"
    assert names(found) == [mistake] == [found.findings[0].id]


def test_an_input_comes_first(tried: Tried) -> None:
    measured = score(top_five(tried.network, tried.pictures, FEEDS["bgr"]), tried.pictures.labels)
    assert names(diagnosed(tried, measured)) == ["bgr"]


def test_mistakes_of_one_effect_are_not_guessed_between(tried: Tried) -> None:
    alike = {"not-normalised", "half-normalised"}
    for mistake in alike:
        measured = score(top_five(tried.network, tried.pictures, FEEDS[mistake]), tried.pictures.labels)
        found = diagnosed(tried, measured)
        assert found.verdict == "hard to tell apart"
        assert set(names(found)) == alike
        assert {each.id for each in found.findings[: len(alike)]} == alike


def test_pixels_that_are_not_divided_are_one_cause_with_and_without_a_mean(tried: Tried) -> None:
    for mistake in (raw_pixels, not_divided):
        measured = score(top_five(tried.network, tried.pictures, mistake), tried.pictures.labels)
        assert names(diagnosed(tried, measured)) == ["raw-pixels"]


def test_a_stem_that_was_not_loaded_is_among_what_leaves_almost_nothing_right(tried: Tried) -> None:
    """Another random start has another score near chance: it can be recognised, but not told from the likes of it."""
    with without_stem(tried.network):
        measured = score(top_five(tried.network, tried.pictures), tried.pictures.labels)
    found = diagnosed(tried, measured, images=50_000)
    assert found.verdict == "hard to tell apart"
    assert "stem-not-loaded" in names(found)


def test_a_forgotten_eval_comes_first(tried: Tried) -> None:
    """In the same batches, since in training mode they decide the score."""
    order = [int(Path(image.id).stem) for image in shuffled(tried.trials.images.images, 0)]
    inputs = torch.stack([published_input(picture) for picture in tried.pictures.opened()])[order]
    with torch.no_grad(), in_training_mode(tried.network):
        answers = torch.cat([tried.network(batch).topk(5).indices for batch in inputs.tensor_split((8, 16, 32, 48))])
    found = diagnosed(tried, score(answers, tuple(tried.pictures.labels[place] for place in order)))
    assert names(found) == ["training-mode"] == [found.findings[0].id]


@pytest.mark.parametrize(
    ("mistake", "order"),
    [
        ("labels-one-up", "plus one"),
        ("labels-one-down", "minus one"),
        ("devkit-labels", "into devkit"),
        ("numbers-as-text", "into digits"),
        ("flat-folder", "one class"),
    ],
)
def test_an_order_of_classes_comes_first(tried: Tried, mistake: str, order: LabelOrder) -> None:
    images = [ValidationImage("", label, None) for label in tried.pictures.labels]
    labels = tuple(map(int, relabelled(order, images, 1000)))
    found = diagnosed(tried, score(top_five(tried.network, tried.pictures), labels))
    assert names(found) == [mistake] == [found.findings[0].id]


def test_the_number_that_the_file_gives_is_no_mistake(tried: Tried) -> None:
    found = diagnosed(tried, score(top_five(tried.network, tried.pictures), tried.pictures.labels))
    assert found.verdict == "nothing is off"
    assert names(found) == []


def test_a_number_that_nothing_gives_is_said_to_be_unexplained(tried: Tried) -> None:
    found = diagnosed(tried, KnownScore(0.31, 0.45))
    assert found.verdict == "unexplained"
    assert "None of the usual mistakes" in found.summary


def test_a_known_score_of_the_sound_setting_is_what_differences_are_taken_from(tried: Tried) -> None:
    """The sample is of a set on which both are ten points lower: only the difference fits."""
    sound = float(tried.trials.sound.right[:, 0].mean())
    squashed = next(each for each in tried.trials.others if each.cause.id == "squash")
    loss = sound - float(squashed.right[:, 0].mean())
    found = diagnosed(tried, KnownScore(0.9 * sound - loss), KnownScore(0.9 * sound), images=50_000)
    assert "squash" in names(found)


def test_a_file_that_gives_the_same_low_number_here_is_to_blame_itself(tried: Tried) -> None:
    here = score(top_five(tried.network, tried.pictures), tried.pictures.labels)
    found = ranking(tried.trials, KnownScore(0.95)).explain(here)
    assert (found.ranked_by, found.is_low_here, found.verdict) == ("gain", True, "unexplained")
