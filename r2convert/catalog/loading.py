"""Reading ``mappings/`` into the values of :mod:`r2convert.catalog.variant`.

Everything is checked while it is read; all problems of a file are reported together, with file and line. A folder of
the user's is laid over the built-in one: a file of the same name replaces the built-in one, except for ``layouts.toml``
and for a family file that only adds columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.catalog import Catalog, normalise, unlisted_variant
from r2convert.catalog.document import Document, Section
from r2convert.catalog.protocol import Protocol
from r2convert.catalog.sections import (
    FORMS,
    read_architecture,
    read_claim,
    read_program,
    read_scheme,
    read_source,
    read_weights,
    read_wrapper,
)
from r2convert.catalog.variant import (
    OFFICIAL_TABLE,
    LayoutFacts,
    Lookalike,
    Program,
    Variant,
    Weights,
)
from r2convert.errors import CatalogError

USER_MAPPINGS = "R2CONVERT_MAPPINGS"


def load_catalog(environment: Mapping[str, str] | None = None, *further: Path) -> Catalog:
    """Read the built-in mappings and those of the folder that ``R2CONVERT_MAPPINGS`` names, laid over them.

    Args:
        environment: where to look that name up; by default the process's environment.
        further: folders to lay over those two.

    Raises:
        CatalogError: a file is damaged, or two variants claim the same name.
    """
    folders, reading = [*_folders(environment), *further], _Reading()
    for folder in folders:
        reading.read(folder)
    return reading.catalog(folders)


def load_layouts(environment: Mapping[str, str] | None = None) -> tuple[LayoutFacts, ...]:
    """Read the layouts alone: to know their names, the variants need not be read.

    Raises:
        CatalogError: a file is damaged.
    """
    reading = _Reading()
    for folder in _folders(environment):
        reading.read_layouts(folder)
    return tuple(reading.layouts.values())


def _folders(environment: Mapping[str, str] | None) -> list[Path]:
    environment = os.environ if environment is None else environment
    own = environment.get(USER_MAPPINGS)
    return [builtin_folder(), _user_folder(own)] if own else [builtin_folder()]


def builtin_folder() -> Path:
    """The folder of the mapping files that come with the package."""
    # An installed package holds it; a plain checkout has it beside the package.
    package = Path(__file__).parent.parent
    installed = package / "mappings"
    return installed if installed.is_dir() else package.parent / "mappings"


def load_weights(path: Path, layouts: Sequence[str] = ()) -> Weights:
    """Read one file of ``weights/``.

    Args:
        path: the file.
        layouts: the layouts there are; with none, that is not looked at.

    Raises:
        CatalogError: with every problem of the file, each at its line.
    """
    document = Document(path)
    root = document.root
    weights = read_weights(root, layouts)
    _require_named_as_file(root, weights.id, path)
    if weights.id and not (weights.architecture and weights.id.partition(".")[2]):
        root.problem(f"id is {weights.id!r}: expected 'architecture.tag'", "id")
    root.close()
    document.finish()
    return weights


class _Reading(Struct):
    """What the folders say so far; a later folder is laid over the earlier ones."""

    schemes: dict[str, dict[str, dict[str, str]]] = {}
    layouts: dict[str, LayoutFacts] = {}
    programs: dict[str, Program] = {}
    lookalikes: list[Lookalike] = []
    families: dict[str, tuple[Path, ...]] = {}
    variants: dict[str, Variant] = {}
    weights: dict[str, Weights] = {}
    paths: dict[str, Path] = {}

    def read(self, folder: Path) -> None:
        """Read one folder over what was read before."""
        if (folder / "tables").is_dir():
            raise CatalogError(
                "family tables are no longer read from tables/",
                where=str(folder / "tables"),
                expected="families/<family>.toml; what a layout appends to names, and who reads it, in layouts.toml",
                next_step="docs/how-to/mapping-files.md shows a layout added as a column of its own",
            )
        self.read_layouts(folder)
        for path in sorted(folder.glob("families/*.toml")):
            self.families[path.stem] = (*self.families.get(path.stem, ()), path)
        for path in sorted(folder.glob("*.toml")):
            if path.name != "layouts.toml":
                self._read_single_file(path)
        for path in sorted(folder.glob("architectures/*.toml")):
            variant = self._architecture_file(path)
            self.variants[variant.id], self.paths[variant.id] = variant, path
        paths = sorted(folder.glob("weights/*.toml"))
        for weights, path in sorted(((load_weights(each, tuple(self.layouts)), each) for each in paths), key=_place):
            self.weights[weights.id], self.paths[weights.id] = weights, path

    def catalog(self, folders: Sequence[Path]) -> Catalog:
        """Put together what was read."""
        for weights in self.weights.values():
            self._attach(weights)
        ordered = dict(sorted(self.variants.items(), key=lambda item: self._order(item[1])))
        return Catalog(
            variants=MappingProxyType(ordered),
            layouts=MappingProxyType(self.layouts),
            programs=MappingProxyType(self.programs),
            families=MappingProxyType(self.families),
            lookalikes=tuple(self.lookalikes),
            folders=tuple(folders),
            names=MappingProxyType(self._names(ordered)),
        )

    def _attach(self, weights: Weights) -> None:
        known = self.variants.get(weights.architecture) or unlisted_variant(weights.architecture, self.programs)
        if known is None:
            path = self.paths[weights.id]
            raise CatalogError(
                f"there is no architecture {weights.architecture!r}",
                where=f"{path}:{Document(path).line_of(('id',))}",
                next_step=f"add architectures/{weights.architecture}.toml",
            )
        self.variants[known.id] = replace(known, weights=(*known.weights, weights))

    def _order(self, variant: Variant) -> tuple[int, int, bool, int, int, str]:
        """The order of the official table: by family, then by size."""
        architecture = variant.architecture
        families = list(dict.fromkeys(family for program in self.programs.values() for family in program.families))
        family = families.index(architecture.family) if architecture.family in families else len(families)
        makers = [architecture.family in each.families and each.as_computed(architecture) == architecture
                  for each in self.programs.values()]  # fmt: skip
        program = makers.index(True) if any(makers) else len(makers)
        return (
            family,
            program,
            architecture.cardinality > 1,
            architecture.depth,
            architecture.scales,
            variant.id,
        )

    def _names(self, variants: Mapping[str, Variant]) -> dict[str, tuple[str, str | None]]:
        owners: dict[str, tuple[str, str | None]] = {}
        for owner, name in _all_names(variants):
            other = owners.setdefault(normalise(name), owner)
            if other != owner:
                raise CatalogError(
                    f"the name {name!r} is claimed by two variants",
                    where="\n            ".join(self._where_named(each, name) for each in (other, owner)),
                    got=f"{other[1] or other[0]} and {owner[1] or owner[0]}",
                    next_step="take it out of one of the two files",
                )
        return owners

    def _where_named(self, owner: tuple[str, str | None], name: str) -> str:
        """The file and line at which a variant or weights claim a name."""
        path = self.paths[owner[1] or owner[0]]
        root = Document(path)
        keys = {normalise(str(root.root.values.get(key))): key for key in ("name", "id")}
        return f"{path}:{root.line_of((keys.get(normalise(name), 'aliases'),))}"

    def read_layouts(self, folder: Path) -> None:
        """Read the layouts of one folder, if it has any, over what was read before."""
        path = folder / "layouts.toml"
        if not path.is_file():
            return
        document = Document(path)
        root = document.root
        schemes = root.section("suffixes", required=False)
        for scheme in schemes.values:
            self.schemes[scheme] = read_scheme(schemes.section(scheme))
        programs = root.section("programs", required=False)
        for key in programs.values:
            self.programs[key] = read_program(programs.section(key), key, self.programs)
        layouts = root.section("layouts", required=False)
        for name in layouts.values:
            self.layouts[name] = self._layout(layouts.section(name), name)
        for section in root.sections("lookalikes", required=False):
            self.lookalikes.append(Lookalike(section.text("name"), section.text("is"), section.text("layers", "")))
            section.close()
        root.close()
        document.finish()

    def _layout(self, section: Section, name: str) -> LayoutFacts:
        scheme = section.choice("suffixes", tuple(self.schemes))
        layout = LayoutFacts(
            name=name,
            reader=section.text("reader"),
            program=section.choice("program", tuple(self.programs)),
            suffixes=self.schemes.get(scheme, {}),
            form=section.choice("linear", FORMS) if section.has("linear") else None,
            written_as=section.texts("written_as", required=False),
            absent=section.text("absent", ""),
            caution=section.text("caution", ""),
            wrapper=read_wrapper(section.section("wrapper")) if section.has("wrapper") else None,
        )
        section.close()
        return layout

    def _architecture_file(self, path: Path) -> Variant:
        document = Document(path)
        root = document.root
        family = root.choice("family", tuple(self.families))
        program = self.programs.get(root.choice("program", tuple(self.programs))) if root.has("program") else None
        geometry = root.section("geometry")
        variant = Variant(
            id=root.text("id"),
            name=root.text("name"),
            aliases=root.texts("aliases", required=False),
            architecture=read_architecture(geometry, family, program),
            note=root.text("note", ""),
        )
        if program is not None and family and family not in program.families:
            root.problem(f"{program.name} has no family {family!r}", "program")
        _require_named_as_file(root, variant.id, path)
        root.close()
        document.finish()
        return variant

    def _read_single_file(self, path: Path) -> None:
        """A network of the user's in one file: architecture, files and published numbers, as before."""
        document = Document(path)
        root = document.root
        section = root.section("architecture")
        section.text("family")
        table = root.text("table")
        family = _FORMER_TABLES.get(table, table)
        published = root.section("published", required=False)
        variant = Variant(
            id=root.text("id"),
            name=root.text("name"),
            aliases=root.texts("aliases", required=False),
            architecture=read_architecture(section, family, None),
            note=root.text("note", ""),
        )
        sources = [
            read_source(each, variant.id, tuple(self.layouts)) for each in root.sections("sources", required=False)
        ]
        claims = [read_claim(each, variant.id, None) for each in published.sections("claims", required=False)]
        if table and family not in self.families:
            root.problem(f"there is no family {table!r}; known are {', '.join(self.families)}", "table")
        published.close()
        root.close()
        _require_named_as_file(root, variant.id, path)
        document.finish()
        for former in [each for each in self.weights if each.partition(".")[0] == variant.id]:
            del self.weights[former]
        self.variants[variant.id], self.paths[variant.id] = variant, path
        for publisher in dict.fromkeys([each.publisher for each in sources] + [each.publisher for each in claims]):
            weights = Weights(
                id=f"{variant.id}.{publisher}",
                name="",
                aliases=(),
                publisher=publisher,
                protocol=Protocol(pipeline="opencv" if publisher == "paddle" else "pil"),
                sources=tuple(each for each in sources if each.publisher == publisher),
                claims=tuple(each for each in claims if each.publisher == publisher),
            )
            self.weights[weights.id], self.paths[weights.id] = weights, path


_FORMER_TABLES = {"res2next": "res2net", "res2net_vd": "res2net_v1b", "res2next_dla": "res2net_dla"}


def _place(loaded: tuple[Weights, Path]) -> int:
    """Where weights stand among those of a folder: the official table's, then those with numbers."""
    weights, _ = loaded
    if any(claim.source == OFFICIAL_TABLE for claim in weights.claims):
        return 0
    return 1 if weights.claims else 2


def _user_folder(value: str) -> Path:
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise CatalogError(f"{USER_MAPPINGS} must name a folder of mapping files", where=str(folder))
    return folder


def _require_named_as_file(root: Section, name: str, path: Path) -> None:
    if name and name != path.name.removesuffix(".toml"):
        root.problem(f"id is {name!r}, but the file is called {path.name!r}", "id")


def _all_names(variants: Mapping[str, Variant]) -> Iterator[tuple[tuple[str, str | None], str]]:
    for variant in variants.values():
        for name in (variant.id, variant.name, *variant.aliases):
            yield (variant.id, None), name
        for weights in variant.weights:
            for name in (weights.id, *([weights.name] if weights.name else []), *weights.aliases):
                yield (variant.id, weights.id), name
