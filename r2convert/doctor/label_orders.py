"""The ways in which the classes get counted differently from the order of the sorted WordNet ids."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from r2convert.imagenet.labels import CLASS_COUNT, devkit_order

LabelOrder = Literal[
    "as given", "plus one", "minus one", "into devkit", "out of devkit", "into digits", "out of digits", "one class"
]


def relabelling(order: LabelOrder) -> npt.NDArray[np.int64]:
    """What each class becomes.

    Returns:
        Shape (1000,): at position ``c`` the label that takes the place of ``c``; 1000 or -1 where there is no such
        class.
    """
    classes = np.arange(CLASS_COUNT)
    if order == "plus one":
        return classes + 1
    if order == "minus one":
        return classes - 1
    if order == "one class":
        # What a reader of class folders makes of a folder without any: all that is there is class 0.
        return np.zeros_like(classes)
    if order == "as given":
        return classes
    # Position -> the class that stands there; turned round: class -> position.
    standing = np.array(devkit_order()) if order.endswith("devkit") else _by_digits()
    return standing if order.startswith("out of") else np.argsort(standing)


def _by_digits() -> npt.NDArray[np.int64]:
    """Folders named 0 to 999 as file systems sort them: 0, 1, 10, 100, 101, ..., 11, ..."""
    return np.array(sorted(range(CLASS_COUNT), key=str))
