"""What a file holds, and in which layout: read off its names and shapes.

A family's table parses the names of a file; depth, width, scales, cardinality, channels of the input and classes are
read off names and shapes. The network is then expanded and checked exactly: a file *is* in a layout when its names are
exactly the layout's (batch counters may be missing, the classifier may have another number of classes or be absent as a
whole) and every shape fits.

Equal names and shapes do not make two networks equal. Where several programs compute different things with the same
names, the file is presumed to be what the layout's own program computes, and the others that fit are named with it;
:mod:`r2convert.mapping.evidence` weighs further evidence.

:func:`resolve` goes from a file's names to what it is, or why it is refused; the functions that it uses follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.catalog import Catalog
from r2convert.catalog.variant import IMAGENET_CLASSES, Architecture, StagedArchitecture, Variant, Weights
from r2convert.checkpoint.open import Checkpoint
from r2convert.files import first_names
from r2convert.mapping.parsing import Shape, Shapes, read_architecture, show_shape
from r2convert.mapping.tables import Expansion, Slot, Tables

_SHOWN = 4


class Identity(Struct, frozen=True):
    """What a file is.

    Args:
        variant: the network that is proven, or else presumed.
        layout: whose names it has; where two layouts share all names, the first column of the table.
        classes: outputs of its classifier (those of ImageNet if it has none).
        has_classifier: whether it holds the classifier.
        fits: every network with these names and shapes, the presumed one first.
        evidence: why it is believed to be this network, in one line.
        proven: whether that is more than a presumption; a network that nothing else fits is proven by its names.
        weights: whose weights it holds, where that is proven.
    """

    variant: Variant
    layout: str
    classes: int
    has_classifier: bool
    fits: tuple[Variant, ...]
    evidence: str
    proven: bool
    weights: Weights | None = None


class Resolution(Struct, frozen=True):
    """What a checkpoint is read as.

    Args:
        expansion: the variant's tensors, for the file's number of classes.
        identity: variant, layout, classes, whether the classifier is there, and the evidence.
    """

    expansion: Expansion
    identity: Identity


class Difference(Struct, frozen=True):
    """How a file differs from a layout of a variant.

    Args:
        missing: names that the layout has and the file does not.
        unexpected: names that the file has and the layout does not.
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
            f"{name} has shape {show_shape(got)}, expected {show_shape(expected)}"
            for name, (expected, got) in list(self.reshaped.items())[:_SHOWN]
        ]
        if len(self.reshaped) > _SHOWN:
            lines.append(f"and {len(self.reshaped) - _SHOWN} other tensors have another shape")
        if self.missing:
            lines.append(f"missing: {first_names(self.missing)}")
        if self.unexpected:
            lines.append(f"not expected: {first_names(self.unexpected)}")
        return lines


def resolve(
    tables: Tables, checkpoint: Checkpoint, variant: Variant | None = None, layout: str | None = None
) -> Resolution:
    """Tell what a checkpoint is, or check that it is what the user says.

    Args:
        tables: the tables of the catalogue.
        checkpoint: the open file.
        variant: what the user says it holds, if anything: that is evidence among the networks that fit.
        layout: whose names the user says it has, if anything.

    Raises:
        MappingError: it is no Res2Net of a known family, or not what the user says; the message names the telling
            differences.
        UnsupportedCheckpointError: it would be one, but tensors of it are of kinds that are not read.
        UsageError: the variant does not exist in that layout.
    """
    if variant is not None and layout is not None:
        tables.require_layout(variant, layout)
    shapes = shapes_of(checkpoint)
    identity = identify(tables, shapes)
    if identity is not None and layout is not None and layout != identity.layout:
        fits = fitting(tables.catalog, layout, identity.variant.architecture)
        known = layout in tables.table(identity.variant.architecture.family).layouts
        identity = match(tables, fits, layout, shapes) if known and fits else None
    if identity is not None and variant is not None:
        identity = _as_said(tables, identity, variant)
    if identity is None:
        from r2convert.mapping.refusal import why_unknown  # here: it uses this module, for files that are not known

        raise why_unknown(tables, checkpoint, shapes, variant, layout)
    return Resolution(tables.of(identity.variant, identity.classes), identity)


def identify(tables: Tables, shapes: Shapes) -> Identity | None:
    """What a file's names and shapes say it is.

    Args:
        tables: the tables of the catalogue.
        shapes: tensor name -> shape, as stored in the file.

    Returns:
        The network that the layout's own program makes of them, with all others that fit; ``None``: unknown.
    """
    for family in tables.catalog.families:
        table = tables.table(family)
        for layout in table.layouts:
            architecture = read_architecture(tables.catalog, table, layout, shapes)
            if architecture is None:
                continue
            fits = fitting(tables.catalog, layout, architecture)
            identity = match(tables, fits, layout, shapes) if fits else None
            if identity is not None:
                return identity
    return None


def fitting(catalog: Catalog, layout: str, architecture: Architecture) -> tuple[Variant, ...]:
    """Every network with the names and the geometry of an architecture, the one of the layout's own program first."""
    own = catalog.programs[catalog.layouts[layout].program]
    programs = [own, *(program for program in catalog.programs.values() if program is not own)]
    found: dict[Architecture, Variant] = {}
    for program in programs:
        if program.builds(architecture):
            computed = program.as_computed(architecture)
            found.setdefault(computed, catalog.variant_of(computed, program))
    geometry = own.as_computed(architecture) if own.builds(architecture) else architecture
    for variant in catalog.variants.values():
        # A mapping file may describe a network that no program makes of its names.
        if variant.architecture.family == architecture.family and variant.architecture not in found:
            same = _geometry(variant.architecture) == _geometry(geometry)
            found.update({variant.architecture: variant} if same else {})
    return tuple(found.values())


def _geometry(architecture: Architecture) -> tuple[object, ...]:
    """What names and shapes tell of an architecture."""
    common = (architecture.base_width, architecture.scales, architecture.cardinality, architecture.in_channels)
    if isinstance(architecture, StagedArchitecture):
        return (*common, architecture.stage_blocks)
    return (*common, architecture.levels, architecture.channels)


def match(tables: Tables, fits: tuple[Variant, ...], layout: str, shapes: Shapes) -> Identity | None:
    """What a file is if it has the names and shapes of these variants in this layout, else ``None``."""
    expansion = tables.of(fits[0])
    has_classifier = any(name in shapes for name in _classifier_names(expansion, layout))
    if differ(expansion, layout, shapes, classifier=has_classifier).size:
        return None
    classes = _classes(expansion, layout, shapes) or IMAGENET_CLASSES
    return Identity(fits[0], layout, classes, has_classifier, fits, by_names(tables.catalog, fits), len(fits) == 1)


def _as_said(tables: Tables, identity: Identity, variant: Variant) -> Identity | None:
    """The identity with the user's choice of variant; ``None`` if names and shapes contradict that."""
    said = next((each for each in identity.fits if each.architecture == variant.architecture), None)
    if said is None:
        return None
    others = tuple(each for each in identity.fits if each is not said)
    evidence = f"{said.id}, as specified" if others else by_names(tables.catalog, (said,))
    return replace(identity, variant=said, fits=(said, *others), evidence=evidence, proven=True)


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


def _classifier_names(expansion: Expansion, layout: str) -> list[str]:
    return [name for name, slot in expansion.names(layout).items() if slot.role.startswith("linear.")]


def _classes(expansion: Expansion, layout: str, shapes: Shapes) -> int | None:
    """The number of classes of a file that has this layout's classifier, taken from its bias."""
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


def shapes_of(checkpoint: Checkpoint) -> Mapping[str, Shape]:
    """Tensor name -> shape."""
    return {name: tensor.shape for name, tensor in checkpoint.tensors.items()}


def by_names(catalog: Catalog, fits: tuple[Variant, ...]) -> str:
    """What names and shapes alone say, in one line."""
    presumed, others = fits[0], fits[1:]
    if not others:
        return f"{presumed.id}, by its names and shapes"
    return f"{presumed.id}, by its names; {have_the_same(catalog, others)}"


def have_the_same(catalog: Catalog, others: Sequence[Variant]) -> str:
    """The words for other networks with a file's names and shapes."""
    return f"{listed(catalog, others)} {'has' if len(others) == 1 else 'have'} the same"


def listed(catalog: Catalog, variants: Iterable[Variant]) -> str:
    """Networks, each with whose it is."""
    return " and ".join(f"{each.id} ({maker_of(catalog, each)})" for each in variants)


def maker_of(catalog: Catalog, variant: Variant) -> str:
    """Whose network a variant is."""
    for program in catalog.programs.values():
        if variant.architecture.family in program.families and (
            program.as_computed(variant.architecture) == variant.architecture
        ):
            return program.name
    return "a mapping file's"


def recogniser(tables: Tables) -> Callable[[Shapes], str | None]:
    """Return a function that names the network of some names and shapes, for a file with several state dicts."""

    def recognise(shapes: Shapes) -> str | None:
        found = identify(tables, shapes)
        return None if found is None else f"{found.variant.id} in the {found.layout} layout"

    return recognise
