"""Family tables: one row per module, one column per layout; expanded, they name every tensor in every layout.

A table is read and checked once, then expanded for an architecture; each layout is proven one to one, so that the way
back is the same table read from the other side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.catalog import Catalog
from r2convert.catalog.document import Document, Section
from r2convert.catalog.geometry import (
    SCOPES_OF_DLA,
    SCOPES_OF_STAGED,
    Place,
    fill_template,
    placeholders,
    places,
    unknown_words,
)
from r2convert.catalog.sections import FORMS, ROLES
from r2convert.catalog.variant import IMAGENET_CLASSES, LayoutFacts, Variant
from r2convert.errors import CatalogError, UsageError

CANONICAL = "mm"
"""The layout whose names are the reference network's own; every table has it."""

_FIXED_COLUMNS = ("each", "kind", "shape")


class Row(Struct, frozen=True):
    """One module of the table.

    Args:
        each: the scope whose places it stands for.
        kind: ``conv``, ``bn`` or ``linear``.
        shape: the weight's shape in the reference network, as a template such as ``{out} {in} 1 1``.
        names: layout -> module name template; a layout without such a module is absent.
        where: layout -> file and line of that name.
    """

    each: str
    kind: str
    shape: str
    names: Mapping[str, str]
    where: Mapping[str, str]

    @property
    def place(self) -> str:
        """File and line of the row itself."""
        return next(iter(self.where.values()))


class FamilyTable(Struct, frozen=True):
    """A checked family table.

    Args:
        paths: its files: the table, then those that add columns.
        digest: SHA-256 of them, for the receipt.
        family: its name.
        layouts: the layouts it has a column for, in column order.
        facts: layout -> what layouts.toml says about it.
        forms: layout -> how the classifier weight is stored, one of :data:`~r2convert.catalog.sections.FORMS`.
        absent: layout -> why modules or tensors are missing from it.
        fills: what fills a tensor that only the target has (``num_batches_tracked``, ``unreachable``) -> why.
        rows: the modules.
    """

    paths: tuple[Path, ...]
    digest: str
    family: str
    layouts: tuple[str, ...]
    facts: Mapping[str, LayoutFacts]
    forms: Mapping[str, str]
    absent: Mapping[str, str]
    fills: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def suffixes(self) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
        """Layout -> kind -> role -> what is appended to the module's name; an absent role is not stored."""
        return {name: layout.suffixes for name, layout in self.facts.items()}


def load_table(paths: Sequence[Path], layouts: Mapping[str, LayoutFacts]) -> FamilyTable:
    """Read and check one family table.

    Args:
        paths: its files, later ones laid over earlier ones: a file whose columns begin with ``mm`` adds columns to the
            table before it, any other file replaces it.
        layouts: all layouts.

    Raises:
        CatalogError: with every problem of a file, each at its line.
    """
    table: FamilyTable | None = None
    for path in paths:
        document = Document(path)
        if table is not None and document.root.section("modules").values.get("columns", [])[:1] == [CANONICAL]:
            table = _with_columns(table, document, layouts)
        else:
            table = _whole_table(document, layouts)
        document.root.close()
        _check_gaps(document, table)
        document.finish()
    assert table is not None  # noqa: S101 - a family has a file
    return table


def _whole_table(document: Document, layouts: Mapping[str, LayoutFacts]) -> FamilyTable:
    root, path = document.root, document.path
    family = _family(root, path)
    modules = root.section("modules")
    columns = modules.texts("columns")
    names = columns[3:]
    if columns[:3] != _FIXED_COLUMNS or CANONICAL not in names or len(set(columns)) != len(columns):
        modules.problem(f"'columns' must be {', '.join(_FIXED_COLUMNS)}, then each layout once, 'mm' too", "columns")
        modules.values.pop("rows", None)
    known = _known(modules, names, layouts)
    cells = modules.cells("rows", len(columns)) if modules.has("rows") else iter(())
    rows = [_row(modules, index, columns, each) for index, each in enumerate(cells)]
    modules.close()
    return FamilyTable(
        paths=(path,),
        digest=hashlib.sha256(document.text.encode()).hexdigest(),
        family=family,
        layouts=tuple(known),
        facts=known,
        forms=_forms(root, known),
        absent=_absent(root, known),
        fills=_reasons(root.section("fills", required=False), ("num_batches_tracked", "unreachable")),
        rows=tuple(row for row in rows if row is not None),
    )


def _with_columns(table: FamilyTable, document: Document, layouts: Mapping[str, LayoutFacts]) -> FamilyTable:
    """A table with the columns of a file laid over it, each row found by its mm name."""
    root, path = document.root, document.path
    _family(root, path)
    modules = root.section("modules")
    columns = modules.texts("columns")
    known = _known(modules, columns[1:], layouts)
    added: dict[str, tuple[str, tuple[str, ...]]] = {}
    canonical = {row.names.get(CANONICAL) for row in table.rows}
    for index, cells in enumerate(modules.cells("rows", len(columns))):
        if not cells:
            continue
        key = ("modules", "rows", index)
        if cells[0] not in canonical or cells[0] in added:
            document.problem(key, f"{cells[0]!r} is not the mm name of one row of the table in {table.paths[0]}")
        added[cells[0]] = (f"{path}:{document.line_of(key)}", cells[1:])
    modules.close()

    def extended(row: Row) -> Row:
        place, cells = added.get(row.names.get(CANONICAL, ""), ("", ()))
        names = {layout: cell for layout, cell in zip(columns[1:], cells, strict=False) if cell}
        return replace(row, names={**row.names, **names}, where={**row.where, **dict.fromkeys(names, place)})

    return replace(
        table,
        paths=(*table.paths, path),
        digest=hashlib.sha256((table.digest + document.text).encode()).hexdigest(),
        layouts=tuple(dict.fromkeys((*table.layouts, *known))),
        facts={**table.facts, **known},
        forms={**table.forms, **_forms(root, known)},
        absent={**table.absent, **_absent(root, known)},
        fills={
            **table.fills,
            **_reasons(root.section("fills", required=False), ("num_batches_tracked", "unreachable")),
        },
        rows=tuple(extended(row) for row in table.rows),
    )


def _family(root: Section, path: Path) -> str:
    family = root.text("family")
    if family != path.stem:
        root.problem(f"family is {family!r}, but the file is called {path.name!r}", "family")
    return family


def _known(modules: Section, names: Sequence[str], layouts: Mapping[str, LayoutFacts]) -> dict[str, LayoutFacts]:
    for name in names:
        if name not in layouts:
            modules.problem(f"unknown layout {name!r}: layouts.toml has {', '.join(layouts)}", "columns")
    return {name: layouts[name] for name in names if name in layouts}


def _forms(root: Section, known: Mapping[str, LayoutFacts]) -> dict[str, str]:
    section = root.section("forms", required=False)
    forms = {name: section.choice(name, FORMS) for name in section.values}
    for name in forms:
        if name not in known or name == CANONICAL:
            section.problem(f"a form can be given for the layouts of this table other than {CANONICAL!r}", name)
    return {name: layout.form for name, layout in known.items() if layout.form} | forms


def _absent(root: Section, known: Mapping[str, LayoutFacts]) -> dict[str, str]:
    reasons = _reasons(root.section("absent", required=False), tuple(known))
    return {name: layout.absent for name, layout in known.items() if layout.absent} | reasons


def _reasons(section: Section, allowed: Sequence[str]) -> dict[str, str]:
    reasons = {name: section.text(name) for name in section.values}
    for name in reasons:
        if name not in allowed:
            section.problem(f"unknown name {name!r}: expected one of {', '.join(allowed)}", name)
    return reasons


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
        document.problem(key, f"{shape!r} is not the shape of a {kind}")
    names = {layout: cell for layout, cell in zip(columns[3:], cells[3:], strict=True) if cell}
    if not names:
        document.problem(key, "a row needs a name in at least one layout")
    place = f"{document.path}:{document.line_of(key)}"
    return Row(each, kind, shape, names, {"": place, **dict.fromkeys(names, place)})


def _is_size(size: str) -> bool:
    return size.isdigit() or (size.startswith("{") and placeholders(size) == {size[1:-1]})


def _check_gaps(document: Document, table: FamilyTable) -> None:
    """An empty cell or a suffix left out needs its reason, so that every dropped tensor has one."""
    for layout in table.layouts:
        gaps = [row.place for row in table.rows if layout not in row.names]
        if "num_batches_tracked" not in table.facts[layout].suffixes.get("bn", {}):
            gaps.append("layouts.toml")
        if gaps and layout not in table.absent:
            document.problem(
                ("modules",), f"{layout!r} leaves out tensors ({gaps[0]}) and neither [absent] nor its layout says why"
            )
    if any(CANONICAL not in row.names for row in table.rows) and "unreachable" not in table.fills:
        document.problem(("fills",), "rows without an mm name need 'unreachable' under [fills]")


class Slot(Struct, frozen=True):
    """One tensor of the network, whatever it is called.

    Args:
        role: ``conv.weight``, ``bn.running_mean``, ``linear.bias`` and so on.
        shape: its shape in the reference network; see :meth:`Expansion.shape_in` for the others.
        names: layout -> its name there; a layout that does not store it is absent.
        where: layout -> file and line of the table it comes from.
    """

    role: str
    shape: tuple[int, ...]
    names: Mapping[str, str]
    where: Mapping[str, str]

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
        """Whether this is a BatchNorm's batch counter, which evaluation does not use."""
        return self.role == "bn.num_batches_tracked"

    @property
    def is_learned(self) -> bool:
        """Whether this is a parameter (weight or bias), as opposed to a BatchNorm's running statistics."""
        return self.role.endswith((".weight", ".bias"))


class Expansion(Struct, frozen=True):
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
        """How a layout stores a tensor, one of :data:`~r2convert.catalog.sections.FORMS`, if not plainly."""
        return self.table.forms.get(layout) if slot.role == "linear.weight" else None


def expand(variant: Variant, table: FamilyTable, classes: int = IMAGENET_CLASSES) -> Expansion:
    """Fill in a family table for a variant and prove each layout a bijection.

    Raises:
        CatalogError: the table does not fit the variant, or a layout gives two tensors the same name.
    """
    scopes = places(variant.architecture, classes)
    _check_fit(variant, table, scopes)
    slots = tuple(slot for row, place in in_network_order(table.rows, scopes) for slot in _slots(table, row, place))
    expansion = Expansion(variant, table, classes, slots)
    _check_bijection(expansion)
    return expansion


def in_network_order(rows: Sequence[Row], scopes: Mapping[str, Sequence[Place]]) -> Iterator[tuple[Row, Place]]:
    """Every row at every place it stands for; rows between two ``network`` rows follow each other block by block."""
    for _, run in groupby(rows, key=lambda row: row.each == "network"):
        pairs = [(row, place) for row in run for place in scopes[row.each]]
        yield from sorted(pairs, key=lambda pair: pair[1]["order"])


def _slots(table: FamilyTable, row: Row, place: Place) -> Iterator[Slot]:
    modules = {layout: fill_template(name, place) for layout, name in row.names.items()}
    shape = tuple(int(size) for size in fill_template(row.shape, place).split())
    for role in ROLES[row.kind]:
        names = {
            layout: module + table.facts[layout].suffixes[row.kind][role]
            for layout, module in modules.items()
            if role in table.facts[layout].suffixes[row.kind]
        }
        yield Slot(f"{row.kind}.{role}", _role_shape(role, shape), names, row.where)


def _role_shape(role: str, weight: tuple[int, ...]) -> tuple[int, ...]:
    if role == "num_batches_tracked":
        return ()
    return weight if role == "weight" else weight[:1]


def _check_fit(variant: Variant, table: FamilyTable, scopes: Mapping[str, tuple[Place, ...]]) -> None:
    problems = []
    for row in table.rows:
        if row.each not in scopes:
            problems.append(f"{row.place}: {variant.id} has no scope {row.each!r}")
            continue
        for layout, template in {"": row.shape, **row.names}.items():
            unknown = unknown_words(template, scopes[row.each][0]) if scopes[row.each] else []
            problems += [f"{row.where[layout]}: {word!r} is not known for each {row.each!r}" for word in unknown]
    _raise(problems, f"the table {table.family!r} does not fit {variant.id}")


def _check_bijection(expansion: Expansion) -> None:
    problems = []
    for layout in expansion.table.layouts:
        seen: dict[str, Slot] = {}
        for slot in expansion.slots:
            name = slot.names.get(layout)
            if name is not None and seen.setdefault(name, slot) is not slot:
                other = seen[name].where[layout]
                problems.append(f"{slot.where[layout]}: {layout} calls two tensors {name!r} (the other at {other})")
    _raise(problems, f"the table {expansion.table.family!r} is not one to one for {expansion.variant.id}")


def _raise(problems: list[str], what: str) -> None:
    if problems:
        raise CatalogError(what, where="\n            ".join(problems), next_step="correct the lines named above")


class Tables:
    """Family tables and expansions of one catalogue, created on demand and cached.

    Args:
        catalog: whose variants and files to use.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._tables: dict[str, FamilyTable] = {}
        self._expansions: dict[tuple[object, int], Expansion] = {}

    def of(self, variant: Variant, classes: int = IMAGENET_CLASSES) -> Expansion:
        """The expansion of a variant.

        Raises:
            CatalogError: the table is damaged or does not fit the variant.
        """
        key = (variant.architecture, classes)
        if key not in self._expansions:
            self._expansions[key] = expand(variant, self.table(variant.architecture.family), classes)
        known = self._expansions[key]
        return known if known.variant is variant else replace(known, variant=variant)

    def table(self, family: str) -> FamilyTable:
        """The table of a family.

        Raises:
            CatalogError: it is damaged.
        """
        if family not in self._tables:
            self._tables[family] = load_table(self.catalog.families[family], self.catalog.layouts)
        return self._tables[family]

    def require_layout(self, variant: Variant, layout: str) -> None:
        """Check that a variant exists in a layout, and that the layout's reader can build it.

        Raises:
            UsageError: it does not, with the reason and the layouts it exists in.
        """
        catalog, architecture = self.catalog, variant.architecture
        possible = [
            name
            for name in self.table(architecture.family).layouts
            # The reference network reads every mm file, whatever mmpretrain can build.
            if name == CANONICAL or catalog.programs[catalog.layouts[name].program].builds(architecture)
        ]
        if layout in possible:
            return
        if layout not in catalog.layouts:
            raise UsageError(f"there is no layout {layout!r}", expected=f"one of {', '.join(catalog.layouts)}")
        raise UsageError(
            f"{variant.id} does not exist in the layout {layout!r}: {catalog.layouts[layout].reader} cannot build it",
            expected=f"one of {', '.join(name for name in possible if catalog.layouts[name].written_as)}",
            got=catalog.programs[catalog.layouts[layout].program].cannot or None,
            next_step="for code that reads the authors' backbones, such as forks of mmdetection, use "
            "`--to official --backbone-only`"
            if "official" in possible
            else f"`r2convert list --tensors {variant.id}` prints its names in two layouts",
        )
