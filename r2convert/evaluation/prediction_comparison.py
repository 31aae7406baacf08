"""Two prediction files, image by image: which answers changed, and whether one network is better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from r2convert.errors import InputError, UsageError
from r2convert.evaluation.prediction_store import (
    Measurement,
    PredictedImage,
    Prediction,
    read_measurement,
    read_whole_lines,
)
from r2convert.evaluation.statistics import mcnemar
from r2convert.imagenet.labels import TOP
from r2convert.results.documents import (
    BothSides,
    ChangedImage,
    PairedCounts,
    PredictionComparison,
    PredictionFileSummary,
    PredictionsComparison,
)


def network_pairs(
    a: Path, b: Path, *, network_a: str | None = None, network_b: str | None = None
) -> list[tuple[str, str]]:
    """Which networks of two files to compare: those named, the only ones, or those of equal names.

    Args:
        a: a prediction file.
        b: another one, or the same.
        network_a: which network of the first file: its name, or the part of it behind the number.
        network_b: which network of the second file.

    Raises:
        InputError: a file holds no predictions.
        UsageError: it is not clear which networks are meant.
        AccessError: a file cannot be read.
    """
    names_a, names_b = read_measurement(a).networks, read_measurement(b).networks
    several = len(names_a) > 1 or len(names_b) > 1
    if network_a is None and network_b is None and several and a != b and set(names_a) == set(names_b):
        return [(name, name) for name in names_a]
    return [(_choose_network(a, names_a, network_a), _choose_network(b, names_b, network_b))]


def compare_files(
    a: Path, b: Path, *, network_a: str | None = None, network_b: str | None = None
) -> PredictionsComparison:
    """What :func:`compare_predictions` says of two files, and how each was made."""
    comparisons = compare_predictions(a, b, network_a=network_a, network_b=network_b)
    equal = all(comparison.equal for comparison in comparisons)
    return PredictionsComparison(equal=equal, a=_summary(a), b=_summary(b), comparisons=comparisons)


def _summary(path: Path) -> PredictionFileSummary:
    made = read_measurement(path)
    return PredictionFileSummary(str(path), made.precision, made.accelerations, made.pipeline)


def compare_predictions(
    a: Path, b: Path, *, network_a: str | None = None, network_b: str | None = None
) -> tuple[PredictionComparison, ...]:
    """Compares what is kept in two files, each of which is read once.

    Args:
        a: a file that ``verify --predictions`` has written.
        b: another one, of the same validation set and pipeline.
        network_a: which network of the first file; may be left out if there is only one, or equal names in both.
        network_b: which network of the second file.

    Returns:
        One comparison for every pair of :func:`network_pairs`.

    Raises:
        InputError: a file holds no predictions, or is damaged or incomplete.
        UsageError: the files are about different images, or it is not clear which networks are meant.
        AccessError: a file cannot be read.
    """
    measurements = read_measurement(a), read_measurement(b)
    _refuse_other_images(a, b, *measurements)
    pairs = network_pairs(a, b, network_a=network_a, network_b=network_b)
    tallies = [_Tally(*pair) for pair in pairs]
    rows_a = _read_rows(a, measurements[0], [name for name, _ in pairs])
    rows_b = _read_rows(b, measurements[1], [name for _, name in pairs])
    images = other_crops = 0
    # The order of the images is part of the set's fingerprint, so two files of one set agree line by line.
    for first, second in zip(rows_a, rows_b, strict=True):
        images += 1
        other_crops += first.crop != second.crop
        for tally in tallies:
            tally.add(first, second)
    return tuple(tally.comparison(images, other_crops) for tally in tallies)


class _Tally:
    """Counts how two networks' predictions differ, image by image.

    Args:
        name_a: the network in the first file.
        name_b: the network in the second file.
    """

    def __init__(self, name_a: str, name_b: str) -> None:
        self._names = name_a, name_b
        self._outcomes: dict[int, Counter[tuple[bool, bool]]] = {1: Counter(), TOP: Counter()}
        self._changed: list[ChangedImage] = []
        self._changed_top5 = 0

    def add(self, first: PredictedImage, second: PredictedImage) -> None:
        """Counts one image."""
        one, other = first.predictions.get(self._names[0]), second.predictions.get(self._names[1])
        for cut, outcomes in self._outcomes.items():
            outcomes[one is not None and one.rank < cut, other is not None and other.rank < cut] += 1
        top_a, top_b = _top(one), _top(other)
        if top_a != top_b:
            self._changed_top5 += set(top_a) != set(top_b)
            if top_a[:1] != top_b[:1]:
                self._changed.append(ChangedImage(first.image, first.label, top_a, top_b))

    def comparison(self, images: int, other_crops: int) -> PredictionComparison:
        """What was counted."""
        return PredictionComparison(
            network=BothSides(*self._names),
            images=images,
            other_crops=other_crops,
            changed_top1=len(self._changed),
            changed_top5=self._changed_top5,
            top1=_paired(self._outcomes[1]),
            top5=_paired(self._outcomes[TOP]),
            changed=tuple(self._changed),
        )


def _refuse_other_images(a: Path, b: Path, first: Measurement, second: Measurement) -> None:
    if first.data_set != second.data_set:
        raise UsageError(
            "these predictions are about different images",
            where=f"{a} and {b}",
            expected="the same images with the same labels",
            got=f"{first.images:,} and {second.images:,} images, data sets {first.data_set[:12]} and "
            f"{second.data_set[:12]}",
            next_step="measure both on the same set, with the same --limit and --seed",
        )
    if (first.pipeline, first.protocol) != (second.pipeline, second.protocol):
        raise UsageError(
            "these predictions are about different crops of the images",
            where=f"{a} and {b}",
            expected="images prepared in the same way",
            got=" and ".join(
                each.protocol or f"the standard protocol with {each.pipeline}" for each in (first, second)
            ),
            next_step="measure both with the same --pipeline, --image-size, --crop-pct, --interpolation, --mean, --std",
        )


def _top(answer: Prediction | None) -> tuple[int, ...]:
    return () if answer is None else answer.top


def _paired(outcomes: Counter[tuple[bool, bool]]) -> PairedCounts:
    only_a, only_b = outcomes[True, False], outcomes[False, True]
    return PairedCounts(
        both=outcomes[True, True],
        only_a=only_a,
        only_b=only_b,
        neither=outcomes[False, False],
        mcnemar_p=mcnemar(only_a, only_b),
    )


def _choose_network(path: Path, networks: Mapping[str, str], name: str | None) -> str:
    if name is None and len(networks) == 1:
        return next(iter(networks))
    # A number in front keeps two networks of one name apart; where there is one only, it may be left out.
    exact = [each for each in networks if each == name]
    meant = exact or [each for each in networks if each.partition(" ")[2] == name]
    if len(meant) == 1:
        return meant[0]
    raise UsageError(
        "which network of these predictions is meant?",
        where=str(path),
        expected="one of " + ", ".join(repr(each) for each in networks),
        got=repr(name) if name else "no name",
    )


def _read_rows(path: Path, measurement: Measurement, networks: Sequence[str]) -> Iterator[PredictedImage]:
    count = 0
    for row in read_whole_lines(path, networks):
        count += 1
        yield row
    if count != measurement.images:
        raise InputError(
            "the predictions are incomplete",
            where=str(path),
            expected=f"{measurement.images:,} images",
            got=f"{count:,}",
            next_step="finish the measurement with --resume",
        )
