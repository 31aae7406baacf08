"""``r2convert.load_model``: a checkpoint -> a network that is ready to be run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2convert.api.locating import FileOrVariant
from r2convert.catalog.variant import Layout

if TYPE_CHECKING:
    from r2convert.models.blocks import Classifier


def load_model(
    checkpoint: FileOrVariant,
    *,
    fetch: bool = False,
    variant: str | None = None,
    layout: Layout | None = None,
    key: str | None = None,
    prefix: str = "",
) -> Classifier:
    """Build the network that a checkpoint holds, with its weights, in evaluation mode.

    The file may have any layout and container. Loading is strict: every tensor of the network comes from the file.
    The network has as many classes as the file.

    Args:
        checkpoint: a checkpoint, or the name of a variant in the cache.
        fetch: download the variant's file if it is not in the cache; without this no network is used.
        variant: the variant, instead of telling it from names and shapes.
        layout: the file's layout, instead of telling it from the names.
        key: which of several state dicts in the file, e.g. ``state_dict`` or ``ema``.
        prefix: only the tensors under this prefix, e.g. ``model.``.

    Returns:
        A ``torch.nn.Module`` on the CPU, float32 (float64 if the file is): images (N, 3, H, W) -> logits (N, classes).
        Images are RGB in 0..1, 224x224 as the published accuracies have them, normalised by ImageNet's mean
        (0.485, 0.456, 0.406) and standard deviation (0.229, 0.224, 0.225). Its ``state_dict()`` has the ``mm`` names.

    Raises:
        AccessError: the variant's file is not in the cache and ``fetch`` is not set, or the file is not there.
        UnknownVariantError: no variant has this name.
        MappingError: the file is no known network, or a backbone without its classifier.
        CheckpointError: the file is damaged, unsafe or of a kind that is not read.
        FetchError: the file could not be downloaded.

    Examples:
        >>> import torch
        >>> from r2convert import load_model
        >>> model = load_model("res2net50_w14_s8")
        >>> with torch.inference_mode():
        ...     model(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 1000])
    """
    from r2convert.api.locating import locate
    from r2convert.catalog import load_catalog
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.identity import resolve
    from r2convert.mapping.tables import Tables
    from r2convert.models.build import load_network

    tables = Tables(load_catalog())
    path, named = locate(tables.catalog, checkpoint, fetch=fetch)
    said = tables.catalog.find(variant) if variant is not None else named
    with open_checkpoint(path, key=key, prefix=prefix) as opened:
        return load_network(opened, resolve(tables, opened, said, layout))
