"""``r2convert.map_checkpoint``: a checkpoint -> a new file in another layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from r2convert.api.locating import FileOrVariant
from r2convert.catalog.variant import Layout
from r2convert.errors import UsageError
from r2convert.mapping.conversion import Conversion

TargetLayout = Literal["mm", "mmdet", "official", "timm", "paddle"]
CastTo = Literal["float32", "float16", "bfloat16"]


def map_checkpoint(
    src: FileOrVariant,
    dst: str | os.PathLike[str],
    *,
    to: TargetLayout = "mm",
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
    backbone_only: bool = False,
    dtype: CastTo | None = None,
    overwrite: bool = False,
    receipt: bool = True,
) -> Conversion:
    """Convert a checkpoint into another layout, every tensor accounted for.

    Nothing is written unless every tensor is accounted for; the output is read back and compared before it is put in
    place. Nothing in the source is executed, and torch is not needed.

    Args:
        src: the checkpoint, or the name of a variant in the cache.
        dst: where to write; the suffix says as what: ``.pth``, ``.pt``, ``.safetensors``, or ``.pdparams`` for Paddle.
        to: the layout that the output gets.
        variant: the variant, instead of telling it from names and shapes.
        layout: the source's layout, instead of telling it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``backbone.``, which is taken off their names.
        backbone_only: leave the classifier out.
        dtype: cast floating-point tensors to this type, rounding to nearest, ties to even.
        overwrite: replace the output if it exists.
        receipt: write a receipt beside the output: an in-toto statement that binds it to the source's bytes.

    Returns:
        The plan that was carried out (``plan.rows``: what happened to each tensor; ``plan.warnings``: what to know of
        the target layout), the file that was written with its size and SHA-256, and the network's content hash.

    Raises:
        MappingError: the file is no known network, or not every tensor is accounted for; all problems are named.
        CheckpointError: the source is damaged, unsafe or of a kind that is not read.
        UsageError: the options do not fit together, or the variant does not exist in that layout.
        AccessError: the source is not there, or the output exists or cannot be written.

    Examples:
        >>> from r2convert import map_checkpoint
        >>> conversion = map_checkpoint("res2net50_w14_s8", "mm.safetensors")
        >>> conversion.plan.source_layout, conversion.plan.target_layout
        ('official', 'mm')
        >>> len(conversion.plan.rows_of("rename")), conversion.plan.rows_of("drop")
        (896, ())
    """
    from r2convert.api.locating import locate
    from r2convert.catalog import load_catalog
    from r2convert.checkpoint.elements import DType
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.conversion import convert
    from r2convert.mapping.identity import resolve
    from r2convert.mapping.plan import make_plan
    from r2convert.mapping.tables import Tables

    if dtype not in (None, "float32", "float16", "bfloat16"):
        raise UsageError(f"weights are not cast to {dtype!r}", expected="float32, float16 or bfloat16")
    tables = Tables(load_catalog())
    path, named = locate(tables.catalog, src)
    said = tables.catalog.find(variant) if variant is not None else named
    with open_checkpoint(path, key=key, prefix=prefix) as checkpoint:
        checkpoint.begin_sha256()
        resolution = resolve(tables, checkpoint, said, layout)
        identity = resolution.identity
        tables.require_layout(identity.variant, to)
        plan = make_plan(resolution.expansion, identity.layout, to, checkpoint.tensors, backbone_only=backbone_only)
        cast = DType(dtype) if dtype is not None else None
        return convert(checkpoint, plan, Path(dst), overwrite=overwrite, receipt=receipt, dtype=cast)
