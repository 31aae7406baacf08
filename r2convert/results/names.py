"""What networks are called in reports."""

from __future__ import annotations

from r2convert.catalog import Catalog, Variant


def known_variant(variant: str, catalog: Catalog) -> Variant | None:
    """The variant of this id, or ``None`` if results are about one that this catalogue does not have."""
    return catalog.variants.get(variant)


def network_name(variant: str, catalog: Catalog) -> str:
    """A network's name as the official table prints it, or its id."""
    known = known_variant(variant, catalog)
    return known.name if known else variant
