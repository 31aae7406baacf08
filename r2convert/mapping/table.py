"""A family table: one row a module, one column a layout, as written in ``mappings/tables/<family>.toml``.

This module reads and checks the file; :mod:`r2convert.mapping.expansion` fills its placeholders.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r2convert.catalog.document import Document, Section
from r2convert.catalog.geometry import SCOPES_OF_DLA, SCOPES_OF_STAGED

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
