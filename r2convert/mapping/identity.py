"""What a file holds, and in which layout: told from names and shapes, never guessed.

A file *is* a variant in a layout when its names are exactly the layout's (counters of training batches may be
missing, the classifier may have another number of classes or be left out as a whole) and every shape fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from r2convert.catalog.variant import IMAGENET_CLASSES, Variant
from r2convert.checkpoint.open import Checkpoint
from r2convert.errors import MappingError
from r2convert.mapping.tables import Expansion, Slot, Tables

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is.

    Args:
        variant: the network.
        layout: whose names it has; where two layouts share all names, the first column of the table.
        classes: outputs of its classifier (those of ImageNet if it has none).
        has_classifier: whether it holds the classifier.
    """

    variant: Variant
    layout: str
    classes: int
    has_classifier: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """How a file differs from a layout of a variant.

    Args:
        missing: names that the layout has and the file has not.
        unexpected: names that the file has and the layout has not.
        reshaped: name -> (expected shape, shape in the file).
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: Mapping[str, tuple[Shape, Shape]]

    @property
    def size(self) -> int:
        """How many tensors differ."""
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    def lines(self) -> list[str]:
        """The difference in words, the most telling part first, long lists cut."""
        lines = [
            f"{name} has shape {_show(got)}, expected {_show(expected)}"
            for name, (expected, got) in list(self.reshaped.items())[:_SHOWN]
        ]
        if len(self.reshaped) > _SHOWN:
            lines.append(f"and {len(self.reshaped) - _SHOWN} other tensors have another shape")
        if self.missing:
            lines.append(f"missing: {_some(self.missing)}")
        if self.unexpected:
            lines.append(f"not expected: {_some(self.unexpected)}")
        return lines


def identify(tables: Tables, shapes: Shapes) -> tuple[Identity, ...]:
    """Every variant and layout that a file's names and shapes fit.

    Args:
        tables: the tables of the catalogue.
        shapes: tensor name -> shape, as stored in the file.

    Returns:
        No element: unknown. One: that is it. Several: they have equal names and shapes, and only the numbers
        could tell them apart.
    """
    found = []
    for variant in tables.catalog.variants.values():
        if not tables.could_have(variant, len(shapes)):
            continue
        expansion = tables.of(variant)
        for layout in expansion.table.layouts:
            identity = match(expansion, layout, shapes)
            if identity is not None:
                found.append(identity)
                break
    whole = tuple(identity for identity in found if identity.has_classifier)
    return whole or tuple(found)


def find_prefixes(tables: Tables, shapes: Shapes) -> Mapping[str, tuple[Identity, ...]]:
    """Networks inside a larger one: prefix -> what the tensors under it are.

    A prefix is tried where some name ends in a name that a layout has deep inside a block; what is under it is
    then identified like a whole file.
    """
    found: dict[str, tuple[Identity, ...]] = {}
    for prefix in sorted(_candidate_prefixes(tables, shapes)):
        inside = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        identities = identify(tables, inside)
        if identities:
            found[prefix] = identities
    return found


def match(expansion: Expansion, layout: str, shapes: Shapes) -> Identity | None:
    """What a file is if it is this variant in this layout, else ``None``."""
    has_classifier = any(name in shapes for name in _classifier_names(expansion, layout))
    difference = differ(expansion, layout, shapes, classifier=has_classifier)
    if difference.size:
        return None
    classes = _classes(expansion, layout, shapes)
    return Identity(expansion.variant, layout, classes or IMAGENET_CLASSES, has_classifier)


def differ(expansion: Expansion, layout: str, shapes: Shapes, *, classifier: bool = True) -> Difference:
    """Compare a file with a layout of a variant; the number of classes is taken from the file.

    Args:
        expansion: the variant.
        layout: the layout to compare with.
        shapes: tensor name -> shape, as stored in the file.
        classifier: whether the file has to hold the classifier.
    """
    classes = _classes(expansion, layout, shapes)
    slots = {
        name: slot
        for name, slot in expansion.names(layout).items()
        if classifier or not slot.role.startswith("linear.")
    }
    reshaped = {}
    for name, slot in slots.items():
        expected = _with_classes(expansion, layout, slot, classes)
        if name in shapes and shapes[name] != expected:
            reshaped[name] = (expected, shapes[name])
    return Difference(
        missing=tuple(name for name, slot in slots.items() if name not in shapes and not slot.is_counter),
        unexpected=tuple(name for name in shapes if name not in slots),
        reshaped=reshaped,
    )


def nearest(tables: Tables, shapes: Shapes) -> tuple[Expansion, str, Difference] | None:
    """The variant and layout that share most with a file, and how they differ; ``None`` if nothing is shared."""
    best: tuple[int, Expansion, str, Difference] | None = None
    for variant in tables.catalog.variants.values():
        expansion = tables.of(variant)
        for layout in expansion.table.layouts:
            difference = differ(expansion, layout, shapes)
            shared = len(shapes) - len(difference.unexpected)
            if shared and (best is None or difference.size < best[0]):
                best = (difference.size, expansion, layout, difference)
    return best[1:] if best else None


def _candidate_prefixes(tables: Tables, shapes: Shapes) -> set[str]:
    prefixes = set()
    for variant in tables.catalog.variants.values():
        expansion = tables.of(variant)
        for layout in expansion.table.layouts:
            anchor = max(expansion.names(layout), key=len)
            prefixes |= {name.removesuffix(anchor) for name in shapes if name.endswith(anchor)}
    return prefixes - {""}


def _classifier_names(expansion: Expansion, layout: str) -> list[str]:
    return [name for name, slot in expansion.names(layout).items() if slot.role.startswith("linear.")]


def _classes(expansion: Expansion, layout: str, shapes: Shapes) -> int | None:
    """The number of classes of a file that has this layout's classifier, told from its bias."""
    for name, slot in expansion.names(layout).items():
        if slot.role == "linear.bias" and len(shapes.get(name, ())) == 1:
            return shapes[name][0]
    return None


def _with_classes(expansion: Expansion, layout: str, slot: Slot, classes: int | None) -> Shape:
    shape = expansion.shape_in(layout, slot)
    if classes is None or not slot.role.startswith("linear."):
        return shape
    axis = 1 if expansion.form_in(layout, slot) == "transposed" else 0
    return (*shape[:axis], classes, *shape[axis + 1 :])


def _show(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _some(names: tuple[str, ...]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


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
