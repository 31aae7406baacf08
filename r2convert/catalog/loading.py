"""Reading ``mappings/`` into the values of :mod:`r2convert.catalog.variant`.

Everything is checked while it is read; all problems of a file are reported together, with file and line. A folder of
the user's is laid over the built-in one: a file of the same name replaces the built-in one, except for ``layouts.toml``
and for a family file that only adds columns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from r2convert.catalog.document import Document, Section
from r2convert.catalog.geometry import read_template
from r2convert.catalog.protocol import INTERPOLATIONS, PIPELINES, Protocol
from r2convert.catalog.variant import (
    IMAGENET_CLASSES,
    OFFICIAL_TABLE,
    STANDARD_STAGES,
    Architecture,
    Claim,
    Convention,
    Dataset,
    Deviation,
    DlaArchitecture,
    FileFormat,
    FirstBlock,
    LayoutFacts,
    Lookalike,
    Metric,
    Program,
    Semantics,
    Source,
    StagedArchitecture,
    Unit,
    Variant,
    Weights,
)
from r2convert.errors import CatalogError, UnknownVariantError, UsageError

USER_MAPPINGS = "R2CONVERT_MAPPINGS"
ROLES: Mapping[str, tuple[str, ...]] = {
    "conv": ("weight",),
    "bn": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "linear": ("weight", "bias"),
}
"""Module kind -> the tensors such a module has."""

FORMS = ("transposed", "pointwise")
"""Ways a classifier weight is stored other than (classes, features): (features, classes), or as a 1x1
convolution (classes, features, 1, 1)."""

_COUNTED = ("parameters", "flops")
_COMPUTED: Mapping[str, tuple[str, ...]] = {
    "stem": ("conv7x7", "deep"),
    "shortcut": ("strided-conv", "pooled", "pooled-if-strided"),
    "first_block": get_args(FirstBlock),
}

_OFFERED = 6
"""Names that an error offers at most."""

# A slip of the keyboard must be told, not expanded into millions of names. A level doubles a tree's blocks.
_MOST_BLOCKS = 500
_MOST_LEVELS = 8
_MOST_SCALES = 64
_MOST_CHANNELS = 100_000


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that ``mappings/`` says.

    Args:
        variants: architecture id -> variant, in the order of the catalogue.
        layouts: layout name -> layout.
        programs: program id -> program, the authors' first.
        families: family -> the files that name its tensors: the table, then those that add columns.
        lookalikes: networks that are told from Res2Nets by a name.
        folders: where the files came from, first the built-in folder.
        names: normalised name or alias -> architecture id and, for the name of particular weights, their id.
    """

    variants: Mapping[str, Variant]
    layouts: Mapping[str, LayoutFacts]
    programs: Mapping[str, Program]
    families: Mapping[str, tuple[Path, ...]]
    lookalikes: tuple[Lookalike, ...]
    folders: tuple[Path, ...]
    names: Mapping[str, tuple[str, str | None]]

    @property
    def publishers(self) -> tuple[str, ...]:
        """Everybody whose weights are known."""
        return tuple(
            dict.fromkeys(weights.publisher for variant in self.variants.values() for weights in variant.weights)
        )

    def find(self, name: str) -> Variant:
        """The variant with this id, official name or alias; case, ``-``, ``_``, ``.`` and spaces do not matter.

        Returns:
            The variant. For the id of particular weights (``res2net50_w26_s8.timm``), it has those weights only.

        Raises:
            UnknownVariantError: no variant is called that; close names are offered.
        """
        key = normalise(name)
        if key in self.names:
            architecture, weights_id = self.names[key]
            variant = self.variants[architecture]
            if weights_id is None:
                return variant
            return replace(variant, weights=tuple(each for each in variant.weights if each.id == weights_id))
        from difflib import get_close_matches

        # The start of a name is a better hint than letters in common: `res2net101` means none of the 50-layer networks.
        longer = [each for each in self.names if each.startswith(key)] if key else []
        close = longer or get_close_matches(key, self.names, n=4, cutoff=0.6)
        offered = list(dict.fromkeys(self.names[each][0] for each in close))[:_OFFERED] or list(self.variants)
        raise UnknownVariantError(
            f"no variant is called {name!r}",
            expected=f"one of {', '.join(offered)}",
            next_step="`r2convert list` shows every variant and its names",
        )

    def find_architecture(self, name: str) -> Variant:
        """The variant that a user says a file is: one of the catalogue, or an id such as ``res2net152_v1b_w26_s4``.

        Raises:
            UnknownVariantError: no variant is called that, and no program calls one so.
        """
        try:
            return self.find(name)
        except UnknownVariantError:
            unlisted = unlisted_variant(name, self.programs)
            if unlisted is None:
                raise
            return unlisted

    def variant_of(self, architecture: Architecture, program: Program) -> Variant:
        """The variant with this architecture; one that no file lists is named by its program's pattern."""
        for variant in self.variants.values():
            if variant.architecture == architecture:
                return variant
        name = program.id_of(architecture)
        return Variant(name, name, (), architecture)


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
    weights = _weights(root, layouts)
    _require_named_as_file(root, weights.id, path)
    if weights.id and not (weights.architecture and weights.id.partition(".")[2]):
        root.problem(f"id is {weights.id!r}: expected 'architecture.tag'", "id")
    root.close()
    document.finish()
    return weights


def unlisted_variant(name: str, programs: Mapping[str, Program]) -> Variant | None:
    """The variant that an id means by the pattern of a program, for the usual depths."""
    for program in programs.values():
        for family, semantics in program.families.items():
            for pattern in (semantics.id, semantics.grouped_id):
                words = read_template(pattern, name) if pattern and semantics.computed else None
                if words is None or int(words["depth"]) not in STANDARD_STAGES:
                    continue
                architecture = StagedArchitecture(
                    family=family,
                    depth=int(words["depth"]),
                    stage_blocks=STANDARD_STAGES[int(words["depth"])],
                    base_width=int(words["base_width"]),
                    scales=int(words["scales"]),
                    cardinality=int(words.get("cardinality", 1)),
                    **semantics.computed,  # type: ignore[arg-type]
                )
                if program.id_of(architecture) == name and architecture.scales > 1:
                    return Variant(name, name, (), architecture)
    return None


def normalise(name: str) -> str:
    """A name without what people vary when they type it."""
    return re.sub(r"[-_. ]", "", name).lower()


@dataclass
class _Reading:
    """What the folders say so far; a later folder is laid over the earlier ones."""

    schemes: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    layouts: dict[str, LayoutFacts] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    lookalikes: list[Lookalike] = field(default_factory=list)
    families: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    variants: dict[str, Variant] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)

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
        for path in sorted(folder.glob("weights/*.toml")):
            weights = load_weights(path, tuple(self.layouts))
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
        together = sorted((*known.weights, weights), key=lambda each: not _is_in_official_table(each))
        self.variants[known.id] = replace(known, weights=tuple(together))

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
            self.schemes[scheme] = _scheme(schemes.section(scheme))
        programs = root.section("programs", required=False)
        for key in programs.values:
            self.programs[key] = _program(programs.section(key), key, self.programs)
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
            wrapper=_wrapper(section.section("wrapper")) if section.has("wrapper") else None,
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
            architecture=_architecture(geometry, family, program),
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
            architecture=_architecture(section, family, None),
            note=root.text("note", ""),
        )
        sources = [_source(each, variant.id, tuple(self.layouts)) for each in root.sections("sources", required=False)]
        claims = [_claim(each, variant.id, None) for each in published.sections("claims", required=False)]
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


def _is_in_official_table(weights: Weights) -> bool:
    return any(claim.source == OFFICIAL_TABLE for claim in weights.claims)


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


def _scheme(section: Section) -> dict[str, dict[str, str]]:
    scheme = {kind: _suffixes(section.section(kind), kind) for kind in ROLES}
    section.close()
    return scheme


def _suffixes(section: Section, kind: str) -> dict[str, str]:
    found = {role: section.text(role) for role in ROLES[kind] if section.has(role)}
    for role in ROLES[kind]:
        if role not in found and role != "num_batches_tracked":
            section.problem(f"a {kind} has a {role!r}, and no suffix is given for it")
    if len(set(found.values())) < len(found):
        section.problem(f"two tensors of a {kind} have the same suffix")
    section.close()
    return found


def _wrapper(section: Section) -> tuple[str, Mapping[str, str | bool]]:
    beside = section.section("beside", required=False)
    values = {
        name: beside.flag(name) if type(value) is bool else beside.text(name) for name, value in beside.values.items()
    }
    key = section.text("key")
    section.close()
    return key, values


def _program(section: Section, key: str, known: Mapping[str, Program]) -> Program:
    families = section.section("families")
    depths = section.values.get("depths", [])
    program = Program(
        id=key,
        name=section.text("name"),
        families={family: _of_family(families, family, known) for family in families.values},
        depths=section.numbers("depths", len(depths)) if section.has("depths") else (),
        metadata=section.texts("metadata", required=False),
        cannot=section.text("cannot", ""),
    )
    section.close()
    return program


def _of_family(families: Section, family: str, known: Mapping[str, Program]) -> Semantics:
    """What a program computes of a family: stated, or by the name of the program that computes the same."""
    if type(families.values[family]) is not str:
        return _semantics(families.section(family))
    same, _, ungrouped = families.text(family).partition(", ")
    if same not in known or family not in known[same].families or ungrouped not in ("", _UNGROUPED):
        families.problem(f"no program above computes {family!r} as {same!r} does", family)
        return Semantics("", None, {})
    semantics = known[same].families[family]
    return semantics._replace(grouped_id=None) if ungrouped else semantics


_UNGROUPED = "without cardinality"


def _semantics(section: Section) -> Semantics:
    computed = _computed(section) if section.has("stem") else {}
    semantics = Semantics(section.text("id"), section.optional_text("grouped_id"), computed)
    section.close()
    return semantics


def _computed(section: Section) -> dict[str, Any]:
    """What is computed beyond the geometry of a staged network."""
    computed: dict[str, Any] = {name: section.choice(name, allowed) for name, allowed in _COMPUTED.items()}
    return {**computed, "pool_counts_padding": section.flag("pool_counts_padding")}


def _architecture(section: Section, family: str, program: Program | None) -> Architecture:
    architecture: Architecture = _dla(section, family) if section.has("levels") else _staged(section, family, program)
    if architecture.scales < 2:
        section.problem("'scales' must be at least 2", "scales")
    section.close()
    return architecture


def _staged(section: Section, family: str, program: Program | None) -> StagedArchitecture:
    semantics = program.families.get(family) if program else None
    return StagedArchitecture(
        family=family,
        depth=section.number("depth"),
        stage_blocks=section.numbers("stage_blocks", 4, most=_MOST_BLOCKS),  # type: ignore[arg-type]
        base_width=section.number("base_width", most=_MOST_CHANNELS),
        scales=section.number("scales", most=_MOST_SCALES),
        cardinality=section.number("cardinality", most=_MOST_CHANNELS),
        in_channels=section.number("in_channels", 3, most=_MOST_CHANNELS),
        **(semantics.computed if semantics else _computed(section)),
    )


def _dla(section: Section, family: str) -> DlaArchitecture:
    return DlaArchitecture(
        family=family,
        levels=section.numbers("levels", 6, most=_MOST_LEVELS),  # type: ignore[arg-type]
        channels=section.numbers("channels", 6, most=_MOST_CHANNELS),  # type: ignore[arg-type]
        base_width=section.number("base_width", most=_MOST_CHANNELS),
        scales=section.number("scales", most=_MOST_SCALES),
        cardinality=section.number("cardinality", most=_MOST_CHANNELS),
        expansion=section.number("expansion", most=_MOST_CHANNELS),
        in_channels=section.number("in_channels", 3, most=_MOST_CHANNELS),
    )


def _weights(root: Section, layouts: Sequence[str]) -> Weights:
    identifier, publisher = root.text("id"), root.text("publisher")
    published = root.section("published", required=False)
    printed_by = published.optional_text("source")
    weights = Weights(
        id=identifier,
        name=root.text("name", ""),
        aliases=root.texts("aliases", required=False),
        publisher=publisher,
        protocol=_protocol(root.section("protocol")) if root.has("protocol") else Protocol(),
        sources=tuple(_source(each, identifier, layouts, publisher) for each in root.sections("files", required=False)),
        claims=tuple(
            _claim(each, identifier, printed_by, publisher) for each in published.sections("claims", required=False)
        ),
        classes=root.number("classes", IMAGENET_CLASSES),
        page=root.text("page", ""),
        note=root.text("note", ""),
    )
    published.close()
    return weights


def _protocol(section: Section) -> Protocol:
    usual = Protocol()
    values: dict[str, Any] = {
        "resize": section.number("resize", usual.resize),
        "crop": section.number("crop", usual.crop),
        "interpolation": section.choice("interpolation", INTERPOLATIONS, usual.interpolation),
        "pipeline": section.choice("pipeline", PIPELINES, usual.pipeline),
        "mean": section.fractions("mean", 3, usual.mean),
        "std": section.fractions("std", 3, usual.std),
    }
    section.close()
    try:
        return Protocol(**values)
    except UsageError as error:
        section.problem(f"{error.what}: {error.got}")
        return Protocol()


def _source(section: Section, weights: str, layouts: Sequence[str], publisher: str | None = None) -> Source:
    owner = publisher or section.text("publisher")
    layout = section.choice("layout", layouts) if layouts else section.text("layout")
    values: dict[str, Any] = {
        "publisher": owner,
        "weights": weights if publisher else f"{weights}.{owner}",
        "layout": layout,
        "format": section.choice("format", get_args(FileFormat)),
        "file_name": section.text("file_name"),
        "urls": section.texts("urls"),
        "sha256_prefix": _digest(section, "sha256_prefix", 8),
        "sha256": _digest(section, "sha256", 64),
        "size": section.number("size") if section.has("size") else None,
        "content_hash": section.optional_text("content_hash"),
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


def _claim(section: Section, weights: str, source: str | None, publisher: str | None = None) -> Claim:
    metric = section.choice("metric", get_args(Metric))
    owner = publisher or section.text("publisher")
    values: dict[str, Any] = {
        "source": section.text("source", source),
        "publisher": owner,
        "weights": weights if publisher else f"{weights}.{owner}",
        "metric": metric,
        "printed": section.text("printed"),
        "unit": section.choice("unit", get_args(Unit)),
        "convention": section.choice("convention", get_args(Convention)) if metric in _COUNTED else None,
        "deviation": _deviation(section) if section.has("deviation") else None,
        "dataset": section.choice("dataset", get_args(Dataset), "imagenet"),
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
        "zeros": section.number("zeros") if section.has("zeros") else 0,
        "convention": section.choice("convention", get_args(Convention)) if section.has("convention") else None,
        "network": section.optional_text("network"),
    }
    if not any(reason for name, reason in values.items() if name != "note"):
        section.problem("a deviation must say what explains it: 'rounding', 'zeros', 'convention' or 'network'")
    section.close()
    return Deviation(**values)
