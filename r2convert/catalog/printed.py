"""Published numbers as a reader compares them, and the interval of whole numbers that each stands for.

"8.12 G" is every count from 8,115,000,000 up to, but not including, 8,125,000,000; "78.14 %" of 50,000 images is
39,068 to 39,072 correct ones.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil

from msgspec import Struct

from r2convert.catalog.variant import DATASETS, Claim

REAL_IMAGES = 46_837
"""Images of the validation set with at least one ReaL label."""

SCALE = {"M": Decimal(10) ** 6, "G": Decimal(10) ** 9}
"""What the units of printed counts stand for."""
_SHARE = {"%": Decimal("0.01"), "error %": Decimal("0.01"), "fraction": Decimal(1)}


class Interval(Struct, frozen=True):
    """The whole numbers from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __contains__(self, value: int) -> bool:
        return self.first <= value <= self.last

    def __str__(self) -> str:
        return f"{self.first:,}..{self.last:,}"

    def distance(self, value: int) -> int:
        """How far a value lies outside: negative below, positive above, 0 inside."""
        return min(value - self.first, 0) + max(value - self.last, 0)


def readable(printed: str, unit: str) -> str:
    """A printed number with its unit; error rates are turned into accuracy, fractions into percent.

    >>> readable("21.86", "error %"), readable("0.9470", "fraction"), readable("25.06", "M")
    ('78.14 %', '94.70 %', '25.06 M')
    """
    if unit == "error %":
        return f"{100 - Decimal(printed)} %"
    if unit == "fraction":
        return f"{Decimal(printed).scaleb(2):f} %"
    return f"{printed} {unit}"


def printed_interval(claim: Claim) -> Interval:
    """The counts a claim stands for, its digits taken as rounded half up.

    Returns:
        Parameters, operations or activations; for accuracies, correct images out of the whole validation set
        (for ReaL, of its labelled images).
    """
    printed, step = _digits(claim)
    return _whole_numbers(claim, printed - step / 2, printed + step / 2)


def deviant_interval(claim: Claim) -> Interval:
    """The counts a claim stands for if its recorded deviation is right: cut digits, appended zeros, a misprint."""
    deviation = claim.deviation
    if deviation is not None and deviation.counted is not None:
        return Interval(deviation.counted, deviation.counted)
    printed, step = _digits(claim, deviation.zeros if deviation else 0)
    if deviation is not None and deviation.rounding == "cut":
        return _whole_numbers(claim, printed, printed + step)
    return _whole_numbers(claim, printed - step / 2, printed + step / 2)


def images_of(claim: Claim) -> int:
    """How many images an accuracy claim is a share of."""
    return REAL_IMAGES if claim.metric.startswith("real") else DATASETS[claim.dataset].images


def _digits(claim: Claim, zeros: int = 0) -> tuple[Decimal, Decimal]:
    """The printed number and the worth of its last digit, not counting appended zeros."""
    printed = Decimal(claim.printed)
    exponent = printed.as_tuple().exponent
    return printed, Decimal(1).scaleb(int(exponent) + zeros)


def _whole_numbers(claim: Claim, low: Decimal, high: Decimal) -> Interval:
    """The whole numbers n with low <= n / unit < high; for an error rate, the correct images that remain."""
    if claim.unit in SCALE:
        return Interval(ceil(low * SCALE[claim.unit]), ceil(high * SCALE[claim.unit]) - 1)
    images = images_of(claim)
    first, last = ceil(low * _SHARE[claim.unit] * images), ceil(high * _SHARE[claim.unit] * images) - 1
    return Interval(images - last, images - first) if claim.unit == "error %" else Interval(first, last)
