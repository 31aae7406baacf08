"""Values of :mod:`r2convert.catalog.variant`, read from the tables of a mapping file and checked on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

from r2convert.catalog.document import Section
from r2convert.catalog.protocol import INTERPOLATIONS, PIPELINES, Protocol
from r2convert.catalog.variant import (
    IMAGENET_CLASSES,
    Architecture,
    Claim,
    Convention,
    Dataset,
    Deviation,
    DlaArchitecture,
    FileFormat,
    FirstBlock,
    Metric,
    Program,
    Semantics,
    Source,
    StagedArchitecture,
    Unit,
    Weights,
)
from r2convert.errors import UsageError

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

# A typo must be reported, not expanded into millions of names. A level doubles a tree's blocks.
_MOST_BLOCKS = 500
_MOST_LEVELS = 8
_MOST_SCALES = 64
_MOST_CHANNELS = 100_000


def read_scheme(section: Section) -> dict[str, dict[str, str]]:
    """What the tensors of each kind of module append to its name."""
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


def read_wrapper(section: Section) -> tuple[str, Mapping[str, str | bool]]:
    """What pickles of a layout hold the tensors in: the key, and what stands beside them."""
    beside = section.section("beside", required=False)
    values = {
        name: beside.flag(name) if type(value) is bool else beside.text(name) for name, value in beside.values.items()
    }
    key = section.text("key")
    section.close()
    return key, values


def read_program(section: Section, key: str, known: Mapping[str, Program]) -> Program:
    """A program; ``known`` are those that it may compute a family as."""
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


def read_architecture(section: Section, family: str, program: Program | None) -> Architecture:
    """What a network computes: its geometry, with what its program adds or the section itself says."""
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


def read_weights(root: Section, layouts: Sequence[str]) -> Weights:
    """Weights, from a file of their own; without ``layouts``, the name of a layout is not checked."""
    identifier, publisher = root.text("id"), root.text("publisher")
    published = root.section("published", required=False)
    printed_by = published.optional_text("source")
    weights = Weights(
        id=identifier,
        name=root.text("name", ""),
        aliases=root.texts("aliases", required=False),
        publisher=publisher,
        protocol=_protocol(root.section("protocol")) if root.has("protocol") else Protocol(),
        sources=tuple(
            read_source(each, identifier, layouts, publisher) for each in root.sections("files", required=False)
        ),
        claims=tuple(
            read_claim(each, identifier, printed_by, publisher) for each in published.sections("claims", required=False)
        ),
        classes=root.number("classes", IMAGENET_CLASSES),
        page=root.text("page", ""),
        detector=root.has("detector") and root.flag("detector"),
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


def read_source(section: Section, weights: str, layouts: Sequence[str], publisher: str | None = None) -> Source:
    """A published file; without ``publisher`` its table names one, and so whose weights it holds."""
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


def read_claim(section: Section, weights: str, source: str | None, publisher: str | None = None) -> Claim:
    """A published number; without ``publisher`` its table names one, and so whose weights it is about."""
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
        "counted": section.number("counted") if section.has("counted") else None,
    }
    if not any(reason for name, reason in values.items() if name != "note"):
        section.problem(
            "a deviation must say what explains it ('rounding', 'zeros', 'convention' or 'network') or what is counted"
        )
    section.close()
    return Deviation(**values)
