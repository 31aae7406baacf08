"""Where the marks of the page's charts go, as shares of a chart's width and height; the template draws them.

A chart is as wide as the page lets it be: places are in per cent, and everything that is read is text of the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import floor, log10

from r2convert.catalog.printed import images_of, printed_interval
from r2convert.report.differences import claim_of, difference, images_behind, is_accuracy, short_name
from r2convert.results.verdicts import LABELS, Check, Verdict
from r2convert.results.verification import (
    TOLERANCE,
    ActivationComparison,
    CheckpointResult,
    LayerWiring,
    OutputDifference,
    WiringResult,
)

_MARGIN = 0.04
_LEAST_WIDTH = 0.6
_GUTTER = 17.0
_LEAST_SPAN = 2.0
"""Per cent of images that an axis of accuracies spans at the least."""
_NOISE = 25
"""Images that another decoder or device can account for: shown at the least, however near a claim is."""
_BINS = 20
_FULL_SCALE = 1.5
"""Disagreement at which a bar of the wiring strip is cut: three times what is called suspect at the most."""
_EXACT, _WORST = 1e-18, 1e1
_LEAST_STAGE = 13
"""Per cent of a strip below which a stage has no room for its name."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A place of an axis with its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """From where to where an axis goes; ``begin``, in per cent of the width, is kept free for what lies below it."""

    low: float
    high: float
    begin: float = 0.0

    def at(self, value: float) -> float:
        """The place of a value; 0 for one that lies below the axis."""
        share = (value - self.low) / (self.high - self.low)
        return 0.0 if share < 0 else round(self.begin + (100 - self.begin) * min(share, 1.0), 2)

    def ticks(self) -> tuple[Tick, ...]:
        """Four to eight round values."""
        size = 10.0 ** floor(log10((self.high - self.low) / 4))
        step = next(size * factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (size * factor) <= 6)
        first = floor(self.low / step) + 1
        count = floor(self.high / step) - first + 1
        return tuple(Tick(self.at(step * (first + index)), f"{step * (first + index):g}") for index in range(count))


@dataclass(frozen=True, slots=True)
class Share:
    """An accuracy in per cent, with the ends of its interval; both are the value itself where it is exact."""

    value: float
    low: float
    high: float

    @property
    def is_sample(self) -> bool:
        """Whether it is known to an interval only."""
        return self.high > self.low


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one network's top-1.

    Args:
        name: the network.
        anchor: id of its part of the page, or the empty string.
        macs: multiply-adds for one 224x224 image.
        published: in per cent, or ``None``.
        measured: one a file.
    """

    name: str
    anchor: str
    macs: int
    published: float | None
    measured: tuple[Share, ...]

    def below(self, axis: Axis) -> str:
        """What is written beside the arrow that stands for what lies below an axis; nothing, if nothing does."""
        labels = [f"{share.value:.2f}" for share in self.measured if share.value < axis.low]
        return labels[0] if len(set(labels)) == 1 else f"{len(labels)} files" if labels else ""


@dataclass(frozen=True, slots=True)
class AccuracyChart:
    """Accuracies of networks, cheapest first, on one axis."""

    axis: Axis
    networks: tuple[Standing, ...]

    @property
    def has_intervals(self) -> bool:
        """Whether any measurement is a sample."""
        return any(share.is_sample for network in self.networks for share in network.measured)


def accuracy_chart(networks: Iterable[Standing]) -> AccuracyChart:
    """The chart. Its axis follows published accuracies and what lies near them, so that one far off hides nothing."""
    shown = sorted((each for each in networks if each.published is not None or each.measured), key=lambda n: n.macs)
    published = [each.published for each in shown if each.published is not None]
    measured = [share.value for each in shown for share in each.measured]
    low, high = min(published or measured, default=0.0), max(published or measured, default=100.0)
    span = max(high - low, _LEAST_SPAN)
    near = [value for value in measured if low - span / 2 <= value <= high + span / 2]
    low, high = min([low, *near]), max([high, *near])
    margin = max(_MARGIN * (high - low), (_LEAST_SPAN - (high - low)) / 2)
    begin = _GUTTER if any(value < low for value in measured) else 0.0
    return AccuracyChart(Axis(low - margin, high + margin, begin), tuple(shown))


@dataclass(frozen=True, slots=True)
class ClaimLane:
    """A published accuracy and how far it is from what was measured.

    Args:
        label: what is claimed.
        source: who claims it.
        at: where the interval of images that the printed digits stand for begins.
        width: how wide it is.
        difference: measured minus published, in words.
        verdict: what came of it.
        says: the exact numbers.
    """

    label: str
    source: str
    at: float
    width: float
    difference: str
    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class ClaimStrip:
    """Published accuracies of one network around what was measured, in images.

    Args:
        reach: images from the middle to either end.
        lanes: one a published number.
    """

    reach: int
    lanes: tuple[ClaimLane, ...]


def claim_strip(result: CheckpointResult) -> ClaimStrip | None:
    """The strip; ``None`` where no accuracy was measured that anybody has published."""
    claims = [(check, *off) for check in result.checks if (off := _images_off(check, result)) is not None]
    if not claims:
        return None
    reach = max(_NOISE + 5, *(abs(end) for _, *ends in claims for end in ends)) * 1.08
    axis = Axis(-reach, reach)
    return ClaimStrip(round(reach), tuple(_claim_lane(check, result, low, high, axis) for check, low, high in claims))


def _images_off(check: Check, result: CheckpointResult) -> tuple[float, float] | None:
    """By how many images more than were right the printed digits stand for, at the least and at the most."""
    images = images_behind(check, result)
    if not is_accuracy(check) or check.published is None or check.measured is None or not images:
        return None
    interval = printed_interval(claim_of(check))
    whole = images_of(claim_of(check))
    return interval.first * images / whole - check.measured, interval.last * images / whole - check.measured


def _claim_lane(check: Check, result: CheckpointResult, low: float, high: float, axis: Axis) -> ClaimLane:
    interval, label = printed_interval(claim_of(check)), LABELS[check.metric]
    at, width = axis.at((low + high) / 2), max(axis.at(high) - axis.at(low), _LEAST_WIDTH)
    return ClaimLane(
        label,
        check.source or "",
        at - width / 2,
        width,
        difference(check, result),
        check.verdict,
        f"{label}, {check.source}: {check.published} {check.unit} stands for {interval.first:,} to {interval.last:,} "
        f"images; {check.measured:,} of {images_behind(check, result):,} are right",
    )


def class_counts(shares: Iterable[float]) -> tuple[int, ...]:
    """How many classes have which share of their images right: one number for every five per cent.

    Args:
        shares: by class, in per cent.
    """
    bins = Counter(min(int(share * _BINS / 100), _BINS - 1) for share in shares)
    return tuple(bins[index] for index in range(_BINS))


@dataclass(frozen=True, slots=True)
class Bar:
    """A BatchNorm's bar: from where, how wide, its top and height, its exact numbers, and whether it disagrees."""

    at: float
    width: float
    top: float
    height: float
    says: str
    alarm: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A layer's output: its place, its height, its exact numbers, and whether it differs."""

    at: float
    height: float
    says: str
    alarm: bool


@dataclass(frozen=True, slots=True)
class LayerChart:
    """One mark a layer, in network order.

    Args:
        bars: what is drawn as a bar.
        points: what is drawn as a point.
        stages: where the name of a stage goes.
        borders: where a stage begins.
        tolerance: height of what counts as equal.
        ticks: heights with labels.
    """

    bars: tuple[Bar, ...]
    points: tuple[Point, ...]
    stages: tuple[Tick, ...]
    borders: tuple[float, ...]
    tolerance: float = 0.0
    ticks: tuple[Tick, ...] = ()


def wiring_chart(wiring: WiringResult) -> LayerChart:
    """Two bars a BatchNorm: upwards by how much means are off, downwards by how much variances are."""
    count = max(1, len(wiring.layers))
    bars = []
    for index, layer in enumerate(wiring.layers):
        up, down = (round(50 * _cut(value) / _FULL_SCALE, 2) for value in (layer.mean_shift, layer.log_variance))
        at, width = round(100 * index / count, 2), round(80 / count, 2)
        bars.append(Bar(at, width, round(50 - up, 1), round(up + down, 1), _wiring_words(layer), layer.suspect))
    return LayerChart(tuple(bars), (), *_stages([layer.name for layer in wiring.layers]))


def _wiring_words(layer: LayerWiring) -> str:
    means, variances = (
        "not a number" if value is None else f"{value:.2f}" for value in (layer.mean_shift, layer.log_variance)
    )
    return f"{short_name(layer.name)}: {means}, {variances}" + (": disagrees" if layer.suspect else "")


def _cut(value: float | None) -> float:
    """The height of a bar; what was no number is as bad as can be shown."""
    return _FULL_SCALE if value is None else min(abs(value), _FULL_SCALE)


def parity_chart(outputs: ActivationComparison) -> LayerChart:
    """One point a layer: by which share of its largest value two implementations' outputs differ."""
    count = max(1, len(outputs.by_layer))
    points = tuple(
        Point(
            round(100 * (index + 0.5) / count, 1),
            _height(_WORST if layer.relative is None else layer.relative),
            f"{short_name(layer.name)}: {_parity_words(layer)}",
            layer.differs,
        )
        for index, layer in enumerate(outputs.by_layer)
    )
    stages, borders = _stages([layer.name for layer in outputs.by_layer])
    ticks = ((_EXACT, "same"), (1e-12, "10⁻¹²"), (1e-6, "10⁻⁶"), (1.0, "1"))
    heights = tuple(Tick(_height(value), label) for value, label in ticks)
    return LayerChart((), points, stages, borders, _height(TOLERANCE), heights)


def _parity_words(layer: OutputDifference) -> str:
    if layer.relative is None or layer.max_abs_diff is None:
        return "not comparable"
    if not layer.relative:
        return "the same"
    return f"{layer.relative:.1e}"


def _height(share: float) -> float:
    low, high = log10(_EXACT), log10(_WORST)
    value = log10(min(max(share, _EXACT), _WORST))
    return round(100 - 100 * (value - low) / (high - low), 1)


def _stages(names: Sequence[str]) -> tuple[tuple[Tick, ...], tuple[float, ...]]:
    """Where names of stages go, and where stages begin."""
    begin, labels, borders = 0, [], []
    for stage, members in groupby(names, key=_stage):
        size = len(list(members))
        if begin:
            borders.append(round(100 * begin / len(names), 2))
        if 100 * size / len(names) >= _LEAST_STAGE:
            labels.append(Tick(round(100 * (begin + size / 2) / len(names), 2), stage))
        begin += size
    return tuple(labels), tuple(borders)


def _stage(name: str) -> str:
    first = short_name(name).partition(".")[0]
    return first if first[-1:].isdigit() and first.startswith(("layer", "level")) else "stem"
