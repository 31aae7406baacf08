"""``r2convert.compare``: are two checkpoints the same network?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2convert.api.locating import FileOrVariant
from r2convert.mapping.comparison import Comparison

if TYPE_CHECKING:
    from r2convert.checkpoint.open import Checkpoint
    from r2convert.mapping.identity import Resolution
    from r2convert.mapping.tables import Tables


def compare(a: FileOrVariant, b: FileOrVariant) -> Comparison:
    """Compare two checkpoints tensor by tensor, across containers and layouts.

    If both are known variants, tensors are compared under their ``mm`` names, and counters of training batches and
    layers that nothing reads do not count; otherwise under their own names.

    Args:
        a: a checkpoint, or the name of a variant in the cache.
        b: another.

    Returns:
        Whether they are equal, both content hashes, and every tensor that differs: its name, how, and by how much.

    Raises:
        CheckpointError: a file is damaged, unsafe or of a kind that is not read.
        AccessError: a file is not there or cannot be read.

    Examples:
        >>> from r2convert import compare, map_checkpoint
        >>> conversion = map_checkpoint("res2net50_w14_s8", "timm.safetensors", to="timm")
        >>> compare("res2net50_w14_s8", "timm.safetensors").equal
        True
    """
    from contextlib import ExitStack

    from r2convert.api.locating import locate
    from r2convert.catalog import load_catalog
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.comparison import Side
    from r2convert.mapping.comparison import compare as compare_sides
    from r2convert.mapping.tables import Tables

    tables = Tables(load_catalog())
    with ExitStack() as stack:
        one, other = (stack.enter_context(open_checkpoint(locate(tables.catalog, each)[0])) for each in (a, b))
        first, second = _resolution(tables, one), _resolution(tables, other)
        if first is None or second is None:
            # Names of two conventions say nothing of each other: both files keep their own.
            first = second = None
        return compare_sides(Side(one, first), Side(other, second))


def _resolution(tables: Tables, checkpoint: Checkpoint) -> Resolution | None:
    from r2convert.errors import MappingError
    from r2convert.mapping.identity import resolve

    try:
        return resolve(tables, checkpoint)
    except MappingError:
        return None
