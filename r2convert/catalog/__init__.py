"""What is known: variants, where their files are, and what was published about them."""

from r2convert.catalog.catalog import Catalog
from r2convert.catalog.loading import load_catalog, load_layouts
from r2convert.catalog.variant import Claim, Deviation, Source, Variant

__all__ = ["Catalog", "Claim", "Deviation", "Source", "Variant", "load_catalog", "load_layouts"]
