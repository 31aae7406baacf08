"""Where the marks of the page's charts go, as shares of a chart's width and height; the template draws them.

A chart is as wide as the page lets it be: places are in per cent, and everything that is read is text of the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from math import floor, log10

from r2convert.catalog import Catalog, Variant
from r2convert.catalog.printed import images_of, printed_interval
from r2convert.catalog.variant import IMAGENET_IMAGES
from r2convert.checks.claims import claim_check
from r2convert.checks.counting import count_operations
from r2convert.evaluation.statistics import accuracy_interval
from r2convert.report.differences import (
    claim_of,
    difference,
    imagenet_operations,
    images_behind,
    is_accuracy,
    known_variant,
    network_name,
    published_value,
    short_name,
)
from r2convert.results.verdicts import LABELS, Check
from r2convert.results.verification import (
    Accuracy,
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
"""Least span of an axis of accuracies, in per cent of the images."""
_NOISE = 25
"""Images that another decoder or device can account for: the least that a strip shows, however near a claim is."""
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
        measured: one per file.
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


def overview_chart(results: Sequence[tuple[str, CheckpointResult]], catalog: Catalog) -> AccuracyChart | None:
    """Every network of the catalogue and whatever was measured; ``None`` if nothing was.

    Args:
        results: each with the id of its part of the page.
        catalog: what is published about the networks.
    """
    if not any(result.accuracy for _, result in results):
        return None
    variants = dict.fromkeys([*(result.variant for _, result in results), *catalog.variants])
    standings = (_standing(each, [pair for pair in results if pair[1].variant == each], catalog) for each in variants)
    return accuracy_chart(standing for standing in standings if standing is not None)


def _standing(variant: str, results: Sequence[tuple[str, CheckpointResult]], catalog: Catalog) -> Standing | None:
    known = known_variant(variant, catalog)
    claims = known.claims_on("top1") if known else ()
    counted = [operations.macs for _, result in results if (operations := imagenet_operations(result))]
    macs = _reference_macs(known) if known else next(iter(counted), None)
    if macs is None:
        return None
    return Standing(
        network_name(variant, catalog),
        results[0][0] if results else "",
        macs,
        float(published_value(claim_check(claims[0], "not-comparable", None))) if claims else None,
        tuple(_measured_share(result.accuracy) for _, result in results if result.accuracy is not None),
    )


@cache
def _reference_macs(variant: Variant) -> int:
    """Multiply-adds of the reference network: counted the same way for measured networks and for others."""
    return count_operations(variant).macs


def _measured_share(accuracy: Accuracy) -> Share:
    share = 100 * accuracy.top1_correct / accuracy.images
    if accuracy.images >= IMAGENET_IMAGES:
        return Share(share, share, share)
    low, high = accuracy_interval(accuracy.top1_correct, accuracy.images)
    return Share(share, 100 * low, 100 * high)


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
        check: its outcome.
        at: where the interval of images that the printed digits stand for begins.
        width: how wide it is.
        difference: measured minus published, in words.
        says: the exact numbers.
    """

    check: Check
    at: float
    width: float
    difference: str
    says: str


@dataclass(frozen=True, slots=True)
class ClaimStrip:
    """Published accuracies of one network around what was measured; from the middle to either end, ``reach`` images."""

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
    claim = claim_of(check)
    interval, whole = printed_interval(claim), images_of(claim)
    return interval.first * images / whole - check.measured, interval.last * images / whole - check.measured


def _claim_lane(check: Check, result: CheckpointResult, low: float, high: float, axis: Axis) -> ClaimLane:
    interval = printed_interval(claim_of(check))
    width = max(axis.at(high) - axis.at(low), _LEAST_WIDTH)
    return ClaimLane(
        check,
        axis.at((low + high) / 2) - width / 2,
        width,
        difference(check, result),
        f"{LABELS[check.metric]}, {check.source}: {check.published} {check.unit} stands for {interval.first:,} to "
        f"{interval.last:,} images; {check.measured:,} of {images_behind(check, result):,} are right",
    )


def class_counts(shares: Iterable[float]) -> tuple[int, ...]:
    """How many classes have which share of their images right: one number for every five per cent.

    Args:
        shares: by class, in per cent.
    """
    bins = Counter(min(int(share * _BINS / 100), _BINS - 1) for share in shares)
    return tuple(bins[index] for index in range(_BINS))


@dataclass(frozen=True, slots=True)
class Mark:
    """What is drawn for a layer, with its exact numbers; a point has neither width nor height."""

    at: float
    top: float
    says: str
    alarm: bool
    width: float = 0.0
    height: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerChart:
    """One mark per layer, in network order, over the names of stages and the places where they begin."""

    marks: tuple[Mark, ...]
    stages: tuple[Tick, ...]
    borders: tuple[float, ...]


def wiring_chart(wiring: WiringResult) -> LayerChart:
    """One bar per BatchNorm: upwards by how much means are off, downwards by how much variances are."""
    count = max(1, len(wiring.layers))
    bars = []
    for index, layer in enumerate(wiring.layers):
        up, down = (round(50 * _cut(value) / _FULL_SCALE, 2) for value in (layer.mean_shift, layer.log_variance))
        at, width = round(100 * index / count, 2), round(80 / count, 2)
        bars.append(Mark(at, round(50 - up, 1), _wiring_words(layer), layer.suspect, width, round(up + down, 1)))
    return LayerChart(tuple(bars), *_stages([layer.name for layer in wiring.layers]))


def _wiring_words(layer: LayerWiring) -> str:
    means, variances = (
        "not a number" if value is None else f"{value:.2f}" for value in (layer.mean_shift, layer.log_variance)
    )
    return f"{short_name(layer.name)}: {means}, {variances}" + (": disagrees" if layer.suspect else "")


def _cut(value: float | None) -> float:
    """The height of a bar; NaN is drawn as the worst."""
    return _FULL_SCALE if value is None else min(abs(value), _FULL_SCALE)


def parity_chart(outputs: ActivationComparison) -> LayerChart:
    """One point per layer: by which share of its largest value two implementations' outputs differ."""
    count = max(1, len(outputs.by_layer))
    points = tuple(
        Mark(
            round(100 * (index + 0.5) / count, 1),
            parity_height(_WORST if layer.relative is None else layer.relative),
            f"{short_name(layer.name)}: {_parity_words(layer)}",
            layer.differs,
        )
        for index, layer in enumerate(outputs.by_layer)
    )
    return LayerChart(points, *_stages([layer.name for layer in outputs.by_layer]))


def _parity_words(layer: OutputDifference) -> str:
    if layer.relative is None or layer.max_abs_diff is None:
        return "not comparable"
    if not layer.relative:
        return "the same"
    return f"{layer.relative:.1e}"


def parity_height(share: float) -> float:
    """Where a share of the largest value goes, in per cent from the top."""
    low, high = log10(_EXACT), log10(_WORST)
    value = log10(min(max(share, _EXACT), _WORST))
    return round(100 - 100 * (value - low) / (high - low), 1)


PARITY_TICKS = ((_EXACT, "same"), (1e-12, "10⁻¹²"), (1e-6, "10⁻⁶"), (1.0, "1"))
"""Shares of the largest value that the scale is labelled at."""


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
