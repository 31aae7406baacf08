"""Two checkpoints tensor by tensor, across containers and layouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from r2convert.checkpoint.digests import DigestedTensor, network_hash, tensor_digest
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.open import Checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.mapping.identity import Identity, Resolution
from r2convert.mapping.plan import canonical_plan, target_tensor

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class DifferingTensor:
    """A tensor that both files have and that is not the same.

    Args:
        name: its name, in the mm layout if both files are known variants.
        reason: how it differs, in words.
        max_abs_diff: the largest difference of two elements; ``None`` where they cannot be subtracted.
        mean_abs_diff: the mean difference of two elements; ``None`` likewise.
    """

    name: str
    reason: str
    max_abs_diff: float | None = None
    mean_abs_diff: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two checkpoints have in common and what not.

    Args:
        content_hashes: content hash of each.
        differing: tensors in both that differ, the largest difference first.
        only_in_a: names that only the first has.
        only_in_b: names that only the second has.
        common: how many tensors both have.
        identities: what each is; ``None`` where they were compared by their own names.
    """

    content_hashes: tuple[str, str]
    differing: tuple[DifferingTensor, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    common: int
    identities: tuple[Identity | None, Identity | None] = (None, None)

    @property
    def equal(self) -> bool:
        """Whether both hold the same network."""
        return self.content_hashes[0] == self.content_hashes[1]


class Side:
    """One of the two checkpoints, its tensors under the names to compare by.

    Args:
        checkpoint: the open file.
        resolution: what it is; ``None`` to compare by its own names.
    """

    def __init__(self, checkpoint: Checkpoint, resolution: Resolution | None) -> None:
        self._checkpoint = checkpoint
        self.identity = resolution.identity if resolution is not None else None
        self.tensors = dict(_named_tensors(checkpoint, resolution))
        self.digests = {name: tensor_digest(checkpoint.chunks(tensor)) for name, tensor in self.tensors.items()}

    @property
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
        array = self._checkpoint.array(tensor)
        if tensor.dtype is DType.BFLOAT16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float64) if tensor.dtype.is_floating else array.astype(np.int64)


def compare(a: Side, b: Side) -> Comparison:
    """Compare two checkpoints.

    Returns:
        Every difference: swapped and transposed tensors are recognised by their digests.

    Raises:
        CheckpointError: the bytes of one are damaged.
    """
    common = a.tensors.keys() & b.tensors.keys()
    different = [name for name in a.tensors if name in common and not _same(a, b, name)]
    found = [_difference(a, b, name, different) for name in different]
    return Comparison(
        content_hashes=(a.content_hash, b.content_hash),
        differing=tuple(sorted(found, key=_largest_first)),
        only_in_a=tuple(name for name in a.tensors if name not in common),
        only_in_b=tuple(name for name in b.tensors if name not in common),
        common=len(common),
        identities=(a.identity, b.identity),
    )


def _named_tensors(checkpoint: Checkpoint, resolution: Resolution | None) -> Iterator[tuple[str, TensorInfo]]:
    if resolution is None:
        yield from checkpoint.tensors.items()
        return
    plan = canonical_plan(resolution.expansion, resolution.identity.layout, checkpoint.tensors)
    for row in plan.rows_of("rename"):
        if row.source is not None and row.target is not None and not row.slot.is_counter:
            yield row.target, target_tensor(plan, row, checkpoint.tensors[row.source])


def _same(a: Side, b: Side, name: str) -> bool:
    one, other = a.tensors[name], b.tensors[name]
    return (one.dtype, one.shape, a.digests[name]) == (other.dtype, other.shape, b.digests[name])


def _difference(a: Side, b: Side, name: str, different: list[str]) -> DifferingTensor:
    one, other = a.tensors[name], b.tensors[name]
    if one.shape != other.shape:
        return DifferingTensor(name, f"shape {_show(one.shape)} against {_show(other.shape)}")
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
        reason = "values"
    return DifferingTensor(name, reason, largest, mean)


def _numbers(one: Array, other: Array) -> tuple[float | None, float | None, bool]:
    """Largest and mean difference, and whether the first two axes were exchanged."""
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
    # What cannot be subtracted differs most.
    return tensor.max_abs_diff is not None, -(tensor.max_abs_diff or 0.0)


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
