"""What a results file says, as plain frozen values; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from r2convert.checks.checks import Check, Verdict, overall
from r2convert.evaluation.predictions import Confusion


@dataclass(frozen=True, slots=True)
class RecordedAccuracy:
    """What was measured on images; the fields are those of :class:`~r2convert.evaluation.predictions.Accuracy`."""

    images: int
    top1_correct: int
    top5_correct: int
    missing: int
    unreadable: int
    pipeline: str
    precision: str
    crops_sha256: str
    real_images: int = 0
    per_class: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    confusions: tuple[Confusion, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedBatchNorm:
    """How well what arrives at one BatchNorm fits what it remembers; ``None`` is what was no number.

    Args:
        name: its path in the network.
        mean_shift: how far the mean is off, in remembered standard deviations, median over channels.
        log_variance: how far the logarithm of the variance is off, median over channels.
        suspect: whether it disagrees.
    """

    name: str
    mean_shift: float | None
    log_variance: float | None
    suspect: bool


@dataclass(frozen=True, slots=True)
class RecordedWiring:
    """The wiring check.

    Args:
        pictures: how many were shown.
        source: the folder they are from, or ``None`` for drawn ones.
        layers: every BatchNorm, in network order.
    """

    pictures: int
    source: str | None
    layers: tuple[RecordedBatchNorm, ...]


@dataclass(frozen=True, slots=True)
class RecordedDifference:
    """How far two outputs of one layer are apart; ``None`` where they have no common measure.

    Args:
        name: its path in the reference network.
        max_abs_diff: the largest difference.
        relative: the same as a share of the largest value.
    """

    name: str
    max_abs_diff: float | None
    relative: float | None


@dataclass(frozen=True, slots=True)
class RecordedParity:
    """What came of asking an independent implementation.

    Args:
        peer: whom.
        version: its version.
        why_not: why nothing was compared, or the empty string.
        stages: outputs of the stages, in network order.
        layers: outputs of every layer, in network order.
    """

    peer: str
    version: str
    why_not: str
    stages: tuple[RecordedDifference, ...]
    layers: tuple[RecordedDifference, ...]


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """One checkpoint's results; the fields are those of :class:`~r2convert.checks.run.CheckpointResult`.

    Args:
        macs: multiply-adds for one image of 224x224, or ``None`` if they were counted for another size.
        operations: operations for such an image as mmcv counts them.
    """

    variant: str
    checkpoint: str | None
    sha256: str | None
    content_hash: str | None
    layout: str | None
    checks: tuple[Check, ...]
    accuracy: RecordedAccuracy | None
    macs: int | None
    operations: int | None
    wiring: RecordedWiring | None
    parity: RecordedParity | None

    @property
    def verdict(self) -> Verdict:
        """The verdict over all checks: told from them, not taken on trust."""
        return overall(check.verdict for check in self.checks)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One results file.

    Args:
        name: the file's name.
        sha256: its digest.
        command: the words of the command line that made it; empty if it does not say.
        environment: what it says of the machine, in its order.
        results: one a checkpoint.
    """

    name: str
    sha256: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    results: tuple[RecordedResult, ...]
