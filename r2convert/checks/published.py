"""Parameters, FLOPs and activations of a variant, held against everything published about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from r2convert.catalog.variant import IMAGENET_CLASSES, Claim
from r2convert.checks.checks import Check, claim_check, judge_count
from r2convert.checks.counting import IMAGENET_INPUT, OperationCount, count_operations, shown_size
from r2convert.mapping.tables import CANONICAL, Expansion


@dataclass
class PublishedNumbers:
    """Counts of one variant and the claims on them.

    Args:
        expansion: the variant's tensors, with the classes of the file in hand.
        stored: elements of each tensor of the file, by the slot's key; ``None`` to count the reference network itself.
        input_size: height and width of the image to count operations for; claims are for 224x224.
    """

    expansion: Expansion
    stored: Mapping[str, int] | None = None
    input_size: tuple[int, int] = IMAGENET_INPUT
    _operations: dict[bool, OperationCount] = field(default_factory=dict)

    def checks(self) -> list[Check]:
        """Every claim on parameters, FLOPs and activations, in the order of the catalogue."""
        claims = [claim for claim in self.expansion.variant.claims if claim.metric in _JUDGED]
        return [self._check(claim) for claim in claims]

    def parameters(self, layout: str, *, statistics: bool = False) -> tuple[int, int]:
        """Count parameters as a layout stores them.

        Args:
            layout: whose tensors to count.
            statistics: count the running mean and variance of BatchNorms too.

        Returns:
            The parameters, and how many of them are in layers that the file at hand leaves out.
        """
        counted = absent = 0
        for slot in self.expansion.names(layout).values():
            if slot.is_counter or not (slot.is_learned or statistics):
                continue
            elements = prod(slot.shape)
            if self.stored is not None:
                absent += 0 if slot.key in self.stored else elements
                elements = self.stored.get(slot.key, elements)
            counted += elements
        return counted, absent

    def operations(self, *, unreachable: bool) -> OperationCount:
        """Operations for one image, with or without the layers whose result nothing reads."""
        if unreachable not in self._operations:
            self._operations[unreachable] = count_operations(
                self.expansion.variant,
                input_size=self.input_size,
                classes=self.expansion.classes,
                unreachable=unreachable,
            )
        return self._operations[unreachable]

    def operations_of(self, layout: str) -> OperationCount:
        """Operations for one image, of the layers that files in a layout store."""
        return self.operations(
            unreachable=any(slot.canonical is None for slot in self.expansion.names(layout).values())
        )

    def _check(self, claim: Claim) -> Check:
        if self.expansion.classes != IMAGENET_CLASSES:
            note = f"published for {IMAGENET_CLASSES} classes; this file has {self.expansion.classes}"
            return claim_check(claim, "not-comparable", None, note)
        layout = self._layout_of(claim)
        if claim.metric == "parameters":
            return self._check_parameters(claim, layout)
        return self._check_operations(claim, self.operations_of(layout))

    def _check_operations(self, claim: Claim, operations: OperationCount) -> Check:
        convention = "activations" if claim.metric == "activations" else claim.convention or "macs"
        measured = operations.by_convention(convention)
        if self.input_size != IMAGENET_INPUT:
            note = f"published for {shown_size(IMAGENET_INPUT)} images, counted for {shown_size(self.input_size)}"
            return claim_check(claim, "not-comparable", measured, note)
        explained = claim.deviation.convention if claim.deviation else None
        return judge_count(claim, measured, operations.by_convention(explained) if explained else None)

    def _check_parameters(self, claim: Claim, layout: str) -> Check:
        measured, absent = self.parameters(layout, statistics=claim.convention == "weights+statistics")
        note = f"{absent:,} of them in unreachable layers, which this file leaves out" if absent else ""
        return judge_count(claim, measured, note=note)

    def _layout_of(self, claim: Claim) -> str:
        """The layout of the file that a claim speaks of: publishers count what their own file stores."""
        for source in self.expansion.variant.sources:
            if source.publisher == claim.publisher and source.layout in self.expansion.table.layouts:
                return source.layout
        return CANONICAL


_JUDGED = ("parameters", "flops", "activations")
