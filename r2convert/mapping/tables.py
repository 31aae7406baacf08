"""Family tables: one row a module, one column a layout; filled in, they name every tensor of a network in every layout.

A table is read and checked once, then expanded for an architecture; each layout is proven one to one, so that the way
back is the same table read from the other side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from r2convert.catalog.document import Document, Section
from r2convert.catalog.geometry import SCOPES_OF_DLA, SCOPES_OF_STAGED, Place, places
from r2convert.catalog.loading import Catalog
from r2convert.catalog.variant import IMAGENET_CLASSES, Variant
from r2convert.errors import CatalogError, UsageError

CANONICAL = "mm"
"""The layout whose names are the reference network's own; every table has it."""

ROLES: Mapping[str, tuple[str, ...]] = {
    "conv": ("weight",),
    "bn": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "linear": ("weight", "bias"),
}
"""Module kind -> the tensors such a module has."""

FORMS = ("transposed", "pointwise")
"""Ways a classifier weight is stored other than (classes, features): (features, classes), or as a 1x1
convolution (classes, features, 1, 1)."""

_LAYOUT_NAMES = ("mm", "mmdet", "official", "timm", "paddle", "paddle-static")
_FIXED_COLUMNS = ("each", "kind", "shape")
_PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")


@dataclass(frozen=True, slots=True)
class Row:
    """One module of the table.

    Args:
        line: where it stands in the file.
        each: the scope whose places it stands for.
        kind: ``conv``, ``bn`` or ``linear``.
        shape: the weight's shape in the reference network, as a template such as ``{out} {in} 1 1``.
        names: layout -> module name template; a layout without such a module is absent.
    """

    line: int
    each: str
    kind: str
    shape: str
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FamilyTable:
    """A checked family table.

    Args:
        path: the file.
        digest: SHA-256 of the file, for the receipt.
        family: its name.
        layouts: the layouts it has a column for, in column order.
        suffixes: layout -> kind -> role -> what is appended to the module's name; an absent role is not stored.
        forms: layout -> how the classifier weight is stored, one of :data:`FORMS`.
        absent: layout -> why modules or tensors are missing from it.
        fills: what fills a tensor that only the target has (``num_batches_tracked``, ``unreachable``) -> why.
        warnings: layout -> what must be said with every conversion to it.
        rows: the modules.
    """

    path: Path
    digest: str
    family: str
    layouts: tuple[str, ...]
    suffixes: Mapping[str, Mapping[str, Mapping[str, str]]]
    forms: Mapping[str, str]
    absent: Mapping[str, str]
    fills: Mapping[str, str]
    warnings: Mapping[str, str]
    rows: tuple[Row, ...]


def load_table(path: Path) -> FamilyTable:
    """Read and check one family table.

    Raises:
        CatalogError: with every problem of the file, each at its line.
    """
    document = Document(path)
    root = document.root
    family = root.text("family")
    if family != path.stem:
        root.problem(f"family is {family!r}, but the file is called {path.name!r}", "family")
    suffixes = _suffixes(root.section("suffixes"))
    layouts = _layouts(root.section("layouts"), suffixes)
    modules = root.section("modules")
    columns, rows = _rows(modules, layouts)
    table = FamilyTable(
        path=path,
        digest=hashlib.sha256(document.text.encode()).hexdigest(),
        family=family,
        layouts=tuple(layout for layout in columns if layout in layouts),
        suffixes={layout: suffixes.get(scheme, {}) for layout, scheme in layouts.items()},
        forms=_forms(root.section("forms", required=False), layouts),
        absent=_reasons(root.section("absent", required=False), layouts),
        fills=_reasons(root.section("fills", required=False), ("num_batches_tracked", "unreachable")),
        warnings=_reasons(root.section("warnings", required=False), layouts),
        rows=rows,
    )
    modules.close()
    root.close()
    _check_gaps(document, table)
    document.finish()
    return table


def fill_template(template: str, place: Mapping[str, str | int]) -> str:
    """A template with its placeholders replaced.

    Raises:
        KeyError: the place has no such placeholder.
    """
    return _PLACEHOLDER.sub(lambda match: str(place[match.group(1)]), template)


def placeholders(template: str) -> frozenset[str]:
    """The placeholder words of a template."""
    return frozenset(_PLACEHOLDER.findall(template))


def _suffixes(section: Section) -> dict[str, dict[str, dict[str, str]]]:
    schemes: dict[str, dict[str, dict[str, str]]] = {}
    for scheme in section.values:
        kinds = section.section(scheme)
        schemes[scheme] = {kind: _suffixes_of_kind(kinds, kind) for kind in ROLES}
        kinds.close()
    return schemes


def _suffixes_of_kind(kinds: Section, kind: str) -> dict[str, str]:
    section = kinds.section(kind)
    found = {role: section.text(role) for role in ROLES[kind] if section.has(role)}
    for role in ROLES[kind]:
        if role not in found and role != "num_batches_tracked":
            section.problem(f"a {kind} has a {role!r}, and no suffix is given for it")
    if len(set(found.values())) < len(found):
        section.problem(f"two tensors of a {kind} have the same suffix")
    section.close()
    return found


def _layouts(section: Section, schemes: Mapping[str, object]) -> dict[str, str]:
    layouts = {layout: section.choice(layout, tuple(schemes)) for layout in section.values}
    for layout in layouts:
        if layout not in _LAYOUT_NAMES:
            section.problem(f"unknown layout {layout!r}: expected one of {', '.join(_LAYOUT_NAMES)}", layout)
    if CANONICAL not in layouts:
        section.problem(f"every table needs the layout {CANONICAL!r}")
    return layouts


def _forms(section: Section, layouts: Mapping[str, str]) -> dict[str, str]:
    forms = {layout: section.choice(layout, FORMS) for layout in section.values}
    for layout in forms:
        if layout not in layouts or layout == CANONICAL:
            section.problem(f"a form can be given for the layouts of this table other than {CANONICAL!r}", layout)
    return forms


def _reasons(section: Section, allowed: Mapping[str, str] | tuple[str, ...]) -> dict[str, str]:
    reasons = {name: section.text(name) for name in section.values}
    for name in reasons:
        if name not in allowed:
            section.problem(f"unknown name {name!r}: expected one of {', '.join(allowed)}", name)
    return reasons


def _rows(section: Section, layouts: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    columns = section.texts("columns")
    if columns[:3] != _FIXED_COLUMNS or set(columns[3:]) != set(layouts) or len(set(columns)) != len(columns):
        section.problem(
            f"'columns' must be {', '.join(_FIXED_COLUMNS)}, then each layout once ({', '.join(layouts)})", "columns"
        )
        section.values.pop("rows", None)
        return columns[3:], ()
    rows = []
    for index, cells in enumerate(section.cells("rows", len(columns))):
        row = _row(section, index, columns, cells)
        if row is not None:
            rows.append(row)
    return columns[3:], tuple(rows)


def _row(section: Section, index: int, columns: tuple[str, ...], cells: tuple[str, ...]) -> Row | None:
    if not cells:
        return None
    key = (*section.key, "rows", index)
    document = section.document
    each, kind, shape = cells[:3]
    if each not in SCOPES_OF_STAGED + SCOPES_OF_DLA:
        document.problem(key, f"unknown scope {each!r} in column 'each'")
    if kind not in ROLES:
        document.problem(key, f"unknown kind {kind!r}: expected one of {', '.join(ROLES)}")
        return None
    sizes = shape.split()
    if len(sizes) != {"conv": 4, "bn": 1, "linear": 2}[kind] or not all(_is_size(size) for size in sizes):
        document.problem(key, f"{shape!r} is no shape of a {kind}")
    names = {layout: cell for layout, cell in zip(columns[3:], cells[3:], strict=True) if cell}
    if not names:
        document.problem(key, "a row needs a name in at least one layout")
    return Row(document.line_of(key), each, kind, shape, names)


def _is_size(size: str) -> bool:
    return size.isdigit() or _PLACEHOLDER.fullmatch(size) is not None


def _check_gaps(document: Document, table: FamilyTable) -> None:
    """An empty cell or a suffix left out needs its reason, so that every dropped tensor has one."""
    for layout in table.layouts:
        gaps = [row.line for row in table.rows if layout not in row.names]
        if "num_batches_tracked" not in table.suffixes[layout].get("bn", {}):
            gaps.append(document.line_of(("layouts", layout)))
        if gaps and layout not in table.absent:
            document.problem(
                ("modules",), f"{layout!r} leaves out tensors (line {gaps[0]}) and [absent] does not say why"
            )
    if any(CANONICAL not in row.names for row in table.rows) and "unreachable" not in table.fills:
        document.problem(("fills",), "rows without an mm name need 'unreachable' under [fills]")


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
        """How a layout stores a tensor, one of :data:`~r2convert.mapping.tables.FORMS`, if not plainly."""
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
                next_step=f"`r2convert list --tensors {variant.id}` prints its names in two layouts",
            )
