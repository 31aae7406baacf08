"""The tables of a catalogue, expanded on demand and kept: expanding all of them takes 50 ms."""

from __future__ import annotations

from r2convert.catalog.loading import Catalog
from r2convert.catalog.variant import Variant
from r2convert.errors import UsageError
from r2convert.mapping.expansion import IMAGENET_CLASSES, Expansion, expand, tensor_counts
from r2convert.mapping.table import FamilyTable, load_table


class Tables:
    """Family tables and expansions of one catalogue.

    Args:
        catalog: whose variants and folders to use.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._tables: dict[str, FamilyTable] = {}
        self._expansions: dict[tuple[str, int], Expansion] = {}

    def of(self, variant: Variant, classes: int = IMAGENET_CLASSES) -> Expansion:
        """The expansion of a variant.

        Raises:
            CatalogError: the table is damaged or does not fit the variant.
        """
        key = (variant.id, classes)
        if key not in self._expansions:
            self._expansions[key] = expand(variant, self._table(variant), classes)
        return self._expansions[key]

    def could_have(self, variant: Variant, tensors: int) -> bool:
        """Whether a file with this many tensors can hold the variant in some layout, counters or none.

        Tells without expanding the table, which is what takes the time when a file is to be identified.

        Raises:
            CatalogError: the table is damaged.
        """
        table = self._table(variant)
        return any(least <= tensors <= most for least, most in tensor_counts(variant, table).values())

    def _table(self, variant: Variant) -> FamilyTable:
        if variant.table not in self._tables:
            self._tables[variant.table] = load_table(self.catalog.table_path(variant.table))
        return self._tables[variant.table]

    def require_layout(self, variant: Variant, layout: str) -> None:
        """Check that a variant exists in a layout.

        Raises:
            UsageError: it does not, with the layouts it exists in.
        """
        layouts = self.of(variant).table.layouts
        if layout not in layouts:
            raise UsageError(
                f"{variant.id} does not exist in the layout {layout!r}",
                expected=f"one of {', '.join(layouts)}",
                next_step=f"`r2convert map --table {variant.id}` prints its names in two layouts",
            )
