"""One pass over a file's values: the network's content hash, and a search for values that no trained network has."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from r2convert.checkpoint.digests import DigestedTensor, network_hash
from r2convert.checkpoint.elements import DType, counted, decode, may_be_not_finite
from r2convert.checkpoint.open import Checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.mapping.identity import Resolution
from r2convert.mapping.plan import canonical_plan, dtype_problems, target_tensor
from r2convert.mapping.tables import Slot

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def read_values(checkpoint: Checkpoint, resolution: Resolution | None) -> tuple[str, list[str]]:
    """Read every tensor once.

    Args:
        checkpoint: the open file.
        resolution: what it is, if known; an unknown file is digested under its own names, and searched for NaN and
            infinities only.

    Returns:
        The content hash of the network, the same in every container and layout (batch counters and unused tensors are
        left out), and the problems with the values, one per line.

    Raises:
        CheckpointError: the file's bytes are damaged.
    """
    slots = resolution.expansion.names(resolution.identity.layout) if resolution else {}
    content = network_tensors(checkpoint, resolution)
    digested, problems = [], []
    for name, tensor in checkpoint.tensors.items():
        slot, named = slots.get(name), content.get(name)
        if named is None and (not tensor.dtype.is_floating or (slot is not None and slot.is_counter)):
            continue
        digest, is_suspect = hashlib.sha256(), False
        for chunk in checkpoint.chunks(named or tensor):
            digest.update(chunk)
            is_suspect = is_suspect or (tensor.dtype.is_floating and _is_suspect(chunk, tensor.dtype, slot))
        if named is not None:
            digested.append(DigestedTensor(named.name, named.dtype, named.shape, digest.digest()))
        problem = _problem(slot, decode(checkpoint.array(tensor), tensor.dtype)) if is_suspect else None
        if problem:
            problems.append(f"{name}: {problem}")
    problems += dtype_problems({name: slot for name, slot in slots.items() if not slot.is_counter}, checkpoint.tensors)
    return network_hash(digested), problems


def network_tensors(checkpoint: Checkpoint, resolution: Resolution | None) -> dict[str, TensorInfo]:
    """Name in the file -> tensor under its ``mm`` name, for the tensors by which a network is hashed and compared.

    For an unknown file, all tensors under their own names.
    """
    if resolution is None:
        return dict(checkpoint.tensors)
    plan = canonical_plan(resolution.expansion, resolution.identity.layout, checkpoint.tensors)
    return {
        row.source: target_tensor(plan, row, checkpoint.tensors[row.source])
        for row in plan.rows_of("rename")
        if row.source is not None and not row.slot.is_counter
    }


def _is_suspect(chunk: memoryview | bytes, dtype: DType, slot: Slot | None) -> bool:
    """Whether NumPy must check a tensor: importing it takes longer than scanning a whole file like this."""
    if may_be_not_finite(chunk, dtype):
        return True
    if slot is not None and slot.role == "bn.running_var":
        return max(bytes(chunk)[dtype.itemsize - 1 :: dtype.itemsize]) >= 0x80  # the sign is the top byte's highest bit
    return slot is not None and slot.role == "conv.weight" and not bytes(chunk[:16]).strip(b"\0\x80")


def _problem(slot: Slot | None, values: Array) -> str | None:
    import numpy as np

    finite = np.isfinite(values)
    if not finite.all():
        return f"{counted(int((~finite).sum()))} NaN or infinite"
    if slot is None:
        return None
    if slot.role == "bn.running_var" and (values < 0).any():
        return f"{counted(int((values < 0).sum()), 'variance')} negative"
    # An unused layer is filled with zeros, as its table says.
    if slot.role == "conv.weight" and slot.canonical is not None and not values.any():
        return "every value is zero"
    return None
