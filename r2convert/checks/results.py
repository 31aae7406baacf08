"""The result of a verification, one value a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from r2convert.checks.checks import Check, Verdict, overall
from r2convert.checks.counting import IMAGENET_INPUT, OperationCount
from r2convert.checks.parity import ParityResult
from r2convert.checks.wiring_check import WiringResult
from r2convert.evaluation.predictions import Accuracy


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """Everything found about one checkpoint.

    Args:
        variant: id of the network.
        checkpoint: path of the file, or ``None`` when the reference network alone was checked.
        sha256: digest of the file.
        content_hash: digest of the network it holds.
        layout: whose names it has.
        checks: what was checked, in order.
        accuracy: what was measured on images, if anything was.
        input_size: height and width of the image that operations were counted for.
        operations: what the network costs for one such image.
        wiring: how well what arrives at each BatchNorm fits what it remembers, if that was asked for.
        parity: how an independent implementation compares, if one was asked.
    """

    variant: str
    checkpoint: str | None
    sha256: str | None
    content_hash: str | None
    layout: str | None
    checks: tuple[Check, ...]
    accuracy: Accuracy | None = None
    input_size: tuple[int, int] = IMAGENET_INPUT
    operations: OperationCount | None = None
    wiring: WiringResult | None = None
    parity: ParityResult | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict over all checks."""
        return overall(check.verdict for check in self.checks)
