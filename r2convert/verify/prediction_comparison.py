"""Two prediction files, image by image: which answers changed, and whether one network is better."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2convert.errors import AccessError, InputError, UsageError
from r2convert.verify.prediction_file import Question, read_question
from r2convert.verify.ranking import TOP
from r2convert.verify.significance import mcnemar


@dataclass(frozen=True, slots=True)
class PredictionComparison:
    """How the answers of two networks to the same images differ.

    Args:
        images: images compared.
        same_crops: whether both networks were shown the same pixels.
        changed_top1: images whose first class differs.
        changed_top5: images whose first five classes, as a set, differ.
        only_a_correct: images only the first network has right.
        only_b_correct: images only the second one has right.
        mcnemar_probability: two-sided probability of such a difference if both were equally good.
        changed: ids of the images whose first class differs, in order.
    """

    images: int
    same_crops: bool
    changed_top1: int
    changed_top5: int
    only_a_correct: int
    only_b_correct: int
    mcnemar_probability: float
    changed: tuple[str, ...]


def compare_predictions(
    a: Path, b: Path, *, network_a: str | None = None, network_b: str | None = None
) -> PredictionComparison:
    """Compares the answers kept in two files.

    Args:
        a: a file that ``verify --predictions`` has written.
        b: another one, of the same validation set.
        network_a: which network of the first file; may be left out if there is only one.
        network_b: which network of the second file.

    Raises:
        InputError: a file holds no predictions, or is damaged or incomplete.
        UsageError: the files are about different images, or it is not clear which network is meant.
        AccessError: a file cannot be read.
    """
    questions = read_question(a), read_question(b)
    if questions[0].data_set != questions[1].data_set:
        raise UsageError(
            "these predictions are about different images",
            where=f"{a} and {b}",
            expected="the same validation set",
            got=f"{questions[0].images} and {questions[1].images} images",
        )
    names = _choose_network(a, questions[0], network_a), _choose_network(b, questions[1], network_b)
    rows = zip(_read_answers(a, questions[0], names[0]), _read_answers(b, questions[1], names[1]), strict=True)
    return _count(rows)


@dataclass(frozen=True, slots=True)
class _Answer:
    image: str
    label: int
    crop: str | None
    top: tuple[int, ...]


def _count(rows: Iterator[tuple[_Answer, _Answer]]) -> PredictionComparison:
    images = changed_top5 = only_a = only_b = 0
    same_crops = True
    changed: list[str] = []
    for first, second in rows:
        images += 1
        same_crops &= first.crop == second.crop
        changed_top5 += set(first.top) != set(second.top)
        if first.top[:1] != second.top[:1]:
            changed.append(first.image)
            only_a += first.top[:1] == (first.label,)
            only_b += second.top[:1] == (second.label,)
    return PredictionComparison(
        images, same_crops, len(changed), changed_top5, only_a, only_b, mcnemar(only_a, only_b), tuple(changed)
    )


def _choose_network(path: Path, question: Question, name: str | None) -> str:
    if name is None and len(question.networks) == 1:
        return next(iter(question.networks))
    if name is None or name not in question.networks:
        raise UsageError(
            "which network of these predictions is meant?",
            where=str(path),
            expected="one of " + ", ".join(question.networks),
            got=name or "no name",
        )
    return name


def _read_answers(path: Path, question: Question, network: str) -> Iterator[_Answer]:
    """The answers in order; images without a crop have none.

    The order of the images is part of the set's fingerprint, so two files of one set agree line by line.
    """
    count = 0
    try:
        with path.open("rb") as file:
            next(file)
            for count, line in enumerate(file, 1):
                yield _parse(path, count + 1, line, network)
    except OSError as error:
        raise AccessError("the predictions cannot be read", where=str(path), got=str(error)) from error
    if count != question.images:
        raise InputError(
            "the predictions are incomplete",
            where=str(path),
            expected=f"{question.images} images",
            got=f"{count}",
            next_step="finish the measurement with --resume",
        )


def _parse(path: Path, number: int, line: bytes, network: str) -> _Answer:
    try:
        row: dict[str, Any] = json.loads(line)
        top = tuple(map(int, row["answers"][network]["top5"])) if row["crop"] is not None else ()
        if row["crop"] is not None and len(top) != TOP:
            raise ValueError(f"{len(top)} classes")
        return _Answer(str(row["image"]), int(row["label"]), row["crop"], top)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(
            "the predictions are damaged",
            where=f"{path}:{number}",
            expected=f"an image with the first {TOP} classes of {network}",
            got=str(error),
            next_step="measure again with --predictions",
        ) from error
