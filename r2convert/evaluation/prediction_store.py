"""A file with every prediction of a measurement: written while it runs, to resume it and to recompute scores.

While a measurement runs, each of its processes writes its predictions to a part of its own: ``<name>.partial``,
``<name>.partial.1`` and so on. Whole lines of a part are good whatever happened to the process; the last one may be
cut off. A resumed run takes the predictions of all parts it finds, however many processes wrote them. When
everything is done, the file appears under its own name, in the order of the set, and the parts are removed.

One JSON document a line. The first says what is measured; each further one is an image: its id, label, SHA-256 of its
crop (or why there is none), and for every network (in a part: for one of them) the first five classes, the rank of the
label, and two margins (see :class:`~r2convert.evaluation.backends.Ranking`; null where one is not finite).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
from msgspec import DecodeError, Meta, Struct, field, json, structs

from r2convert.errors import AccessError, InputError, OutputExistsError, UsageError
from r2convert.evaluation.predictions import NetworkPredictions, Predictions
from r2convert.files import atomic_output, is_stream
from r2convert.imagenet.labels import TOP
from r2convert.imagenet.validation_set import NO_CROP

SCHEMA = "r2convert.predictions/1"

Record = Callable[[str, NetworkPredictions, Iterable[int]], None]
"""Writes down what a network, by name, predicts for the images at some positions."""


class Measurement(Struct, frozen=True, tag_field="schema", tag=SCHEMA):
    """What is measured, the first line: predictions can be put together only if this is the same.

    Args:
        data_set: fingerprint of the validation set.
        images: number of its images.
        pipeline: how crops are made.
        precision: how networks are run.
        networks: by name, SHA-256 over names and values of its tensors.
        accelerations: what else makes them run faster.
        protocol: how images are prepared, in words.
    """

    data_set: str
    images: int
    pipeline: str
    precision: str
    networks: dict[str, str]
    accelerations: tuple[str, ...] = ()
    protocol: str = ""


_LARGEST = int(np.iinfo(np.int16).max)
_Rank = Annotated[int, Meta(ge=0, le=_LARGEST)]
_Class = Annotated[int, Meta(ge=-1, le=_LARGEST)]
_Top = Annotated[tuple[_Class, ...], Meta(min_length=TOP, max_length=TOP)]
_Digest = Annotated[str, Meta(pattern=f"^[0-9a-f]{{{2 * len(NO_CROP)}}}$")]


class Prediction(Struct, frozen=True):
    """What one network says of one image: see :class:`~r2convert.evaluation.backends.Ranking`."""

    top: _Top = field(name="top5")
    rank: _Rank
    margins: tuple[float | None, float | None]


class PredictedImage(Struct, frozen=True, omit_defaults=True):
    """One of the further lines.

    Args:
        image: id of the image.
        label: its class index.
        crop: SHA-256 of its crop, in hexadecimal digits; ``None`` if there is none.
        problem: why there is none.
        predictions: by network; nothing if there is no crop.
    """

    image: str
    label: int
    crop: _Digest | None
    problem: str | None = None
    predictions: dict[str, Prediction] = field(name="answers", default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictionFile:
    """Where to keep the predictions of a measurement.

    Args:
        path: the file; it appears when the measurement is complete.
        resume: continue what an interrupted measurement has left; begin anew if there is nothing.
        overwrite: replace what is there.
    """

    path: Path
    resume: bool = False
    overwrite: bool = False

    def part(self, rank: int = 0) -> Path:
        """Where a process of this rank keeps its predictions until all are there."""
        suffix = f".partial.{rank}" if rank else ".partial"
        return self.path.with_name(self.path.name + suffix)

    def require_place(self) -> None:
        """Checks whether predictions can be kept here, before hours are spent.

        Raises:
            OutputExistsError: there is a file, and neither ``resume`` nor ``overwrite`` is set.
            AccessError: it cannot be a file, or its folder cannot be created or written.
        """
        if self.path.is_dir() or is_stream(self.path):
            raise AccessError(
                "predictions cannot be kept in a folder, a device or a pipe",
                where=str(self.path),
                next_step="give the path of a file",
            )
        existing = self._existing()
        if existing and not (self.resume or self.overwrite):
            raise OutputExistsError(
                "there are predictions at this place already",
                where=str(existing[0]),
                next_step="--resume continues them, --overwrite replaces them",
            )
        with _explaining_failures(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise PermissionError(f"the folder {self.path.parent} cannot be written")

    def restore(self, measurement: Measurement, into: Predictions) -> None:
        """Loads what earlier runs left; without ``resume`` it is removed instead.

        Raises:
            UsageError: a file holds the predictions of another measurement.
            OutputExistsError: there is a file, and neither ``resume`` nor ``overwrite`` is set.
            InputError: a file is damaged.
            AccessError: a file cannot be read.
        """
        self.require_place()
        if self.resume:
            restorer = _Restorer(into)
            for path in self._existing():
                if _belongs_to(path, measurement):
                    restorer.take_in(path, measurement, of_one_network=path != self.path)
            return
        with _explaining_failures(self.path):
            for path in self._parts():
                path.unlink(missing_ok=True)

    @contextmanager
    def recording(self, measurement: Measurement, predictions: Predictions, rank: int = 0) -> Iterator[Record]:
        """Yields a function that writes predictions.

        Args:
            measurement: what is measured.
            predictions: where to look up an image's digest or problem.
            rank: of this process, from 0.

        Raises:
            AccessError: the file cannot be written.
        """
        with _explaining_failures(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.part(rank).open("a+b")
            _cut_to_whole_lines(file, _measurement_line(measurement))

        def record(name: str, network: NetworkPredictions, places: Iterable[int]) -> None:
            with _explaining_failures(self.path):
                file.writelines(_lines(predictions, {name: network}, places))
                file.flush()

        try:
            yield record
        finally:
            # Closing tries again to write what a full disk has refused.
            with _explaining_failures(self.path), file:
                file.flush()
                os.fsync(file.fileno())

    def complete(self, measurement: Measurement, predictions: Predictions) -> None:
        """Writes the complete file.

        Raises:
            AccessError: the file cannot be written.
        """
        with (
            atomic_output(self.path, overwrite=True) as (part, _),
            _explaining_failures(self.path),
            part.open("wb") as file,
        ):
            file.write(_measurement_line(measurement))
            file.writelines(_lines(predictions, predictions.networks, range(measurement.images)))

    def remove_parts(self) -> None:
        """Removes the parts, which the complete file replaces.

        Raises:
            AccessError: a part cannot be removed.
        """
        with _explaining_failures(self.path):
            for path in self._parts():
                path.unlink(missing_ok=True)

    def _existing(self) -> list[Path]:
        return [self.path] if self.path.exists() else [path for path in self._parts() if path.exists()]

    def _parts(self) -> list[Path]:
        """The parts that are there, whichever processes wrote them."""
        first = self.part()
        if not self.path.parent.is_dir():
            return [first]
        return [first, *sorted(path for path in self.path.parent.iterdir() if path.name.startswith(f"{first.name}."))]


class _Restorer:
    """Finds the place of each line in a set; no two lines of a network have the same one.

    The same images may lie in another form by now, flat or in class folders: so file names and labels are compared,
    as in the fingerprint of the set.
    """

    def __init__(self, into: Predictions) -> None:
        self._into = into
        self._places: dict[tuple[str, int], list[int]] = defaultdict(list)
        for place, image in enumerate(into.images.images):
            self._places[image.file_name, image.label].append(place)
        self._taken: dict[tuple[str, str, int], int] = defaultdict(int)

    def take_in(self, path: Path, measurement: Measurement, *, of_one_network: bool) -> None:
        """All whole lines of a file, each about one network or about all of them."""
        networks = measurement.networks
        for number, line in enumerate(read_whole_lines(path, () if of_one_network else networks), 2):
            unknown = set(line.predictions) - set(networks)
            if unknown or not (line.predictions or line.problem):
                raise _damaged_line(path, number, f"other networks: {', '.join(sorted(unknown)) or 'none'}")
            for name in line.predictions or networks:
                self._take_line(path, number, line, name)

    def _take_line(self, path: Path, number: int, line: PredictedImage, name: str) -> None:
        key = line.image.rpartition("/")[2], line.label
        places = self._places[key]
        used = self._taken[name, *key]
        if used >= len(places):
            if line.problem is not None:
                return  # each network of a part says so
            raise _damaged_line(path, number, f"no other image of this set is {line.image}, class {line.label}")
        self._taken[name, *key] = used + 1
        place = places[used]
        digest = NO_CROP if line.crop is None else bytes.fromhex(line.crop)
        self._into.note([place], [line.problem], np.frombuffer(digest, np.uint8))
        network = self._into.networks[name]
        network.done[place] = True
        if name in line.predictions:
            found = line.predictions[name]
            network.top[place], network.rank[place] = found.top, found.rank
            network.margins[place] = [nan if margin is None else margin for margin in found.margins]


def read_measurement(path: Path) -> Measurement:
    """What a prediction file is about.

    Raises:
        InputError: it is no prediction file.
        AccessError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _parse_measurement(path, file.readline())
    except OSError as error:
        raise _unreadable(path, error) from error


def read_whole_lines(path: Path, networks: Iterable[str]) -> Iterator[PredictedImage]:
    """The images of a file, in its order; a last line that was cut off is left out.

    Args:
        path: the file.
        networks: those that every image has predictions of; if none are named, each has those it has.

    Raises:
        InputError: a line is damaged.
        AccessError: the file cannot be read.
    """
    names = tuple(networks)
    try:
        with path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, 2):
                if line.endswith(b"\n"):
                    yield _parse_image(path, number, line, names)
    except OSError as error:
        raise _unreadable(path, error) from error


def _belongs_to(path: Path, measurement: Measurement) -> bool:
    """Whether a file has anything to say; a first line that was cut off says nothing.

    Raises:
        UsageError: it is about another measurement.
    """
    with _explaining_failures(path), path.open("rb") as file:
        first = file.readline()
    if not first.endswith(b"\n"):
        return False
    found = _parse_measurement(path, first)
    if found != measurement:
        fields = [each.name for each in structs.fields(Measurement)]
        differing = [name for name in fields if getattr(found, name) != getattr(measurement, name)]
        raise UsageError(
            "these predictions belong to another measurement",
            where=str(path),
            expected="the same " + ", ".join(fields),
            got="another " + ", ".join(differing),
            next_step="choose another file, or --overwrite this one",
        )
    return True


def _cut_to_whole_lines(file: BinaryIO, first_line: bytes) -> None:
    """Leaves the whole lines of a part, to go on behind them; a part without any begins with the measurement."""
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


def _measurement_line(measurement: Measurement) -> bytes:
    return json.encode(measurement) + b"\n"


def _lines(
    predictions: Predictions, networks: Mapping[str, NetworkPredictions], places: Iterable[int]
) -> Iterator[bytes]:
    for place in places:
        image = predictions.images.images[place]
        if place in predictions.problems:
            row = PredictedImage(image.id, image.label, None, predictions.problems[place])
        else:
            found = {name: _prediction(network, place) for name, network in networks.items()}
            row = PredictedImage(image.id, image.label, predictions.digests[place].tobytes().hex(), None, found)
        yield json.encode(row) + b"\n"


def _prediction(network: NetworkPredictions, place: int) -> Prediction:
    first, second = map(_margin, network.margins[place])
    return Prediction(tuple(network.top[place].tolist()), int(network.rank[place]), (first, second))


def _margin(margin: np.float32) -> float | None:
    # The shortest digits that are read back as the same float32.
    return float(str(margin)) if isfinite(margin) else None


def _parse_measurement(path: Path, line: bytes) -> Measurement:
    try:
        return json.decode(line, type=Measurement)
    except (DecodeError, RecursionError) as error:
        raise InputError(
            "this is not a predictions file",
            where=f"{path}:1",
            expected=f'a line of JSON with "schema": "{SCHEMA}"',
            got=str(error),
            next_step="give a file that verify --predictions has written",
        ) from error


_ROW = json.Decoder(PredictedImage)


def _parse_image(path: Path, number: int, line: bytes, networks: tuple[str, ...]) -> PredictedImage:
    try:
        row = _ROW.decode(line)
    except (DecodeError, RecursionError) as error:
        raise _damaged_line(path, number, str(error)) from error
    missing = [name for name in networks if row.crop is not None and name not in row.predictions]
    if missing:
        raise _damaged_line(path, number, f"nothing of {', '.join(missing)}")
    return row


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


def _damaged_line(path: Path, number: int, got: str) -> InputError:
    return InputError(
        "the predictions are damaged",
        where=f"{path}:{number}",
        expected="an image of the set, with the predictions of the networks",
        got=got,
        next_step="measure again with --predictions and --overwrite",
    )


def _unreadable(path: Path, error: OSError) -> AccessError:
    return AccessError("the predictions cannot be read", where=str(path), got=str(error))
