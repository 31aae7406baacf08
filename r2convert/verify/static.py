"""What can be said of a file without running it: names, shapes, values, parameters, FLOPs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from r2convert.checkpoint.dtypes import DType
from r2convert.checkpoint.reading import Checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.mapping.expansion import Expansion, Slot
from r2convert.mapping.identification import differ
from r2convert.mapping.resolution import Resolution, shapes_of
from r2convert.verify.checks import Check
from r2convert.verify.published import PublishedNumbers

_SHOWN = 3


def reference_checks(expansion: Expansion) -> list[Check]:
    """Check the reference network itself, without any file, against what was published."""
    return PublishedNumbers(expansion).checks()


def file_checks(checkpoint: Checkpoint, resolution: Resolution) -> list[Check]:
    """Check a file: names, shapes, values, then its counts against what was published.

    Raises:
        CheckpointError: the file's bytes are damaged.
    """
    slots = resolution.expansion.names(resolution.identity.layout)
    stored = {slot.key: checkpoint.tensors[name].elements for name, slot in slots.items() if name in checkpoint.tensors}
    return [
        *_structure_checks(checkpoint, resolution),
        _value_check(checkpoint, slots),
        *PublishedNumbers(resolution.expansion, stored).checks(),
    ]


def _structure_checks(checkpoint: Checkpoint, resolution: Resolution) -> Iterator[Check]:
    identity = resolution.identity
    difference = differ(
        resolution.expansion, identity.layout, shapes_of(checkpoint), classifier=identity.has_classifier
    )
    counters = sum(
        slot.is_counter and name not in checkpoint.tensors
        for name, slot in resolution.expansion.names(identity.layout).items()
    )
    notes = []
    if counters:
        notes.append(f"{counters} counters of training batches are missing, which evaluation does not read")
    if not identity.has_classifier:
        notes.append("a backbone: it has no classifier")
    wrong_names = len(difference.missing) + len(difference.unexpected)
    yield Check(
        "names",
        "fail" if wrong_names else "pass",
        measured=len(checkpoint.tensors),
        note="; ".join([*difference.lines(), *notes] if wrong_names else notes),
    )
    yield Check(
        "shapes",
        "fail" if difference.reshaped else "pass",
        measured=len(checkpoint.tensors) - len(difference.reshaped),
        note="; ".join(difference.lines()) if difference.reshaped else "",
    )


def _value_check(checkpoint: Checkpoint, slots: dict[str, Slot]) -> Check:
    problems = []
    checked = 0
    for name, tensor in checkpoint.tensors.items():
        if name in slots and tensor.dtype.is_floating:
            checked += 1
            problem = _value_problem(slots[name], _values(checkpoint, tensor))
            if problem:
                problems.append(f"{name} {problem}")
    more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Check("values", "fail" if problems else "pass", measured=checked, note="; ".join(problems[:_SHOWN]) + more)


def _values(checkpoint: Checkpoint, tensor: TensorInfo) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
    array = checkpoint.array(tensor)
    if tensor.dtype is DType.BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _value_problem(slot: Slot, values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> str | None:
    """What no trained tensor has: values that are not finite, variances below 0, a convolution of zeros."""
    if not np.isfinite(values).all():
        return f"has {int((~np.isfinite(values)).sum()):,} values that are NaN or infinite"
    if slot.role == "bn.running_var" and (values < 0).any():
        return f"has {int((values < 0).sum()):,} negative variances"
    # A layer that nothing reads is filled with zeros by declaration.
    if slot.role == "conv.weight" and slot.canonical is not None and not values.any():
        return "is all zeros"
    return None
