"""Published numbers as a reader compares them."""

from __future__ import annotations

from decimal import Decimal


def readable(printed: str, unit: str) -> str:
    """A printed number with its unit; error rates are turned into accuracy, fractions into percent.

    >>> readable("21.86", "error %"), readable("0.8513", "fraction"), readable("25.06", "M")
    ('78.14 %', '85.13 %', '25.06 M')
    """
    if unit == "error %":
        return f"{100 - Decimal(printed)} %"
    if unit == "fraction":
        return f"{(Decimal(printed) * 100).normalize()} %"
    return f"{printed} {unit}"
