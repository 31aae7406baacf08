"""What the lines of a prediction file hold; read and written here without torch.

One JSON document a line. The first says what was asked of whom; each further one is an image: its id, label, SHA-256
of its crop (or why there is none), and for every network its first five classes, the rank of the label, and two
margins (see :class:`~r2convert.evaluation.ranking.Ranking`; null where one is no number).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r2convert.errors import AccessError, InputError
from r2convert.imagenet.labels import CLASS_COUNT, TOP

SCHEMA = "r2convert.predictions/1"


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of whom: answers can be put together only if this is the same.

    Args:
        data_set: fingerprint of the validation set.
        images: number of its images.
        pipeline: how crops were made.
        precision: how networks were run.
        networks: by name, SHA-256 over names and values of its tensors.
        accelerations: what else made them run faster.
    """

    data_set: str
    images: int
    pipeline: str
    precision: str
    networks: dict[str, str]
    accelerations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What one network said of one image: see :class:`~r2convert.evaluation.ranking.Ranking`."""

    top: tuple[int, ...]
    rank: int
    margins: tuple[float, float]


@dataclass(frozen=True, slots=True)
class AnsweredImage:
    """One line.

    Args:
        image: id of the image.
        label: its class index.
        crop: SHA-256 of its crop, in hexadecimal digits; ``None`` if there is none.
        problem: why there is none.
        answers: by network; nothing if there is no crop.
    """

    image: str
    label: int
    crop: str | None
    problem: str | None
    answers: Mapping[str, Answer]


def question_line(question: Question) -> bytes:
    """The first line of a file."""
    return _line({"schema": SCHEMA, **asdict(question)})


def image_line(answered: AnsweredImage) -> bytes:
    """The line of an image."""
    fields: dict[str, Any] = {"image": answered.image, "label": answered.label, "crop": answered.crop}
    if answered.crop is None:
        return _line({**fields, "problem": answered.problem})
    answers = {
        name: {
            "top5": answer.top,
            "rank": answer.rank,
            "margins": [margin if math.isfinite(margin) else None for margin in answer.margins],
        }
        for name, answer in answered.answers.items()
    }
    return _line({**fields, "answers": answers})


def read_question(path: Path) -> Question:
    """What a prediction file answers.

    Raises:
        InputError: it is no prediction file.
        AccessError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return parse_question(path, file.readline())
    except OSError as error:
        raise _unreadable(path, error) from error


def parse_question(path: Path, line: bytes) -> Question:
    """The first line of a file.

    Raises:
        InputError: it is none.
    """
    try:
        fields = json.loads(line)
        if fields.pop("schema") == SCHEMA:
            fields["accelerations"] = tuple(fields.get("accelerations", ()))
            return _checked(Question(**fields))
        got = "another schema"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        got = str(error)
    raise InputError(
        "this is no file of predictions",
        where=f"{path}:1",
        expected=f'a line of JSON with "schema": "{SCHEMA}"',
        got=got,
        next_step="give a file that verify --predictions has written",
    )


def _checked(question: Question) -> Question:
    texts = (question.data_set, question.pipeline, question.precision, *question.accelerations)
    if not isinstance(question.networks, dict) or not isinstance(question.images, int):
        raise TypeError("a field of another kind")
    if not all(isinstance(text, str) for text in (*texts, *question.networks.values())):
        raise TypeError("a field that is no text")
    return question


def read_whole_lines(path: Path, networks: Mapping[str, str]) -> Iterator[AnsweredImage]:
    """The images of a file, in its order; a last line that was cut off is left out.

    Args:
        path: the file.
        networks: those that every image has answers of.

    Raises:
        InputError: a line is damaged.
        AccessError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, 2):
                if line.endswith(b"\n"):
                    yield _parse_image(path, number, line, networks)
    except OSError as error:
        raise _unreadable(path, error) from error


def _parse_image(path: Path, number: int, line: bytes, networks: Mapping[str, str]) -> AnsweredImage:
    try:
        row = json.loads(line)
        image, label, crop = str(row["image"]), int(row["label"]), row["crop"]
        if crop is None:
            return AnsweredImage(image, label, None, str(row["problem"]), {})
        if len(bytes.fromhex(crop)) != 32:
            raise ValueError("the crop's digest has another length")
        answers = {name: _parse_answer(row["answers"][name]) for name in networks}
        return AnsweredImage(image, label, crop, None, answers)
    except (ValueError, ArithmeticError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise damaged_line(path, number, str(error)) from error


def damaged_line(path: Path, number: int, got: str) -> InputError:
    """The error for a line that does not hold what it ought to."""
    return InputError(
        "the predictions are damaged",
        where=f"{path}:{number}",
        expected="an image of the set, with the answers of the networks",
        got=got,
        next_step="measure again with --predictions and --overwrite",
    )


def _parse_answer(fields: Mapping[str, Any]) -> Answer:
    top = tuple(map(int, fields["top5"]))
    first, second = (math.nan if margin is None else float(margin) for margin in fields["margins"])
    rank = int(fields["rank"])
    if len(top) != TOP or not all(-1 <= each < CLASS_COUNT for each in top) or not 0 <= rank <= CLASS_COUNT:
        raise ValueError("classes or a rank that do not exist")
    return Answer(top, rank, (first, second))


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _unreadable(path: Path, error: OSError) -> AccessError:
    return AccessError("the predictions cannot be read", where=str(path), got=str(error))
