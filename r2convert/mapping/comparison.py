"""Two checkpoints tensor by tensor, across containers and layouts."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from r2convert.checkpoint.background import Background
from r2convert.checkpoint.digests import DigestedTensor, network_hash, tensor_digest
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.open import Checkpoint
from r2convert.mapping.evidence import clues_of, weigh
from r2convert.mapping.identity import Resolution
from r2convert.mapping.parsing import show_shape
from r2convert.mapping.tables import Tables
from r2convert.mapping.values import network_tensors
from r2convert.results.documents import BothSides, Comparison, DifferingTensor, Identified

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class _Side:
    """One of the two checkpoints, its tensors under the names to compare by.

    Args:
        checkpoint: the open file.
        resolution: what it is; ``None`` to compare by its own names.
    """

    def __init__(self, checkpoint: Checkpoint, resolution: Resolution | None) -> None:
        self.checkpoint = checkpoint
        self.resolution = resolution
        self.tensors = {tensor.name: tensor for tensor in network_tensors(checkpoint, resolution).values()}
        self.digests = {name: tensor_digest(checkpoint.chunks(tensor)) for name, tensor in self.tensors.items()}

    @cached_property
    def content_hash(self) -> str:
        """The content hash of the network."""
        return network_hash(
            DigestedTensor(name, tensor.dtype, tensor.shape, self.digests[name])
            for name, tensor in self.tensors.items()
        )

    def values(self, name: str) -> Array:
        """A tensor's elements as float64, or as integers if they are."""
        import numpy as np

        tensor = self.tensors[name]
        array = self.checkpoint.array(tensor)
        if tensor.dtype is DType.BFLOAT16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float64) if tensor.dtype.is_floating else array.astype(np.int64)


def compare(
    tables: Tables, one: Checkpoint, first: Resolution | None, other: Checkpoint, second: Resolution | None
) -> Comparison:
    """Compare two checkpoints, which are read side by side.

    Args:
        tables: the tables of the catalogue.
        one: an open file.
        first: what it is; ``None`` for both to compare by their own names.
        other: another.
        second: what that is.

    Returns:
        Every difference: swapped and transposed tensors are recognised by their digests.

    Raises:
        CheckpointError: the bytes of one are damaged.
    """
    beside = Background(lambda: _Side(other, second))
    try:
        a = _Side(one, first)
    finally:
        beside.wait()  # before its file is closed
    b = beside.result()
    common = a.tensors.keys() & b.tensors.keys()
    different = [name for name in a.tensors if name in common and not _same(a, b, name)]
    found = [_difference(a, b, name, different) for name in different]
    return Comparison(
        equal=a.content_hash == b.content_hash,
        content_hash=BothSides(a.content_hash, b.content_hash),
        differing=tuple(sorted(found, key=_largest_first)),
        only_in_a=tuple(name for name in a.tensors if name not in common),
        only_in_b=tuple(name for name in b.tensors if name not in common),
        common=len(common),
        identities=(_identified(tables, a), _identified(tables, b)),
    )


def _identified(tables: Tables, side: _Side) -> Identified | None:
    """What a side is, by its content too: a receipt about the same content tells networks with equal names apart."""
    if side.resolution is None:
        return None
    clues = clues_of(side.checkpoint, content_hash=side.content_hash)
    if clues.receipt is not None and clues.receipt.content_hash == side.content_hash:
        clues = replace(clues, sha256=clues.receipt.output_sha256)
    identity = weigh(tables, side.resolution, clues).identity
    return Identified(identity.variant.id, identity.layout)


def _same(a: _Side, b: _Side, name: str) -> bool:
    one, other = a.tensors[name], b.tensors[name]
    return (one.dtype, one.shape, a.digests[name]) == (other.dtype, other.shape, b.digests[name])


def _difference(a: _Side, b: _Side, name: str, different: list[str]) -> DifferingTensor:
    one, other = a.tensors[name], b.tensors[name]
    if one.shape != other.shape:
        return DifferingTensor(name, f"shape {show_shape(one.shape)} against {show_shape(other.shape)}")
    swapped = [
        candidate
        for candidate in different
        if candidate != name and a.digests[name] == b.digests[candidate] and b.tensors[candidate].shape == one.shape
    ]
    largest, mean, transposed = _numbers(a.values(name), b.values(name))
    if swapped:
        reason = f"equals the other's {swapped[0]}: swapped"
    elif transposed:
        reason = "transposed"
    elif one.dtype is not other.dtype:
        reason = f"{one.dtype.value} against {other.dtype.value}"
    else:
        reason = "values" if largest is not None else "values, some of them NaN or infinite"
    return DifferingTensor(name, reason, largest, mean)


def _numbers(one: Array, other: Array) -> tuple[float | None, float | None, bool]:
    """Largest and mean difference, and whether the first two axes were swapped."""
    import numpy as np

    transposed = False
    if one.ndim >= 2 and one.shape[0] == one.shape[1]:
        exchanged = (other.swapaxes(0, 1), other.swapaxes(-1, -2) if one.ndim == 4 else other.swapaxes(0, 1))
        transposed = any(np.array_equal(one, each, equal_nan=False) for each in exchanged)
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other)
    if not difference.size or not np.isfinite(difference).all():
        return None, None, transposed
    return float(difference.max()), float(difference.mean()), transposed


def _largest_first(tensor: DifferingTensor) -> tuple[bool, float]:
    # Tensors that cannot be subtracted differ most.
    return tensor.max_abs_diff is not None, -(tensor.max_abs_diff or 0.0)
