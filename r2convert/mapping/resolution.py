"""From an open checkpoint to the variant and layout it is to be read as, or a clear reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from r2convert.catalog.variant import Variant
from r2convert.checkpoint.reading import Checkpoint
from r2convert.errors import MappingError
from r2convert.mapping.expansion import Expansion
from r2convert.mapping.identification import (
    Difference,
    Identity,
    Shape,
    differ,
    find_prefixes,
    identify,
    match,
    nearest,
)
from r2convert.mapping.tables import Tables


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a checkpoint is read as.

    Args:
        expansion: the variant's tensors, for the file's number of classes.
        identity: variant, layout, classes, and whether the classifier is there.
    """

    expansion: Expansion
    identity: Identity


def shapes_of(checkpoint: Checkpoint) -> Mapping[str, Shape]:
    """Tensor name -> shape."""
    return {name: tensor.shape for name, tensor in checkpoint.tensors.items()}


def resolve(
    tables: Tables, checkpoint: Checkpoint, variant: Variant | None = None, layout: str | None = None
) -> Resolution:
    """Tell what a checkpoint is, or check that it is what the user says.

    Args:
        tables: the tables of the catalogue.
        checkpoint: the open file.
        variant: what the user says it holds, if anything.
        layout: whose names the user says it has, if anything.

    Raises:
        MappingError: it is none of the known networks, could be several, or is not what the user says; the
            message names the telling differences.
        UsageError: the variant does not exist in that layout.
    """
    if variant is not None and layout is not None:
        tables.require_layout(variant, layout)
    shapes = shapes_of(checkpoint)
    candidates = [
        identity for identity in identify(tables, shapes) if variant is None or identity.variant.id == variant.id
    ]
    if layout is not None:
        candidates = [
            fitting
            for identity in candidates
            if (fitting := match(tables.of(identity.variant), layout, shapes)) is not None
        ]
    if len(candidates) == 1:
        identity = candidates[0]
        return Resolution(tables.of(identity.variant, identity.classes), identity)
    if candidates:
        raise _ambiguous(checkpoint, candidates)
    raise _not_as_said(tables, checkpoint, shapes, variant, layout)


def _ambiguous(checkpoint: Checkpoint, candidates: list[Identity]) -> MappingError:
    return MappingError(
        "this file fits several variants: they have equal names and shapes",
        where=str(checkpoint.path),
        got=", ".join(identity.variant.id for identity in candidates),
        next_step="say which it is with --variant; only its numbers can prove it",
    )


def _not_as_said(
    tables: Tables, checkpoint: Checkpoint, shapes: Mapping[str, Shape], variant: Variant | None, layout: str | None
) -> MappingError:
    actual = identify(tables, shapes)
    found = " or ".join(f"{identity.variant.id} in the {identity.layout} layout" for identity in actual)
    if variant is None:
        if actual:
            assert layout is not None  # noqa: S101 - nothing was said that could exclude what was found
            return MappingError(
                f"this file is not in the {layout} layout",
                where=str(checkpoint.path),
                expected=f"names of the {layout} layout",
                got=found,
                next_step="leave out --from to use what was found",
            )
        return _unknown(tables, checkpoint, shapes)
    best, difference = _closest_layout(tables.of(variant), layout, shapes)
    return MappingError(
        f"this file is not {variant.id}" + (f": it is {found}" if found else ""),
        where=str(checkpoint.path),
        expected=f"{variant.id} in the {best} layout",
        got="\n            ".join(difference.lines()) or found,
        next_step="leave out --variant and --from to use what was found" if found else _INSPECT,
    )


def _unknown(tables: Tables, checkpoint: Checkpoint, shapes: Mapping[str, Shape]) -> MappingError:
    inside = find_prefixes(tables, shapes)
    if inside:
        prefix, identities = next(iter(inside.items()))
        return MappingError(
            "this file holds a Res2Net inside a larger network",
            where=str(checkpoint.path),
            got="; ".join(
                f"under {each!r}: {found[0].variant.id} in the {found[0].layout} layout"
                + ("" if found[0].has_classifier else ", a backbone")
                for each, found in inside.items()
            ),
            next_step=f"take it out with --prefix {prefix}"
            + ("" if identities[0].has_classifier else " --backbone-only"),
        )
    near = nearest(tables, shapes)
    if near is None:
        return MappingError(
            "this file holds no Res2Net that the catalogue knows: not one name is shared",
            where=str(checkpoint.path),
            got=f"{len(shapes)} tensors: {', '.join(list(shapes)[:4])} ...",
            next_step=_INSPECT,
        )
    expansion, layout, difference = near
    return MappingError(
        "this file holds no Res2Net that the catalogue knows",
        where=str(checkpoint.path),
        expected=f"for the nearest one, {expansion.variant.id} in the {layout} layout, no difference",
        got="\n            ".join(difference.lines()),
        next_step=_INSPECT,
    )


def _closest_layout(expansion: Expansion, layout: str | None, shapes: Mapping[str, Shape]) -> tuple[str, Difference]:
    layouts = expansion.table.layouts if layout is None else (layout,)
    differences = {each: differ(expansion, each, shapes) for each in layouts}
    best = min(differences, key=lambda each: differences[each].size)
    return best, differences[best]


_INSPECT = "`r2convert inspect --tensors FILE` lists what is in it; a network of your own needs a variant file"
