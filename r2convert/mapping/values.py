"""The search through a file's values for what no trained network has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from r2convert.checkpoint.elements import decode
from r2convert.checkpoint.open import Checkpoint
from r2convert.mapping.identity import Resolution
from r2convert.mapping.tables import Slot

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def value_problems(checkpoint: Checkpoint, resolution: Resolution | None) -> list[str]:
    """Look at every floating-point value of a file.

    Args:
        checkpoint: the open file.
        resolution: what it is, if known; an unknown file is searched for NaN and infinities only.

    Returns:
        One line a tensor that something is wrong with.

    Raises:
        CheckpointError: the file's bytes are damaged.
    """
    slots = resolution.expansion.names(resolution.identity.layout) if resolution else {}
    problems = []
    for name, tensor in checkpoint.tensors.items():
        if tensor.dtype.is_floating:
            problem = _problem(slots.get(name), decode(checkpoint.array(tensor), tensor.dtype))
            if problem:
                problems.append(f"{name} {problem}")
    return problems


def _problem(slot: Slot | None, values: Array) -> str | None:
    import numpy as np

    finite = np.isfinite(values)
    if not finite.all():
        return f"has {int((~finite).sum()):,} values that are NaN or infinite"
    if slot is None:
        return None
    if slot.role == "bn.running_var" and (values < 0).any():
        return f"has {int((values < 0).sum()):,} negative variances"
    # A layer that nothing reads is filled with zeros by declaration.
    if slot.role == "conv.weight" and slot.canonical is not None and not values.any():
        return "is all zeros"
    return None
