"""Every answer of a measurement in a file: kept while it runs, to continue from, and to recompute scores from.

While a measurement runs, each of its processes keeps what it finds out in a part of its own: ``<name>.partial``,
``<name>.partial.1`` and so on. Whole lines of a part are good whatever happened to the process; the last one may be
cut off. A run that continues takes the answers of all parts it finds, however many processes wrote them. When every
image is answered, the file appears under its own name, in the order of the set, and the parts go.

One JSON document a line. The first says what was asked of whom; each further one is an image: its id, label, SHA-256
of its crop (or why there is none), and for every network its first five classes, the rank of the label, and two
margins (see :class:`~r2convert.evaluation.backends.Ranking`; null where one is no number).
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from r2convert.errors import AccessError, InputError, OutputExistsError, UsageError
from r2convert.evaluation.predictions import AnsweredPart, NetworkAnswers, Predictions
from r2convert.imagenet.labels import CLASS_COUNT, TOP
from r2convert.imagenet.validation_set import NO_CROP, LoadedImage, ValidationSet

Record = Callable[[Predictions], None]


@dataclass(frozen=True, slots=True)
class PredictionFile:
    """Where to keep the answers of a measurement.

    Args:
        path: the file; it appears when the measurement is complete.
        resume: continue what an interrupted measurement has left; begin anew if there is nothing.
        overwrite: replace what is there.
    """

    path: Path
    resume: bool = False
    overwrite: bool = False

    def part(self, number: int = 0) -> Path:
        """Where a process of this number keeps its answers until all are there."""
        suffix = f".partial.{number}" if number else ".partial"
        return self.path.with_name(self.path.name + suffix)

    def known(self, question: Question, images: ValidationSet) -> AnsweredPart:
        """What earlier runs have left; without ``resume`` it is removed instead.

        Raises:
            UsageError: a file holds the answers to another question.
            OutputExistsError: there is a file, and neither ``resume`` nor ``overwrite`` was asked for.
            InputError: a file is damaged.
            AccessError: a file cannot be read.
        """
        parts = [path for path in self._parts() if path.exists()]
        existing = [self.path] if self.path.exists() else parts
        if self.resume:
            return _restore(existing, question, images)
        if existing and not self.overwrite:
            raise OutputExistsError(
                "there are predictions at this place already",
                where=str(existing[0]),
                next_step="--resume continues them, --overwrite replaces them",
            )
        with _explaining_failures(self.path):
            for path in parts:
                path.unlink(missing_ok=True)
        return AnsweredPart((), Predictions((), question.networks))

    @contextmanager
    def recording(self, question: Question, number: int = 0) -> Iterator[Record]:
        """Gives a function that writes down what has been answered since it was called last.

        Args:
            question: what is asked.
            number: of this process, from 0.

        Raises:
            AccessError: the file cannot be written.
        """
        with _explaining_failures(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.part(number).open("a+b")
            _cut_to_whole_lines(file, question_line(question))
        written = 0

        def record(answered: Predictions) -> None:
            nonlocal written
            with _explaining_failures(self.path):
                file.writelines(image_line(_row(answered, row)) for row in range(written, answered.done))
                file.flush()
            written = answered.done

        with file:
            try:
                yield record
            finally:
                with _explaining_failures(self.path):
                    file.flush()
                    os.fsync(file.fileno())

    def complete(self, question: Question, answered: Predictions) -> None:
        """Puts the file in its place, every image answered.

        Raises:
            AccessError: the file cannot be written.
        """
        beside = self.path.with_name(self.path.name + ".complete")
        with _explaining_failures(self.path):
            with beside.open("wb") as file:
                file.write(question_line(question))
                file.writelines(image_line(_row(answered, row)) for row in range(answered.done))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)

    def remove_parts(self) -> None:
        """Removes what the complete file has made superfluous.

        Raises:
            AccessError: a part cannot be removed.
        """
        with _explaining_failures(self.path):
            for path in self._parts():
                path.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        """The parts that are there, whichever processes wrote them."""
        first = self.part()
        if not self.path.parent.is_dir():
            return [first]
        return [first, *sorted(path for path in self.path.parent.iterdir() if path.name.startswith(f"{first.name}."))]


@contextmanager
def _explaining_failures(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AccessError(
            "the predictions cannot be kept",
            where=str(path),
            got=str(error),
            next_step="free space or choose another place; --resume continues from what was kept",
        ) from error


def _restore(paths: list[Path], question: Question, images: ValidationSet) -> AnsweredPart:
    """The answers in some files; no two of them have the same image."""
    free: dict[tuple[str, int], deque[int]] = defaultdict(deque)
    for place, image in enumerate(images.images):
        free[image.id, image.label].append(place)
    found: dict[int, AnsweredImage] = {}
    for path in paths:
        if not _answers(path, question):
            continue
        for number, row in enumerate(read_whole_lines(path, question.networks), 2):
            places = free[row.image, row.label]
            if not places:
                raise damaged_line(path, number, f"no other image of this set is {row.image}, class {row.label}")
            found[places.popleft()] = row
    places_found = tuple(sorted(found))
    known = Predictions([images.images[place] for place in places_found], question.networks)
    for place in places_found:
        _take_in(known, found[place])
    return AnsweredPart(places_found, known)


def _answers(path: Path, question: Question) -> bool:
    """Whether a file has anything to say; a first line that was cut off says nothing.

    Raises:
        UsageError: it answers another question.
    """
    with _explaining_failures(path), path.open("rb") as file:
        first = file.readline()
    if not first.endswith(b"\n"):
        return False
    found = parse_question(path, first)
    if found != question:
        differing = [name for name in asdict(question) if getattr(found, name) != getattr(question, name)]
        raise UsageError(
            "these predictions belong to another measurement",
            where=str(path),
            expected="the same " + ", ".join(asdict(question)),
            got="another " + ", ".join(differing),
            next_step="choose another file, or --overwrite this one",
        )
    return True


def _cut_to_whole_lines(file: BinaryIO, first_line: bytes) -> None:
    """Leaves the whole lines of a part, to go on behind them; a part without any begins with the question."""
    size = file.seek(0, os.SEEK_END)
    good, block = 0, 1 << 16
    for end in range(size, 0, -block):
        start = max(0, end - block)
        file.seek(start)
        last = file.read(end - start).rfind(b"\n")
        if last >= 0:
            good = start + last + 1
            break
    file.truncate(good)
    file.seek(good)
    if not good:
        file.write(first_line)


def _row(answered: Predictions, row: int) -> AnsweredImage:
    loaded = answered.loaded[row]
    image, label = loaded.image.id, loaded.image.label
    if loaded.problem is not None:
        return AnsweredImage(image, label, None, loaded.problem, {})
    answers = {name: _answer(answers, row) for name, answers in answered.answers.items()}
    return AnsweredImage(image, label, loaded.crop_digest.hex(), None, answers)


def _answer(answers: NetworkAnswers, row: int) -> Answer:
    # The shortest digits that are read back as the same float32.
    first, second = (float(str(margin)) for margin in answers.margins[row])
    return Answer(tuple(answers.top[row].tolist()), int(answers.rank[row]), (first, second))


def _take_in(known: Predictions, row: AnsweredImage) -> None:
    image = known.images[known.done]
    for name, answer in row.answers.items():
        answers = known.answers[name]
        answers.top[known.done] = answer.top
        answers.rank[known.done] = answer.rank
        answers.margins[known.done] = answer.margins
    digest = NO_CROP if row.crop is None else bytes.fromhex(row.crop)
    known.loaded.append(LoadedImage(image, digest, row.problem))


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
