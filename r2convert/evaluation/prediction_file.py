"""Every answer of a measurement in a file: kept while it runs, to continue from, and to recompute scores from.

While a measurement runs, each of its processes keeps what it finds out in a part of its own: ``<name>.partial``,
``<name>.partial.1`` and so on. Whole lines of a part are good whatever happened to the process; the last one may be
cut off. A run that continues takes the answers of all parts it finds, however many processes wrote them. When every
image is answered, the file appears under its own name, in the order of the set, and the parts go.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from r2convert.errors import AccessError, OutputExistsError, UsageError
from r2convert.evaluation.prediction_rows import (
    Answer,
    AnsweredImage,
    Question,
    damaged_line,
    image_line,
    parse_question,
    question_line,
    read_whole_lines,
)
from r2convert.evaluation.predictions import AnsweredPart, NetworkAnswers, Predictions
from r2convert.imagenet.loading import NO_CROP, LoadedImage
from r2convert.imagenet.validation_set import ValidationSet

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


def network_fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and values of all tensors of a network."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
