"""A conversion as a plan: every tensor of the source and of the target accounted for, nothing touched yet.

:func:`make_plan` is pure: it looks at names, shapes and dtypes only, and collects every problem it finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.variant import Architecture, Program, StagedArchitecture, Variant
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import MappingError
from r2convert.files import first_names
from r2convert.mapping.identity import Identity, Resolution, differ
from r2convert.mapping.tables import CANONICAL, Expansion, Slot, Tables

_SHOWN = 20
_UNREACHABLE = "unreachable"
_COUNTER = "num_batches_tracked"
_BACKBONE_ADVICE = "the file is a backbone: --backbone-only converts it without the classifier"
_WEIGHTS_ADVICE = "save the weights as floating-point numbers from the program that made the file"
_COUNTERS_ADVICE = "--leave-out '*num_batches_tracked' leaves out the counters, which evaluation does not use"


class PlanRow(Struct, frozen=True):
    """What happens to one tensor.

    Args:
        action: ``rename`` (source and target are set), ``drop`` (source only) or ``fill`` (target only).
        slot: the tensor of the network it is about.
        source: its name in the source file.
        target: its name in the target file.
        shape: the shape it has in the target (for ``drop``: in the source).
        reason: why it is dropped or what it is filled with.
    """

    action: Literal["rename", "drop", "fill"]
    slot: Slot
    source: str | None
    target: str | None
    shape: tuple[int, ...]
    reason: str = ""


class Plan(Struct, frozen=True):
    """A whole conversion.

    Args:
        expansion: the variant's tensors.
        source_layout: whose names the source has.
        target_layout: whose names the target gets.
        rows: every tensor, in network order.
        problems: what prevents the conversion, one line each; empty for a clean plan.
        warnings: what the user must know although the conversion is sound.
        advice: what to do about the problems.
        identity: what the source is, and why that is believed.
        left_out: tensors beside the network in the source: name and reason.
    """

    expansion: Expansion
    source_layout: str
    target_layout: str
    rows: tuple[PlanRow, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    advice: str | None = None
    identity: Identity | None = None
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def dropped(self) -> tuple[tuple[str, str], ...]:
        """Every tensor of the source that the target does not get: name and reason."""
        rows = ((row.source or "", row.reason) for row in self.rows_of("drop"))
        return (*rows, *self.left_out)

    def rows_of(self, action: str) -> tuple[PlanRow, ...]:
        """The rows of one action."""
        return tuple(row for row in self.rows if row.action == action)

    def require_clean(self, source: str) -> None:
        """Refuse a plan with problems.

        Raises:
            MappingError: with every problem.
        """
        if not self.problems:
            return
        shown = list(self.problems[:_SHOWN])
        if len(self.problems) > _SHOWN:
            shown.append(f"and {len(self.problems) - _SHOWN} more")
        raise MappingError(
            f"{source} cannot be converted as {self.expansion.variant.id} "
            f"from {self.source_layout} to {self.target_layout}",
            got="\n            ".join(shown),
            next_step=self.advice
            or f"`r2convert inspect {source}` says what the file is; --variant and --from override that",
        )


def make_plan(
    expansion: Expansion,
    source_layout: str,
    target_layout: str,
    tensors: Mapping[str, TensorInfo],
    *,
    backbone_only: bool = False,
) -> Plan:
    """Plan the conversion of a file.

    Args:
        expansion: the variant's tensors, expanded for the file's number of classes.
        source_layout: whose names the file has.
        target_layout: whose names it will get.
        tensors: the file's tensors by name.
        backbone_only: leave the classifier out, whether the file has one or not.

    Returns:
        The plan, with all problems found; nothing is raised for them.
    """
    route = _Route(expansion, source_layout, target_layout, backbone_only)
    rows: list[PlanRow] = []
    problems: list[str] = []
    for slot in expansion.slots:
        row = route.row(slot, tensors)
        if isinstance(row, PlanRow):
            rows.append(row)
        elif row is not None:
            problems.append(row)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    has_classifier = not backbone_only or any(row.source and _is_classifier(row.slot) for row in rows)
    difference = differ(expansion, source_layout, shapes, classifier=has_classifier)
    slots = expansion.names(source_layout)
    read = {row.source: row.slot for row in rows if row.source}
    weights = dtype_problems({name: slot for name, slot in read.items() if not slot.is_counter}, tensors)
    counters = dtype_problems({name: slot for name, slot in read.items() if slot.is_counter}, tensors)
    lacks_classifier = bool(difference.missing) and all(_is_classifier(slots[name]) for name in difference.missing)
    return Plan(
        expansion,
        source_layout,
        target_layout,
        rows=tuple(rows),
        problems=(*difference.lines(), *problems, *weights, *counters),
        warnings=(),
        advice=_advice(lacks_classifier, weights, counters),
    )


def _advice(lacks_classifier: bool, weights: Sequence[str], counters: Sequence[str]) -> str | None:
    if lacks_classifier:
        return _BACKBONE_ADVICE
    return _WEIGHTS_ADVICE if weights else _COUNTERS_ADVICE if counters else None


def plan_conversion(
    tables: Tables,
    resolution: Resolution,
    target_layout: str,
    tensors: Mapping[str, TensorInfo],
    *,
    backbone_only: bool = False,
) -> Plan:
    """Plan the conversion of a file to what the target's reader can build.

    Args:
        tables: the tables of the catalogue.
        resolution: what the file is.
        target_layout: whose names it will get.
        tensors: the file's tensors by name.
        backbone_only: leave the classifier out, whether the file has one or not.

    Raises:
        UsageError: the reader of the target layout cannot build this network.
    """
    identity = resolution.identity
    tables.require_layout(identity.variant, target_layout)
    plan = make_plan(resolution.expansion, identity.layout, target_layout, tensors, backbone_only=backbone_only)
    return with_evidence(tables, plan, resolution)


def with_evidence(tables: Tables, plan: Plan, resolution: Resolution) -> Plan:
    """A plan completed with what the file is proven or presumed to be, and what its reader computes differently."""
    variant = resolution.identity.variant
    warnings = (
        *_not_built(tables, variant, plan.target_layout),
        *computed_differently(tables, variant, plan.target_layout),
        *_cautions(tables, plan),
    )
    return replace(plan, expansion=resolution.expansion, identity=resolution.identity, warnings=warnings)


def _not_built(tables: Tables, variant: Variant, layout: str) -> tuple[str, ...]:
    """A warning that mmpretrain, the reader of ``mm``, cannot build the network; for other layouts that is an error."""
    facts = tables.catalog.layouts[layout]
    program = tables.catalog.programs[facts.program]
    if program.builds(variant.architecture):
        return ()
    return (f"{facts.reader} cannot build {variant.id}: {program.cannot}. r2convert itself reads the file",)


def _cautions(tables: Tables, plan: Plan) -> tuple[str, ...]:
    """What the readers of both layouts compute differently for every network."""
    source, target = (tables.catalog.layouts[layout] for layout in (plan.source_layout, plan.target_layout))
    said = [source.doubt] if source.doubt and source is not target else []
    if target.caution:
        otherwise = f"{target.reader} computes something else with this file: {target.caution}"
        said.append(f"{otherwise}. Names and shapes fit, its features differ")
    return tuple(said)


def computed_differently(tables: Tables, variant: Variant, layout: str) -> tuple[str, ...]:
    """What the reader of a layout computes differently from a network, in words; equal names do not show it."""
    facts = tables.catalog.layouts[layout]
    clauses = differences(tables.catalog.programs[facts.program], variant.architecture)
    if not clauses:
        return ()
    said = f"{facts.reader} computes something else with {variant.id}: {'; '.join(clauses)}"
    return (f"{said}. Names and shapes fit, its features differ",)


def differences(program: Program, own: Architecture) -> list[str]:
    """What a program computes differently from a network that it can build, one clause each."""
    if not program.builds(own) or not isinstance(own, StagedArchitecture):
        return []
    theirs = program.as_computed(own)
    assert isinstance(theirs, StagedArchitecture)  # noqa: S101 - of the same family
    clauses = []
    if (own.first_block == "stage") != (theirs.first_block == "stage"):
        clauses.append(
            "it leaves out the stride-1 3x3 average pool that this network has in layer1.0"
            if own.first_block == "stage"
            else "it has a stride-1 3x3 average pool in layer1.0, which was not there when this network was trained"
        )
    if (own.first_block == "normal") != (theirs.first_block == "normal"):
        clauses.append(
            "it does not add hierarchically in layer1.0, where this network does"
            if own.first_block == "normal"
            else "it adds hierarchically in layer1.0, where this network does not"
        )
    if own.pool_counts_padding != theirs.pool_counts_padding:
        clauses.append(
            "its 3x3 average pools leave out the padding, which this network's count"
            if own.pool_counts_padding
            else "its 3x3 average pools count the padding, which this network's leave out"
        )
    return clauses


def canonical_plan(expansion: Expansion, layout: str, tensors: Mapping[str, TensorInfo]) -> Plan:
    """The conversion to the reference network's names: what a file is compared and digested by.

    Its ``rename`` rows without the counters are a file's content.
    """
    return make_plan(expansion, layout, CANONICAL, tensors)


def target_tensor(plan: Plan, row: PlanRow, source: TensorInfo) -> TensorInfo:
    """A source tensor as the target stores it: renamed, transposed or reshaped; no byte is copied."""
    tensor = source
    if plan.expansion.form_in(plan.source_layout, row.slot) == "transposed":
        tensor = tensor.transposed()
    if tensor.shape != row.slot.shape:
        tensor = tensor.reshaped(row.slot.shape)
    if plan.expansion.form_in(plan.target_layout, row.slot) == "transposed":
        tensor = tensor.transposed()
    if tensor.shape != row.shape:
        tensor = tensor.reshaped(row.shape)
    return tensor.renamed(row.target or source.name)


def fill_value(slot: Slot) -> float:
    """What fills a tensor that the source does not have: a layer that changes nothing, a counter at 0."""
    return 1.0 if slot.role in ("bn.weight", "bn.running_var") else 0.0


def fill_dtype(slot: Slot) -> DType:
    """The dtype of a filled tensor."""
    return DType.INT64 if slot.is_counter else DType.FLOAT32


class _Route(Struct, frozen=True):
    """From one layout of a variant to another."""

    expansion: Expansion
    source_layout: str
    target_layout: str
    backbone_only: bool

    def row(self, slot: Slot, tensors: Mapping[str, TensorInfo]) -> PlanRow | str | None:
        """One tensor's row; a problem; or ``None`` where neither side stores it or it is reported as missing."""
        source = slot.names.get(self.source_layout)
        target = slot.names.get(self.target_layout)
        left_out = self.backbone_only and _is_classifier(slot)
        if source is not None and source not in tensors:
            if not slot.is_counter:
                return None
            source = None
        if source is None:
            return None if target is None or left_out else self._fill(slot, target)
        if target is None or left_out:
            reason = "only the backbone was requested" if left_out else self.expansion.table.absent[self.target_layout]
            return PlanRow("drop", slot, source, None, self.expansion.shape_in(self.source_layout, slot), reason)
        return PlanRow("rename", slot, source, target, self.expansion.shape_in(self.target_layout, slot))

    def _fill(self, slot: Slot, target: str) -> PlanRow | str:
        reason = _fill_reason(self.expansion, slot)
        if reason is None:
            why = self.expansion.table.absent.get(self.source_layout, "not stored")
            return f"{target} has no source: {why}"
        return PlanRow("fill", slot, None, target, self.expansion.shape_in(self.target_layout, slot), reason)


def _is_classifier(slot: Slot) -> bool:
    return slot.role.startswith("linear.")


def _fill_reason(expansion: Expansion, slot: Slot) -> str | None:
    fills = expansion.table.fills
    if slot.canonical is None:
        return fills.get(_UNREACHABLE)
    return fills.get(_COUNTER) if slot.is_counter else None


def dtype_problems(slots: Mapping[str, Slot], tensors: Mapping[str, TensorInfo]) -> list[str]:
    """Weights that are not floating-point and counters that are not int64, one line per dtype.

    Args:
        slots: what the tensors are for, by their names in the file.
        tensors: the file's tensors by name.
    """
    wrong: dict[tuple[DType, str], list[str]] = {}
    for name, slot in slots.items():
        if name not in tensors:
            continue
        dtype = tensors[name].dtype
        if dtype is not DType.INT64 if slot.is_counter else not dtype.is_floating:
            expected = "int64" if slot.is_counter else "a floating-point dtype"
            wrong.setdefault((dtype, expected), []).append(name)
    return [
        f"{first_names(names)} {'is' if len(names) == 1 else 'are'} {dtype.value}, expected {expected}"
        for (dtype, expected), names in wrong.items()
    ]
