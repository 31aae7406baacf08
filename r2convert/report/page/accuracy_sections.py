"""What the page says of accuracies: the chart over all networks, and each network's classes and confusions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from r2convert.catalog import Catalog, Variant
from r2convert.catalog.variant import IMAGENET_IMAGES
from r2convert.checks.claims import claim_check
from r2convert.checks.counting import count_operations
from r2convert.evaluation.statistics import accuracy_interval
from r2convert.imagenet.labels import class_index_by_synset, class_names
from r2convert.report.differences import imagenet_operations, known_variant, network_name, published_value
from r2convert.report.page.accuracy_chart import MeasuredPoint, NetworkPoints, accuracy_chart
from r2convert.report.page.class_chart import class_chart
from r2convert.report.page.drawing import Chart
from r2convert.report.page.thumbnails import Thumbnails
from r2convert.results.verdicts import Check, leading_check
from r2convert.results.verification import Accuracy, CheckpointResult, Confusion

_WORST_CLASSES = 10
_CONFUSIONS = 8


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: its name, images that are right, of how many, and the share in per cent."""

    name: str
    right: int
    images: int
    share: float


@dataclass(frozen=True, slots=True)
class Picture:
    """One image that was confused: its id, and itself as a ``data:`` address if it is at hand."""

    name: str
    data_uri: str | None


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """A pair of classes: what is shown, what it was taken for, how often, and pictures of it."""

    label: str
    predicted: str
    count: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class ClassSection:
    """One network's classes.

    Args:
        chart: all of them; ``None`` if the results do not list them.
        published: published top-1 in per cent.
        worst: the worst ones.
        confusions: the most frequent ones.
        has_pictures: whether any image is at hand.
    """

    chart: Chart | None
    published: float | None
    worst: tuple[ClassRow, ...]
    confusions: tuple[ConfusionRow, ...]
    has_pictures: bool


def overview_chart(results: Sequence[CheckpointResult], catalog: Catalog) -> Chart:
    """Every network of the catalogue, and whatever was measured."""
    variants = dict.fromkeys([*catalog.variants, *(result.variant for result in results)])
    points = (_points(variant, [each for each in results if each.variant == variant], catalog) for variant in variants)
    return accuracy_chart([point for point in points if point is not None])


def class_section(key: str, result: CheckpointResult, catalog: Catalog, thumbnails: Thumbnails) -> ClassSection | None:
    """What is known of a network's classes; ``None`` if nothing was measured on images."""
    if result.accuracy is None:
        return None
    counts = result.accuracy.per_class
    published = _published(leading_check(result.checks, "top1"))
    shares = {name: 100 * right / images for name, (images, right) in counts.items()}
    # Of equally bad classes the one with more images says more.
    worst = sorted(counts, key=lambda name: (shares[name], -counts[name][0], name))[:_WORST_CLASSES]
    confusions = tuple(_confusion_row(each, thumbnails) for each in result.accuracy.confusions[:_CONFUSIONS])
    name = network_name(result.variant, catalog)
    return ClassSection(
        chart=class_chart(key, name, list(shares.values()), published) if shares else None,
        published=published,
        worst=tuple(ClassRow(class_name(each), counts[each][1], counts[each][0], shares[each]) for each in worst),
        confusions=confusions,
        has_pictures=any(picture.data_uri for row in confusions for picture in row.pictures),
    )


def class_name(synset: str) -> str:
    """A class as people call it, or the WordNet id of one that is not in ImageNet-1k."""
    index = class_index_by_synset().get(synset)
    return synset if index is None else class_names()[index]


def _points(variant: str, results: Iterable[CheckpointResult], catalog: Catalog) -> NetworkPoints | None:
    known = known_variant(variant, catalog)
    claims = known.claims_on("top1") if known else ()
    macs = _reference_macs(known) if known else _counted_macs(results)
    if macs is None:
        return None
    return NetworkPoints(
        network_name(variant, catalog),
        macs,
        _published(claim_check(claims[0], "not-comparable", None)) if claims else None,
        tuple(_measured_point(result.accuracy) for result in results if result.accuracy is not None),
    )


def _counted_macs(results: Iterable[CheckpointResult]) -> int | None:
    counted = (imagenet_operations(each) for each in results)
    return next((operations.macs for operations in counted if operations), None)


def _measured_point(accuracy: Accuracy) -> MeasuredPoint:
    share = 100 * accuracy.top1_correct / accuracy.images
    if accuracy.images >= IMAGENET_IMAGES:
        return MeasuredPoint(share, share, share)
    low, high = accuracy_interval(accuracy.top1_correct, accuracy.images)
    return MeasuredPoint(share, 100 * low, 100 * high)


def _published(check: Check | None) -> float | None:
    return float(published_value(check)) if check is not None else None


@cache
def _reference_macs(variant: Variant) -> int:
    """Multiply-adds of the reference network: counted the same way for measured networks and for others."""
    return count_operations(variant).macs


def _confusion_row(confusion: Confusion, thumbnails: Thumbnails) -> ConfusionRow:
    pictures = tuple(Picture(name, thumbnails.data_uri(name)) for name in confusion.images)
    return ConfusionRow(class_name(confusion.label), class_name(confusion.predicted), confusion.count, pictures)
