"""Images to compare networks on, and how far two sets of logits are apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

Logits = Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]

# Height and width. The evaluation size, and sizes at which rounding in strides and pools would show.
SIZES = ((224, 224), (193, 225), (96, 160))
# DLA's trees add maps of two strides, which fit only where every stride divides the size.
DLA_SIZES = ((224, 224), (192, 256), (96, 160))


def write_images(path: Path, sizes: tuple[tuple[int, int], ...]) -> Path:
    """Write one drawn float64 image (1, 3, H, W) of each size, which stands for a normalised crop."""
    generator = np.random.default_rng(0)
    drawn = {f"{height}x{width}": generator.standard_normal((1, 3, height, width)) for height, width in sizes}
    np.savez(path, allow_pickle=False, **drawn)
    return path


def read_logits(path: Path) -> Logits:
    """Size -> logits (N, 1000), as a peer wrote them."""
    with np.load(path) as found:
        return {size: found[size] for size in found.files}


def difference(measured: Logits, expected: Logits) -> float:
    """The largest difference of any logit, relative to the largest logit of its size.

    Raises:
        AssertionError: other sizes or shapes, or logits that say nothing: not finite, or all alike.
    """
    assert measured.keys() == expected.keys()
    worst = 0.0
    for size, logits in expected.items():
        assert measured[size].shape == logits.shape
        assert np.isfinite(logits).all()
        assert logits.std() > 0.01
        worst = max(worst, float(np.abs(measured[size] - logits).max() / np.abs(logits).max()))
    return worst
