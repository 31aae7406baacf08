"""Published against measured: one number each, and what lies between them, in words a reader can check."""

from __future__ import annotations

from decimal import Decimal
from pathlib import PurePosixPath, PureWindowsPath
from typing import cast

from r2convert.catalog import Catalog, Variant
from r2convert.catalog.catalog import normalise
from r2convert.catalog.printed import SCALE, images_of, printed_interval
from r2convert.catalog.variant import Claim, Unit
from r2convert.catalog.variant import Metric as Published
from r2convert.results.verdicts import ACCURACIES, COUNTED, LABELS, Check, leading_check
from r2convert.results.verification import IMAGENET_INPUT, CheckpointResult, Operations, Speed, UncheckedFile, number

SPEED = ("images/s", "ms a batch", "batch", "busy", "peak, GiB")
"""Columns of the speed table."""
_FOUR_DIGITS = 1000


def known_variant(variant: str, catalog: Catalog) -> Variant | None:
    """The variant of this id, or ``None`` if results are about one that this catalogue does not have."""
    known = catalog.names.get(normalise(variant))
    return catalog.variants[known[0]] if known else None


def network_name(variant: str, catalog: Catalog) -> str:
    """A network's name as the official table prints it, or its id."""
    known = known_variant(variant, catalog)
    return known.name if known else variant


def file_name(result: CheckpointResult | UncheckedFile) -> str:
    """The last part of a checkpoint's path, wherever it was verified."""
    if result.checkpoint is None:
        return "the reference network itself"
    windows = PureWindowsPath(result.checkpoint)
    return windows.name if windows.is_absolute() else PurePosixPath(result.checkpoint).name


def short_name(layer: str) -> str:
    """A layer's name without what all of them begin with."""
    return layer.removeprefix("backbone.")


def imagenet_operations(result: CheckpointResult) -> Operations | None:
    """What the network costs for one 224x224 image; ``None`` if operations were counted for another size."""
    operations = result.operations
    return operations if operations is not None and operations.input_size == IMAGENET_INPUT else None


def published_value(check: Check) -> Decimal:
    """The printed number; accuracies in per cent of images that are right, however they were printed."""
    printed = Decimal(check.published or "0")
    if check.unit == "error %":
        return 100 - printed
    return printed.scaleb(2) if check.unit == "fraction" else printed


def published_top1(result: CheckpointResult) -> float | None:
    """In per cent."""
    check = leading_check(result.checks, "top1")
    return float(published_value(check)) if check is not None else None


def is_accuracy(check: Check) -> bool:
    """Whether a check is about images."""
    return check.metric in ACCURACIES


def images_behind(check: Check, result: CheckpointResult) -> int:
    """How many images an accuracy was measured on; 0 if none."""
    if result.accuracy is None:
        return 0
    return result.accuracy.real_images if check.metric.startswith("real") else result.accuracy.images


def check_label(check: Check) -> str:
    """What is checked, with the convention it is counted in."""
    return LABELS[check.metric] + (f" ({check.convention})" if check.convention else "")


def measured_count(check: Check, result: CheckpointResult) -> str:
    """What was measured, as a count of what it is; the empty string if nothing was."""
    if check.measured is None:
        return ""
    if is_accuracy(check):
        return f"{check.measured:,} of {images_behind(check, result):,}"
    return f"{check.measured:,} {COUNTED.get(check.metric, '')}".rstrip()


def measured_value(check: Check, result: CheckpointResult) -> str:
    """What was measured, in the printed unit; ``-`` if nothing was.

    It has two decimals, or for accuracies as many as were printed: a third one of a size is a zero put behind it.
    """
    if check.measured is None:
        return "-"
    if check.unit in SCALE:
        return f"{check.measured / SCALE[check.unit]:.2f}"
    decimals = max(2, -int(published_value(check).as_tuple().exponent))
    images = images_behind(check, result)
    return f"{100 * Decimal(check.measured) / images:.{decimals}f}" if images else "-"


def difference(check: Check, result: CheckpointResult) -> str:
    """Measured minus published: for accuracies in images, for counts in per cent unless they round to what is printed.

    On a part of the validation set, the published accuracy is taken as a share of the images that were shown.
    """
    if check.measured is None or check.published is None:
        return ""
    if not is_accuracy(check):
        return _count_difference(check, check.measured)
    images = images_behind(check, result)
    if not images:
        return ""
    off = check.measured - published_value(check) / 100 * images
    whole = images == images_of(claim_of(check))
    # Of all images the printed digits stand for a whole number of them, or half an image more.
    shown = f"{off:+,.0f}" if whole else f"{off:+,.1f}"
    number = shown if Decimal(shown.replace(",", "")) else shown.lstrip("+-")
    return f"{number} image" + ("" if number.lstrip("+-") == "1" else "s")


def _count_difference(check: Check, measured: int) -> str:
    if measured in printed_interval(claim_of(check)):
        return "matches as printed"
    printed = published_value(check) * SCALE.get(check.unit or "", Decimal(1))
    if not printed:
        return f"+{measured:,}"
    return f"{100 * (measured - printed) / printed:+.2f} %"


def claim_of(check: Check) -> Claim:
    """The claim a check speaks of, as far as its interval depends on it.

    Readers of results files let published metrics and units through only; whoever measures starts from a claim.
    """
    metric, unit = cast("Published", check.metric), cast("Unit", check.unit)
    return Claim("", "official", metric, check.published or "0", unit, dataset=check.dataset or "imagenet")


def speed_cells(speed: Speed) -> tuple[str, ...]:
    """What a run tells of one network, a word under each of :data:`SPEED`; empty where the system did not say it."""
    rate, batch = number(speed.images_per_second), number(speed.batch_milliseconds)
    return (
        f"{rate:,.{0 if rate >= _FOUR_DIGITS else 1}f}",
        f"{batch:,.{0 if batch >= _FOUR_DIGITS else 1}f}",
        str(speed.batch_size),
        f"{100 * number(speed.busy):.0f} %",
        f"{speed.peak_bytes / 2**30:.2f}" if speed.peak_bytes else "",
    )
