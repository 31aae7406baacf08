"""A family table filled in for one variant: every tensor of the network, with its name in every layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from r2convert.catalog.geometry import Place, places
from r2convert.catalog.variant import Variant
from r2convert.errors import CatalogError
from r2convert.mapping.table import CANONICAL, ROLES, FamilyTable, Row, fill_template, placeholders

IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of the network, whatever it is called.

    Args:
        role: ``conv.weight``, ``bn.running_mean``, ``linear.bias`` and so on.
        shape: its shape in the reference network; see :meth:`Expansion.shape_in` for the others.
        names: layout -> its name there; a layout that does not store it is absent.
        line: the line of the table it comes from.
    """

    role: str
    shape: tuple[int, ...]
    names: Mapping[str, str]
    line: int

    @property
    def canonical(self) -> str | None:
        """The reference network's name for it, or ``None`` for a tensor the network cannot reach."""
        return self.names.get(CANONICAL)

    @property
    def key(self) -> str:
        """A name that no other tensor of the network has."""
        return self.canonical or next(iter(self.names.values()))

    @property
    def is_counter(self) -> bool:
        """Whether this is a BatchNorm's count of training batches, which evaluation does not read."""
        return self.role == "bn.num_batches_tracked"

    @property
    def is_learned(self) -> bool:
        """Whether this is a parameter (weight or bias), as against a BatchNorm's running statistics."""
        return self.role.endswith((".weight", ".bias"))


@dataclass(frozen=True, slots=True)
class Expansion:
    """All tensors of one variant.

    Args:
        variant: the variant.
        table: the family table it was expanded from.
        classes: outputs of the classifier.
        slots: the tensors, in network order.
    """

    variant: Variant
    table: FamilyTable
    classes: int
    slots: tuple[Slot, ...]

    def names(self, layout: str) -> dict[str, Slot]:
        """Tensor name -> slot, for every tensor the layout stores."""
        return {slot.names[layout]: slot for slot in self.slots if layout in slot.names}

    def shape_in(self, layout: str, slot: Slot) -> tuple[int, ...]:
        """The shape in which a layout stores a tensor."""
        form = self.form_in(layout, slot)
        if form == "transposed":
            return slot.shape[::-1]
        return (*slot.shape, 1, 1) if form == "pointwise" else slot.shape

    def form_in(self, layout: str, slot: Slot) -> str | None:
        """How a layout stores a tensor, one of :data:`~r2convert.mapping.table.FORMS`, if not plainly."""
        return self.table.forms.get(layout) if slot.role == "linear.weight" else None


def expand(variant: Variant, table: FamilyTable, classes: int = IMAGENET_CLASSES) -> Expansion:
    """Fill in a family table for a variant and prove each layout a bijection.

    Raises:
        CatalogError: the table does not fit the variant, or a layout gives two tensors the same name.
    """
    scopes = places(variant.architecture, classes)
    _check_fit(variant, table, scopes)
    slots = tuple(slot for row, place in _in_network_order(table.rows, scopes) for slot in _slots(table, row, place))
    expansion = Expansion(variant, table, classes, slots)
    _check_bijection(expansion)
    return expansion


def tensor_counts(variant: Variant, table: FamilyTable) -> dict[str, tuple[int, int]]:
    """How many tensors a file of a variant can have, by layout.

    Returns:
        The fewest (no counters of training batches, no classifier) and the most.
    """
    scopes = places(variant.architecture, IMAGENET_CLASSES)
    counts = {}
    for layout in table.layouts:
        least = most = 0
        for row in table.rows:
            if layout in row.names:
                roles = table.suffixes[layout][row.kind]
                copies = len(scopes.get(row.each, ()))
                most += copies * len(roles)
                if row.kind != "linear":
                    least += copies * (len(roles) - ("num_batches_tracked" in roles))
        counts[layout] = (least, most)
    return counts


def _in_network_order(rows: Sequence[Row], scopes: Mapping[str, Sequence[Place]]) -> Iterator[tuple[Row, Place]]:
    """Every row at every place it stands for; rows between two ``network`` rows follow each other block by block."""
    for _, run in groupby(rows, key=lambda row: row.each == "network"):
        pairs = [(row, place) for row in run for place in scopes[row.each]]
        yield from sorted(pairs, key=lambda pair: pair[1]["order"])


def _slots(table: FamilyTable, row: Row, place: Place) -> Iterator[Slot]:
    modules = {layout: fill_template(name, place) for layout, name in row.names.items()}
    shape = tuple(int(size) for size in fill_template(row.shape, place).split())
    for role in ROLES[row.kind]:
        names = {
            layout: module + table.suffixes[layout][row.kind][role]
            for layout, module in modules.items()
            if role in table.suffixes[layout][row.kind]
        }
        yield Slot(f"{row.kind}.{role}", _role_shape(role, shape), names, row.line)


def _role_shape(role: str, weight: tuple[int, ...]) -> tuple[int, ...]:
    if role == "num_batches_tracked":
        return ()
    return weight if role == "weight" else weight[:1]


def _check_fit(variant: Variant, table: FamilyTable, scopes: Mapping[str, tuple[Place, ...]]) -> None:
    problems = []
    for row in table.rows:
        if row.each not in scopes:
            problems.append(f"{table.path}:{row.line}: {variant.architecture.family} has no scope {row.each!r}")
            continue
        known = frozenset(scopes[row.each][0]) if scopes[row.each] else None
        for template in (row.shape, *row.names.values()):
            unknown = sorted(placeholders(template) - known) if known is not None else []
            problems += [f"{table.path}:{row.line}: {word!r} is not known for each {row.each!r}" for word in unknown]
    _raise(problems, f"the table {table.family!r} does not fit {variant.id}")


def _check_bijection(expansion: Expansion) -> None:
    problems = []
    for layout in expansion.table.layouts:
        seen: dict[str, Slot] = {}
        for slot in expansion.slots:
            name = slot.names.get(layout)
            if name is not None and seen.setdefault(name, slot) is not slot:
                problems.append(
                    f"{expansion.table.path}:{slot.line}: {layout} calls two tensors {name!r} "
                    f"(the other in line {seen[name].line})"
                )
    _raise(problems, f"the table {expansion.table.family!r} is not one to one for {expansion.variant.id}")


def _raise(problems: list[str], what: str) -> None:
    if problems:
        raise CatalogError(what, where="\n            ".join(problems), next_step="correct the lines named above")
