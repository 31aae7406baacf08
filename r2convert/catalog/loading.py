"""Reading ``mappings/*.toml`` into :class:`~r2convert.catalog.variant.Variant` values.

Everything is checked while it is read; all problems of a file are reported together, with file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from r2convert.catalog.document import Document, Section
from r2convert.catalog.variant import (
    Architecture,
    Claim,
    Convention,
    Deviation,
    DlaArchitecture,
    FileFormat,
    Layout,
    Metric,
    Publisher,
    Source,
    StagedArchitecture,
    Variant,
)
from r2convert.errors import CatalogError, UnknownVariantError

USER_MAPPINGS = "R2CONVERT_MAPPINGS"
STAGED_FAMILIES = ("res2net", "res2next", "res2net_v1b", "res2net_vd")
DLA_FAMILIES = ("res2net_dla", "res2next_dla")
_UNITS = ("M", "G", "%", "error %", "fraction")
_COUNTED = ("parameters", "flops")

_OFFERED = 6
"""Names that an error offers at most."""

# A slip of the keyboard must be told, not expanded into millions of names. A level doubles a tree's blocks.
_MOST_BLOCKS = 500
_MOST_LEVELS = 8
_MOST_SCALES = 64
_MOST_CHANNELS = 100_000


@dataclass(frozen=True, slots=True)
class Catalog:
    """All variants by id, and the names each can be found by.

    Args:
        variants: variant id -> variant, in the order of the catalogue.
        folders: where the files came from, first the built-in folder.
        names: normalised name or alias -> variant id.
    """

    variants: Mapping[str, Variant]
    folders: tuple[Path, ...]
    names: Mapping[str, str]

    def find(self, name: str) -> Variant:
        """The variant with this id, official name or alias; case, ``-``, ``_`` and spaces do not matter.

        Raises:
            UnknownVariantError: no variant is called that; close names are offered.
        """
        key = normalise(name)
        if key in self.names:
            return self.variants[self.names[key]]
        # The start of a name is a better hint than letters in common: `res2net101` means none of the 50-layer networks.
        longer = [each for each in self.names if each.startswith(key)] if key else []
        close = longer or get_close_matches(key, self.names, n=4, cutoff=0.6)
        offered = list(dict.fromkeys(self.names[each] for each in close))[:_OFFERED] or list(self.variants)
        raise UnknownVariantError(
            f"no variant is called {name!r}",
            expected=f"one of {', '.join(offered)}",
            next_step="`r2convert list` shows every variant and its names",
        )

    def table_path(self, table: str) -> Path:
        """The file of a family table; a user's folder comes before the built-in one.

        Raises:
            CatalogError: no folder has such a table.
        """
        for folder in reversed(self.folders):
            path = folder / "tables" / f"{table}.toml"
            if path.is_file():
                return path
        raise CatalogError(
            f"there is no family table {table!r}", where=", ".join(str(folder / "tables") for folder in self.folders)
        )


def load_catalog(environment: Mapping[str, str] | None = None) -> Catalog:
    """Read the built-in variants and those of the folder that ``R2CONVERT_MAPPINGS`` names, laid over them.

    Raises:
        CatalogError: a file is damaged, or two variants claim the same name.
    """
    environment = os.environ if environment is None else environment
    folders = [builtin_folder()]
    if environment.get(USER_MAPPINGS):
        folders.append(_user_folder(environment[USER_MAPPINGS]))
    variants: dict[str, Variant] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            variant = load_variant(path, folders)
            variants[variant.id] = variant
    ordered = dict(sorted(variants.items(), key=lambda item: _catalogue_order(item[1])))
    return Catalog(MappingProxyType(ordered), tuple(folders), MappingProxyType(_index_names(ordered.values(), folders)))


def builtin_folder() -> Path:
    """The folder of the mapping files that come with the package."""
    # An installed package holds it; a plain checkout has it beside the package.
    package = Path(__file__).parent.parent
    installed = package / "mappings"
    return installed if installed.is_dir() else package.parent / "mappings"


def load_variant(path: Path, folders: Sequence[Path] = ()) -> Variant:
    """Read one variant file.

    Args:
        path: the file.
        folders: where its family table may be, in ``tables/``; with none, that is not looked at.

    Raises:
        CatalogError: with every problem of the file, each at its line.
    """
    document = Document(path)
    root = document.root
    published = root.section("published", required=False)
    variant = Variant(
        id=root.text("id"),
        name=root.text("name"),
        aliases=root.texts("aliases", required=False),
        table=root.text("table"),
        note=root.text("note", ""),
        architecture=_architecture(root.section("architecture")),
        sources=tuple(_source(section) for section in root.sections("sources", required=False)),
        claims=tuple(_claim(section) for section in published.sections("claims", required=False)),
    )
    published.close()
    root.close()
    if variant.table and folders and not any((each / "tables" / f"{variant.table}.toml").is_file() for each in folders):
        root.problem(f"there is no family table {variant.table!r} in {' or '.join(map(str, folders))}", "table")
    if variant.id and variant.id != path.stem:
        root.problem(f"id is {variant.id!r}, but the file is called {path.name!r}", "id")
    document.finish()
    return variant


def normalise(name: str) -> str:
    """A name without what people vary when they type it."""
    return re.sub(r"[-_. ]", "", name).lower()


def _user_folder(value: str) -> Path:
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise CatalogError(f"{USER_MAPPINGS} must name a folder of variant files", where=str(folder))
    return folder


def _catalogue_order(variant: Variant) -> tuple[int, int, str]:
    """The order of the official table: by family, then as the table has them (by width and scales)."""
    families = (*STAGED_FAMILIES[:1], *STAGED_FAMILIES[1:2], *DLA_FAMILIES, *STAGED_FAMILIES[2:])
    size = variant.architecture.depth if isinstance(variant.architecture, StagedArchitecture) else 60
    return families.index(variant.architecture.family), size, f"{variant.architecture.scales:02d} {variant.id}"


def _index_names(variants: Iterable[Variant], folders: Sequence[Path]) -> dict[str, str]:
    owners: dict[str, Variant] = {}
    for variant in variants:
        for name in _names(variant):
            other = owners.setdefault(normalise(name), variant)
            if other is not variant:
                places = [_where_named(each, name, folders) for each in (other, variant)]
                raise CatalogError(
                    f"the name {name!r} is claimed by two variants",
                    where="\n            ".join(places),
                    got=f"{other.id} and {variant.id}",
                    next_step="take it out of one of the two files",
                )
    return {name: variant.id for name, variant in owners.items()}


def _names(variant: Variant) -> tuple[str, ...]:
    return (variant.id, variant.name, *variant.aliases)


def _where_named(variant: Variant, name: str, folders: Sequence[Path]) -> str:
    """The file and line at which a variant claims a name."""
    path = next(path for folder in reversed(folders) if (path := folder / f"{variant.id}.toml").is_file())
    keys = {normalise(variant.name): "name", normalise(variant.id): "id"}
    return f"{path}:{Document(path).line_of((keys.get(normalise(name), 'aliases'),))}"


def _architecture(section: Section) -> Architecture:
    family = section.choice("family", (*STAGED_FAMILIES, *DLA_FAMILIES))
    build = _dla if family in DLA_FAMILIES else _staged
    architecture = build(section, family)
    section.close()
    return architecture


def _staged(section: Section, family: str) -> StagedArchitecture:
    values: dict[str, Any] = {
        "depth": section.number("depth"),
        "stage_blocks": section.numbers("stage_blocks", 4, most=_MOST_BLOCKS),
        "base_width": section.number("base_width", most=_MOST_CHANNELS),
        "scales": section.number("scales", most=_MOST_SCALES),
        "cardinality": section.number("cardinality", most=_MOST_CHANNELS),
        "stem": section.choice("stem", ("conv7x7", "deep")),
        "shortcut": section.choice("shortcut", ("strided-conv", "pooled", "pooled-if-strided")),
        "first_block": section.choice("first_block", ("stage", "normal")),
        "pool_counts_padding": section.flag("pool_counts_padding"),
    }
    if values["scales"] < 2:
        section.problem("'scales' must be at least 2", "scales")
    return StagedArchitecture(family=family, **values)


def _dla(section: Section, family: str) -> DlaArchitecture:
    values: dict[str, Any] = {
        "levels": section.numbers("levels", 6, most=_MOST_LEVELS),
        "channels": section.numbers("channels", 6, most=_MOST_CHANNELS),
        "base_width": section.number("base_width", most=_MOST_CHANNELS),
        "scales": section.number("scales", most=_MOST_SCALES),
        "cardinality": section.number("cardinality", most=_MOST_CHANNELS),
        "expansion": section.number("expansion", most=_MOST_CHANNELS),
    }
    if values["scales"] < 2:
        section.problem("'scales' must be at least 2", "scales")
    return DlaArchitecture(family=family, **values)


def _source(section: Section) -> Source:
    values: dict[str, Any] = {
        "publisher": section.choice("publisher", get_args(Publisher)),
        "layout": section.choice("layout", get_args(Layout)),
        "format": section.choice("format", get_args(FileFormat)),
        "file_name": section.text("file_name"),
        "urls": section.texts("urls"),
        "sha256_prefix": _digest(section, "sha256_prefix", 8),
        "sha256": _digest(section, "sha256", 64),
        "size": section.number("size") if section.has("size") else None,
    }
    if "/" in values["file_name"] or values["file_name"].startswith("."):
        section.problem("'file_name' must be a plain file name", "file_name")
    insecure = [url for url in values["urls"] if not url.startswith("https://")]
    if insecure:
        section.problem(f"a source must be fetched over https: {', '.join(insecure)}", "urls")
    if values["sha256"] and values["sha256_prefix"] and not values["sha256"].startswith(values["sha256_prefix"]):
        section.problem("'sha256' does not start with 'sha256_prefix'", "sha256")
    section.close()
    return Source(**values)


def _digest(section: Section, name: str, digits: int) -> str | None:
    value = section.optional_text(name)
    if value is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", value):
        section.problem(f"{name!r} must be {digits} lower-case hex digits, not {value!r}", name)
    return value


def _claim(section: Section) -> Claim:
    metric = section.choice("metric", get_args(Metric))
    values: dict[str, Any] = {
        "source": section.text("source"),
        "publisher": section.choice("publisher", get_args(Publisher)),
        "metric": metric,
        "printed": section.text("printed"),
        "unit": section.choice("unit", _UNITS),
        "convention": section.choice("convention", get_args(Convention)) if metric in _COUNTED else None,
        "deviation": _deviation(section) if section.has("deviation") else None,
    }
    try:
        Decimal(values["printed"])
    except InvalidOperation:
        section.problem(f"'printed' must be a number as printed, not {values['printed']!r}", "printed")
    section.close()
    return Claim(**values)


def _deviation(claim: Section) -> Deviation:
    section = claim.section("deviation")
    values: dict[str, Any] = {
        "note": section.text("note"),
        "rounding": section.choice("rounding", ("cut",)) if section.has("rounding") else None,
        "convention": section.choice("convention", get_args(Convention)) if section.has("convention") else None,
    }
    if values["rounding"] is None and values["convention"] is None:
        section.problem("a deviation must say what explains it: 'rounding' or 'convention'")
    section.close()
    return Deviation(**values)
