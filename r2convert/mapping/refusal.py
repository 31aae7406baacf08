"""Why a file is unknown, in words, and what to do about it.

Most unknown files hold a Res2Net all the same: inside a larger network, or with modules beside it. What can be taken
out, and with which options, is found by trying.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.catalog import Catalog
from r2convert.catalog.geometry import read_template
from r2convert.catalog.variant import Variant
from r2convert.checkpoint.open import Checkpoint
from r2convert.errors import LargerNetworkError, MappingError, R2ConvertError, UnsupportedCheckpointError
from r2convert.files import counted, first_names
from r2convert.mapping.identity import Difference, Identity, differ, fitting, identify
from r2convert.mapping.parsing import Shapes, read_architecture, tensor_name
from r2convert.mapping.tables import Expansion, Tables

_STEM_AND_CLASSIFIER = 2
_MOST_PATTERNS = 12
_LINES = "\n            "


class Inside(Struct, frozen=True):
    """A network among other tensors.

    Args:
        identity: what it is.
        prefix: what stands before its names.
        beside: shell patterns of what lies beside it under that prefix.
    """

    identity: Identity
    prefix: str
    beside: tuple[str, ...] = ()

    @property
    def options(self) -> str:
        """What takes it out on the command line."""
        prefix = [f"--prefix {shlex.quote(self.prefix)}"] if self.prefix else []
        return " ".join([*prefix, *(f"--leave-out {shlex.quote(pattern)}" for pattern in self.beside)])

    def __str__(self) -> str:
        within = f"under {self.prefix!r}: " if self.prefix else ""
        part = "" if self.identity.has_classifier else ", a backbone"
        beside = f", beside {', '.join(self.beside)}" if self.beside else ""
        return f"{within}{self.identity.variant.id} in the {self.identity.layout} layout{part}{beside}"


def why_unknown(
    tables: Tables, checkpoint: Checkpoint, shapes: Shapes, variant: Variant | None, layout: str | None
) -> R2ConvertError:
    """The error for a file that is unknown, or not what the user says.

    Args:
        tables: the tables of the catalogue.
        checkpoint: the open file.
        shapes: its tensor names and shapes.
        variant: what the user says it holds, if anything.
        layout: whose names the user says it has, if anything.
    """
    unread = _not_read(tables, checkpoint, shapes)
    if unread is not None:
        return unread
    actual = identify(tables, shapes)
    if variant is None and actual is None:
        return _unknown(tables, checkpoint, shapes)
    found = f"{actual.variant.id} in the {actual.layout} layout" if actual else ""
    if variant is None:
        return MappingError(
            f"this file is not in the {layout} layout",
            where=str(checkpoint.path),
            expected=f"names of the {layout} layout",
            got=found,
            next_step="leave out --from to use what was found",
        )
    best, difference = _closest_layout(tables.of(variant), layout, shapes)
    return MappingError(
        f"this file is not {variant.id}" + (f": it is {found}" if found else ""),
        where=str(checkpoint.path),
        expected=f"{variant.id} in the {best} layout",
        got=_LINES.join(difference.lines()) or found,
        next_step="leave out --variant and --from to use what was found" if found else _listing(checkpoint),
    )


def _not_read(tables: Tables, checkpoint: Checkpoint, shapes: Shapes) -> R2ConvertError | None:
    """The error for a file whose network is partly stored in tensors of kinds that are not read."""
    unread = checkpoint.unread
    whole = {**shapes, **{name: each.shape for name, each in unread.items() if each.shape is not None}}
    identity = identify(tables, whole) if unread else None
    if identity is None:
        return None
    kinds = sorted({each.kind for each in unread.values()})
    return UnsupportedCheckpointError(
        "tensors of the network are of a kind that is not read",
        where=str(checkpoint.path),
        expected=f"the tensors of {identity.variant.id} in a plain element type",
        got=f"{first_names(unread)}: {', '.join(kinds)}",
        next_step="cast them with the program that wrote the file, and save them again",
    )


def _closest_layout(expansion: Expansion, layout: str | None, shapes: Shapes) -> tuple[str, Difference]:
    layouts = expansion.table.layouts if layout is None else (layout,)
    differences = {each: differ(expansion, each, shapes) for each in layouts}
    best = min(differences, key=lambda each: differences[each].size)
    return best, differences[best]


def _unknown(tables: Tables, checkpoint: Checkpoint, shapes: Shapes) -> MappingError:
    where = str(checkpoint.path)
    asked = checkpoint.prefix_asked
    inside = [replace(each, prefix=asked + each.prefix) for each in networks_inside(tables, shapes)]
    if inside:
        first = inside[0]
        which = "it" if len(inside) == 1 else "the first one"
        backbone = "" if first.identity.has_classifier else "; map needs --backbone-only too"
        error = LargerNetworkError(
            "this file holds a Res2Net inside a larger network"
            if first.prefix
            else "this file holds a Res2Net and more",
            where=where,
            got="; ".join(map(str, inside)),
            next_step=f"{first.options} takes {which} out{backbone}",
        )
        error.which = which
        error.options = first.options + ("" if first.identity.has_classifier else " --backbone-only")
        return error
    empty = [name for name, shape in shapes.items() if 0 in shape]
    if len(empty) * 2 > len(shapes):
        return MappingError(
            "most tensors of this file are empty: the program that saved it keeps their values in other files",
            where=where,
            got=first_names(empty),
            next_step="join them, those of DeepSpeed's ZeRO stage 3 with its zero_to_fp32.py, and give the result",
        )
    other = lookalike(tables.catalog, shapes)
    if other is not None:
        return MappingError(
            f"this file holds {other}",
            where=where,
            expected="a Res2Net of a known family",
            got=f"{counted(len(shapes), 'tensor')}: {first_names(shapes)}",
        )
    near = nearest(tables, shapes)
    if near is None:
        return MappingError(
            "this file holds no Res2Net that the catalogue knows: not one name is shared",
            where=where,
            got=f"{counted(len(shapes), 'tensor')}: {first_names(shapes)}",
            next_step=f"if it holds one under other names, {_learning(checkpoint)}",
        )
    expansion, layout, difference = near
    renamed = difference.missing and difference.unexpected
    return MappingError(
        "this file holds no Res2Net that the catalogue knows; "
        f"the nearest is {expansion.variant.id} in the {layout} layout",
        where=where,
        got=_LINES.join(difference.lines()),
        next_step=_listing(checkpoint)
        + (f"; if its names are another program's, {_learning(checkpoint)}" if renamed else ""),
    )


def _learning(checkpoint: Checkpoint) -> str:
    return f"`r2convert layout {shlex.quote(str(checkpoint.path))} --like ARCHITECTURE` learns them"


def _listing(checkpoint: Checkpoint) -> str:
    return f"`r2convert inspect --tensors {shlex.quote(str(checkpoint.path))}` lists what is in it"


def networks_inside(tables: Tables, shapes: Shapes) -> tuple[Inside, ...]:
    """Networks inside a larger one, or beside other modules.

    A prefix is tried where some name ends in the name of a family's split; what is under it is then identified like a
    whole file. Only where that finds nothing, modules beside a network's own are left out.
    """
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for prefix in ("", *sorted(_candidate_prefixes(tables, shapes))):
        parts[prefix] = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    found = [
        Inside(identity, prefix)
        for prefix, part in parts.items()
        if prefix and (identity := identify(tables, part)) is not None
    ]
    if not found:
        found = [
            inside for prefix, part in parts.items() if (inside := _among_others(tables, prefix, part)) is not None
        ]
    return tuple(found)


def _candidate_prefixes(tables: Tables, shapes: Shapes) -> set[str]:
    prefixes = set()
    for family in tables.catalog.families:
        table = tables.table(family)
        for layout in table.layouts:
            for row in table.rows:
                template = tensor_name(table, row.names.get(layout), row.kind, layout)
                if row.each == "network" and template:
                    prefixes |= {name.removesuffix(template) for name in shapes if name.endswith(template)}
    return prefixes - {""}


def _among_others(tables: Tables, prefix: str, shapes: Shapes) -> Inside | None:
    """A whole network with other modules beside its stages: an attention module, another head."""
    for expansion, layout in _read_as(tables, shapes):
        for classifier in (True, False):
            difference = differ(expansion, layout, shapes, classifier=classifier)
            if difference.missing or difference.reshaped:
                continue
            own = [name for name, slot in expansion.names(layout).items() if not slot.role.startswith("linear.")]
            patterns = _patterns(own, difference.unexpected)
            left = {name: shape for name, shape in shapes.items() if not _matches(name, patterns)}
            identity = identify(tables, left) if patterns else None
            if identity is not None:
                return Inside(identity, prefix, patterns)
    return None


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _patterns(own: Sequence[str], extra: Iterable[str]) -> tuple[str, ...]:
    """Patterns of modules beside a network's; none if one lies in a stage, which makes it another network."""
    patterns: dict[str, None] = {}
    separator = "." if any("." in each for each in own) else "_"
    for name in extra:
        module, found, rest = name.partition(separator)
        while found and all(each.startswith(module + separator) for each in own):
            part, found, rest = rest.partition(separator)
            module += separator + part
        if any(each.startswith(module + separator) for each in own):
            return ()
        patterns[f"{module}{separator}*" if found else module] = None
    return tuple(patterns) if len(patterns) <= _MOST_PATTERNS else ()


def _read_as(tables: Tables, shapes: Shapes) -> Iterator[tuple[Expansion, str]]:
    """What names and shapes can be read as, whether they fit or not."""
    for family in tables.catalog.families:
        table = tables.table(family)
        for layout in table.layouts:
            architecture = read_architecture(tables.catalog, table, layout, shapes)
            fits = fitting(tables.catalog, layout, architecture) if architecture else ()
            if fits:
                yield tables.of(fits[0]), layout


def lookalike(catalog: Catalog, shapes: Shapes) -> str | None:
    """Describe a file with the names of another known network, such as a plain ResNet."""
    for other in catalog.lookalikes:
        if any(read_template(other.name, name) is not None for name in shapes):
            layers = sum(read_template(other.layers, name) is not None for name in shapes) if other.layers else 0
            return other.description.replace("{depth}", str(layers + _STEM_AND_CLASSIFIER))
    return None


def nearest(tables: Tables, shapes: Shapes) -> tuple[Expansion, str, Difference] | None:
    """The network and layout that share most with a file, and how they differ; ``None`` if nothing is shared."""
    best: tuple[int, Expansion, str, Difference] | None = None
    for expansion, layout in (*_read_as(tables, shapes), *_listed(tables)):
        difference = differ(expansion, layout, shapes)
        shared = len(shapes) - len(difference.unexpected)
        if shared and (best is None or difference.size < best[0]):
            best = (difference.size, expansion, layout, difference)
    return best[1:] if best else None


def _listed(tables: Tables) -> Iterator[tuple[Expansion, str]]:
    """Every variant of the catalogue in every layout."""
    for variant in tables.catalog.variants.values():
        expansion = tables.of(variant)
        for layout in expansion.table.layouts:
            yield expansion, layout
