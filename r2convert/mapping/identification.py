"""Which variant a file holds, and in which layout: told from names and shapes, never guessed.

A file *is* a variant in a layout when its names are exactly the layout's (counters of training batches may be
missing, the classifier may have another number of classes or be left out as a whole) and every shape fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from r2convert.catalog.variant import Variant
from r2convert.mapping.expansion import IMAGENET_CLASSES, Expansion, Slot
from r2convert.mapping.tables import Tables

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
