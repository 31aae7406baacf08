"""Layouts side by side: what the reader of each computes, and the names of a network in two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from r2convert.catalog.variant import Layout, LayoutFacts
from r2convert.mapping.plan import differences
from r2convert.mapping.tables import Tables


class ListedLayout(NamedTuple):
    """A layout as ``r2convert list --layouts`` shows it.

    Args:
        facts: whose names it has, and who reads it.
        limits: what the reader can build, in words; empty: all of them.
        builds: ids of the architectures that the reader computes as they are.
        otherwise: what the reader computes differently -> ids of the architectures that it does so with.
        unbuilt: ids of the architectures that the reader cannot build.
    """

    facts: LayoutFacts
    limits: str
    builds: tuple[str, ...]
    otherwise: Mapping[str, tuple[str, ...]]
    unbuilt: tuple[str, ...]


def list_layouts(tables: Tables) -> list[ListedLayout]:
    """Return every layout with what its reader builds.

    Raises:
        CatalogError: a table is damaged.
    """
    return [_listed(tables, facts) for facts in tables.catalog.layouts.values()]


def _listed(tables: Tables, facts: LayoutFacts) -> ListedLayout:
    program = tables.catalog.programs[facts.program]
    groups: dict[str | None, list[str]] = {}
    for variant in tables.catalog.variants.values():
        architecture = variant.architecture
        named = facts.name in tables.table(architecture.family).layouts
        built = named and program.builds(architecture)
        how = "; ".join(differences(program, architecture)) if built else None
        groups.setdefault(how, []).append(variant.id)
    unbuilt, builds = groups.pop(None, []), groups.pop("", [])
    otherwise = {how: tuple(ids) for how, ids in groups.items() if how is not None}
    return ListedLayout(facts, program.cannot, tuple(builds), otherwise, tuple(unbuilt))


class TensorNames(NamedTuple):
    """A variant's tensors under the names of two layouts.

    Args:
        variant: id of the variant.
        source: one layout.
        target: the other.
        tensors: name in each (``None`` where it has none) and shape in the first, in network order.
    """

    variant: str
    source: str
    target: str
    tensors: tuple[tuple[str | None, str | None, tuple[int, ...]], ...]


def tensor_names(tables: Tables, name: str, source: Layout | None, target: Layout) -> TensorNames:
    """Return the names of a variant's tensors in two layouts, with their shapes.

    Args:
        tables: the tables of the catalogue.
        name: any name of the variant.
        source: the layout of the first column; by default that of its official file.
        target: the layout of the second column.

    Raises:
        UnknownVariantError: no variant has this name.
        UsageError: the variant does not exist in one of the layouts.
    """
    found = tables.catalog.find(name)
    first = source or ("official" if "official" in tables.of(found).table.layouts else found.sources[0].layout)
    for layout in (first, target):
        tables.require_layout(found, layout)
    expansion = tables.of(found)
    rows = (
        (slot.names.get(first), slot.names.get(target), expansion.shape_in(first, slot))
        for slot in expansion.slots
        if first in slot.names or target in slot.names
    )
    return TensorNames(found.id, first, target, tuple(rows))
