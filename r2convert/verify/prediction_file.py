"""Every answer of a measurement in a file: kept while it runs, to continue from, and to recompute scores from.

One JSON document a line. The first says what was asked of whom; each further one is an image, in the order of the
set: its id, label, SHA-256 of its crop (or why there is none), and for every network its first five classes, the
rank of the label, and two margins (see :class:`~r2convert.verify.ranking.Ranking`; null where one is no number).

While a measurement runs the file is called ``<name>.partial``. Whole lines of it are good whatever happened to the
process; the last one may be cut off.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from r2convert.errors import AccessError, InputError, OutputExistsError, UsageError
from r2convert.imagenet.loading import NO_CROP, LoadedImage
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.verify.predictions import Predictions
from r2convert.verify.ranking import Ranking

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
    """

    data_set: str
    images: int
    pipeline: str
    precision: str
    networks: dict[str, str]


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

    @property
    def partial(self) -> Path:
        """Where answers are kept until all are there."""
        return self.path.with_name(self.path.name + ".partial")

    @contextmanager
    def recording(
        self, question: Question, images: ValidationSet, answered: Predictions
    ) -> Iterator[Callable[[], None]]:
        """Fills ``answered`` with what is already known; the function it gives writes down what has been added since.

        Raises:
            UsageError: the file holds the answers to another question.
            OutputExistsError: there is a file, and neither ``resume`` nor ``overwrite`` was asked for.
            AccessError: the file cannot be written.
        """
        self._refuse_to_overwrite()
        with _explaining_failures(self.path):
            file = self._open(question, images, answered)
        written = answered.done

        def record() -> None:
            nonlocal written
            with _explaining_failures(self.path):
                file.writelines(_row(answered, row) for row in range(written, answered.done))
                file.flush()
            written = answered.done

        with file:
            try:
                yield record
            finally:
                with _explaining_failures(self.path):
                    file.flush()
                    os.fsync(file.fileno())
        if answered.done == len(images.images):
            with _explaining_failures(self.path):
                self.partial.replace(self.path)

    def _refuse_to_overwrite(self) -> None:
        existing = next((path for path in (self.path, self.partial) if path.exists()), None)
        if existing is not None and not self.resume and not self.overwrite:
            raise OutputExistsError(
                "there are predictions at this place already",
                where=str(existing),
                next_step="--resume continues them, --overwrite replaces them",
            )

    def _open(self, question: Question, images: ValidationSet, answered: Predictions) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = next((path for path in (self.path, self.partial) if path.exists()), None) if self.resume else None
        good = 0 if kept is None else _restore(kept, question, images, answered)
        if kept == self.path:
            self.path.replace(self.partial)
        file: BinaryIO = self.partial.open("r+b" if good else "wb")
        file.truncate(good)
        file.seek(good)
        if not good:
            file.write(_line({"schema": SCHEMA, **asdict(question)}))
        return file


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


def network_fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and values of all tensors of a network."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_question(path: Path) -> Question:
    """What a prediction file answers.

    Raises:
        InputError: it is no prediction file.
        AccessError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _parse_question(path, file.readline())
    except OSError as error:
        raise AccessError("the predictions cannot be read", where=str(path), got=str(error)) from error


def _parse_question(path: Path, line: bytes) -> Question:
    try:
        fields = json.loads(line)
        if fields.pop("schema") == SCHEMA:
            return Question(**fields)
        got = "another schema"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        got = str(error)
    raise InputError(
        "this is no file of predictions",
        where=f"{path}:1",
        expected=f'a line of JSON with "schema": "{SCHEMA}"',
        got=got,
        next_step="give a file that verify --predictions has written",
    )


def _restore(path: Path, question: Question, images: ValidationSet, answered: Predictions) -> int:
    """Takes in the whole lines of a file; returns how many bytes they have."""
    with path.open("rb") as file:
        first = file.readline()
        if not first.endswith(b"\n"):
            return 0
        _refuse_other_question(path, _parse_question(path, first), question)
        good = len(first)
        for number, line in enumerate(file, 2):
            if not line.endswith(b"\n"):
                break
            _take_in(path, number, line, images, answered)
            good += len(line)
    return good


def _refuse_other_question(path: Path, found: Question, asked: Question) -> None:
    if found != asked:
        differing = [name for name in asdict(asked) if getattr(found, name) != getattr(asked, name)]
        raise UsageError(
            "these predictions belong to another measurement",
            where=str(path),
            expected="the same " + ", ".join(asdict(asked)),
            got="another " + ", ".join(differing),
            next_step="choose another file, or --overwrite this one",
        )


def _take_in(path: Path, number: int, line: bytes, images: ValidationSet, answered: Predictions) -> None:
    try:
        row = json.loads(line)
        image = images.images[answered.done]
        if row["image"] != image.id:
            raise ValueError(f"the image is {row['image']}, not {image.id}")
        if row["crop"] is None:
            answered.add([LoadedImage(image, NO_CROP, row["problem"])], {})
        else:
            rankings = {name: _ranking(answer) for name, answer in row["answers"].items()}
            answered.add([LoadedImage(image, bytes.fromhex(row["crop"]))], rankings)
    except (ValueError, ArithmeticError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise InputError(
            "the predictions are damaged",
            where=f"{path}:{number}",
            expected="an image of the set, with the answers of the networks",
            got=str(error),
            next_step="--overwrite the file",
        ) from error


def _row(answered: Predictions, row: int) -> bytes:
    loaded = answered.loaded[row]
    fields: dict[str, Any] = {"image": loaded.image.id, "label": loaded.image.label}
    if loaded.problem is not None:
        return _line({**fields, "crop": None, "problem": loaded.problem})
    answers = {
        name: {
            "top5": answer.top[row].tolist(),
            "rank": int(answer.rank[row]),
            # The shortest digits that are read back as the same float32.
            "margins": [float(str(margin)) if math.isfinite(margin) else None for margin in answer.margins[row]],
        }
        for name, answer in answered.answers.items()
    }
    return _line({**fields, "crop": loaded.crop_digest.hex(), "answers": answers})


def _ranking(answer: Mapping[str, Any]) -> Ranking:
    margins = [math.nan if margin is None else margin for margin in answer["margins"]]
    return Ranking(
        top=torch.from_numpy(np.array([answer["top5"]], np.int16)),
        rank=torch.from_numpy(np.array([answer["rank"]], np.int16)),
        margins=torch.from_numpy(np.array([margins], np.float32)),
    )


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
