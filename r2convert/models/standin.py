"""Weights for a stand-in: drawn from a tensor's name, the same on every machine, and no training behind them.

The draw is a recipe that others can follow, so that two implementations can be filled alike and their logits
compared; the golden logits in ``tests/data/golden`` were made with it.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np


def standin_values(
    name: str, role: str, shape: tuple[int, ...], *, transposed: bool = False, seed: int = 0
) -> np.ndarray[Any, Any]:
    """Draw one tensor.

    Weights are scaled by the square root of their fan-in, so that activations neither vanish nor explode.

    Args:
        name: its name in its file's layout; the draw depends on it.
        role: what it is, e.g. ``conv.weight``, ``bn.running_var``.
        shape: its shape in its file's layout.
        transposed: whether a linear weight is stored as (in, out).
        seed: another seed gives another network.

    Returns:
        float64 values; for a counter of training batches, an int64 scalar.
    """
    if role == "bn.num_batches_tracked":
        return np.array(1000 + seed, dtype=np.int64)
    generator = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    values: np.ndarray[Any, Any] = np.asarray(generator.standard_normal(shape))
    if role == "bn.running_var":
        return np.asarray(1 + 0.1 * np.abs(values))
    if role == "bn.weight":
        return np.asarray(1 + 0.1 * values)
    if role in ("conv.weight", "linear.weight"):
        fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
        return np.asarray(values * np.sqrt(1 / fan_in))
    return np.asarray(0.1 * values)
