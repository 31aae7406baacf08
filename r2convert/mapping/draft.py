"""A learned layout as mapping files: a column for the family's table, and what its names end in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from r2convert.catalog.catalog import Catalog
from r2convert.catalog.loading import load_catalog
from r2convert.catalog.variant import Variant
from r2convert.checkpoint.open import Checkpoint
from r2convert.errors import AccessError, MappingError, UsageError
from r2convert.files import printable, require_place, write_text
from r2convert.mapping.identity import identify, match, shapes_of
from r2convert.mapping.learning import LearnedNames, learn
from r2convert.mapping.parsing import Shapes
from r2convert.mapping.tables import CANONICAL, Tables
from r2convert.results.documents import LearnedLayout, LearnedModule

_WRITTEN_AS = '[".pth", ".pt", ".safetensors"]'


def learn_layout(
    tables: Tables, checkpoint: Checkpoint, variant: Variant, layout: str, folder: Path | None, *, overwrite: bool
) -> LearnedLayout:
    """Learn a file's names, check the draft of them against the file, and write it.

    Args:
        tables: the tables of the catalogue.
        checkpoint: the open file.
        variant: the architecture it holds.
        layout: what to call the layout.
        folder: where to write the draft; ``None``: nowhere.
        overwrite: whether files there may be replaced.

    Raises:
        UsageError: the layout already exists, or its name is not allowed.
        MappingError: the file has other shapes than the architecture, or names that no table can express.
        OutputExistsError: such a draft already exists.
        AccessError: it cannot be written.
    """
    if layout in tables.catalog.layouts:
        raise UsageError(f"the layout {layout!r} already exists", next_step="choose another name with --name")
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", layout):
        raise UsageError("this is not the name of a layout", expected="lowercase letters, digits, - and _", got=layout)
    shapes = shapes_of(checkpoint)
    learned = learn(tables, variant, shapes, str(checkpoint.path))
    source, family = printable(checkpoint.path.name), learned.table.family
    files = {
        "layouts.toml": _layout(tables.catalog, learned, layout, source),
        f"families/{family}.toml": _column(learned, layout),
    }
    if folder is not None:
        _make_place(folder, files, overwrite=overwrite)
    _require_sound(files, learned, layout, shapes)
    for name, text in files.items() if folder is not None else ():
        write_text(folder / name, text)  # type: ignore[operator]
    known = identify(tables, shapes)
    return LearnedLayout(
        path=str(checkpoint.path),
        architecture=variant.id,
        layout=layout,
        family=family,
        known_as=known.layout if known else None,
        modules=tuple(
            LearnedModule(row.row.names[CANONICAL], row.name, row.evidence, row.alternatives, len(row.modules))
            for row in learned.rows
        ),
        suffixes={kind: dict(roles) for kind, roles in learned.suffixes.items()},
        roles_by_order=learned.roles_by_order,
        linear=learned.form,
        undecided=tuple(learned.undecided()),
        doubts=learned.doubts,
        reordered=learned.reordered,
        files={name: tuple(text.splitlines()) for name, text in files.items()},
        folder=None if folder is None else str(folder),
    )


def _make_place(folder: Path, files: Iterable[str], *, overwrite: bool) -> None:
    try:
        (folder / "families").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AccessError(
            "the folder cannot be created", where=str(folder), got=error.strerror or str(error)
        ) from error
    for name in files:
        require_place(folder / name, overwrite=overwrite)


def _require_sound(files: Mapping[str, str], learned: LearnedNames, layout: str, shapes: Shapes) -> None:
    """Check that a draft, laid over the catalogue, names exactly the tensors it was learned from."""
    with TemporaryDirectory(prefix="r2convert-") as trial:
        _make_place(Path(trial), (), overwrite=True)
        for name, text in files.items():
            Path(trial, name).write_text(text, encoding="utf-8")
        tables = Tables(load_catalog(None, Path(trial)))
        found = match(tables, (learned.variant,), layout, shapes)
    if found is None:
        raise MappingError("the learned layout does not name the tensors of its own file")


def _layout(catalog: Catalog, learned: LearnedNames, layout: str, source: str) -> str:
    lines = [f"# Learned from {json.dumps(source)} as {learned.variant.id}: `r2convert verify --wiring` tests it."]
    if learned.roles_by_order:
        lines.append(
            f"# These BatchNorm suffixes say nothing; their order alone decides: {', '.join(learned.roles_by_order)}."
        )
    lines += [f"# {doubt}." for doubt in learned.doubts]
    lines.append(f"[suffixes.{layout}]")
    lines += [f"{kind} = {_table(roles)}" for kind, roles in learned.suffixes.items()]
    lines += [
        "",
        f"[layouts.{layout}]",
        f"reader = {json.dumps(f'the code base of {source}')}",
        f"program = {json.dumps(_program(catalog, learned.variant))}",
        f"suffixes = {json.dumps(layout)}",
        f"written_as = {_WRITTEN_AS}",
    ]
    lines += [f"linear = {json.dumps(learned.form)}"] if learned.form else []
    absent = _absent(learned, source)
    lines += [f"absent = {json.dumps(absent)}"] if absent else []
    return "\n".join(lines) + "\n"


def _column(learned: LearnedNames, layout: str) -> str:
    rows = [
        (
            json.dumps(row.row.names[CANONICAL]),
            json.dumps(row.name),
            " # by order alone" if row.evidence == "order" else "",
        )
        for row in learned.rows
    ]
    widest = max(len(canonical) for canonical, _, _ in rows) + 1
    return "\n".join(
        [
            f"family = {json.dumps(learned.table.family)}",
            "",
            "[modules]",
            f"columns = {json.dumps([CANONICAL, layout])}",
            "rows = [",
            *(f"    [{canonical + ',':<{widest}} {name}],{note}" for canonical, name, note in rows),
            "]",
            "",
        ]
    )


def _table(roles: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{role} = {json.dumps(suffix)}" for role, suffix in roles.items()) + " }"


def _program(catalog: Catalog, variant: Variant) -> str:
    """The program that computes exactly this architecture, or else one that has its names."""
    builders = [each for each in catalog.programs.values() if each.builds(variant.architecture)]
    same = [each for each in builders if each.as_computed(variant.architecture) == variant.architecture]
    return (same or builders or list(catalog.programs.values()))[0].id


def _absent(learned: LearnedNames, source: str) -> str:
    reasons = []
    if "num_batches_tracked" not in learned.suffixes["bn"]:
        reasons.append("no count of batches")
    if not any(row.row.kind == "linear" for row in learned.rows):
        reasons.append("no classifier")
    if any(CANONICAL not in row.names for row in learned.table.rows):
        reasons.append("no unused projections")
    return f"{source} has {' and '.join(reasons)}" if reasons else ""
