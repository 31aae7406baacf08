"""A verification as a JSON document, schema ``r2convert.verify/1``; fields may be added, never changed."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from math import isfinite

import torch

from r2convert.checks.checks import overall
from r2convert.checks.parity import ActivationComparison, OutputDifference, ParityResult
from r2convert.checks.run import CheckpointResult
from r2convert.checks.wiring import WiringResult

SCHEMA = "r2convert.verify/1"


def results_document(
    results: Sequence[CheckpointResult],
    device: str | None = None,
    *,
    by_layer: bool = False,
    command: Sequence[str] | None = None,
) -> dict[str, object]:
    """The results of one run as plain values.

    Args:
        results: one a checkpoint.
        device: where the networks ran, if they did.
        by_layer: list the operations of every layer.
        command: the words of the command line that asked for them, to be repeated.
    """
    return {
        "schema": SCHEMA,
        "command": list(command) if command is not None else None,
        "environment": environment(device),
        "results": [_result(result, by_layer=by_layer) for result in results],
        "verdict": overall(result.verdict for result in results),
    }


def environment(device: str | None) -> dict[str, object]:
    """What a reader needs to know of the machine to judge the numbers."""
    facts: dict[str, object] = {
        "r2convert": version("r2convert"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "pillow": version("pillow"),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if device is not None:
        facts["device"] = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return facts


def _result(result: CheckpointResult, *, by_layer: bool) -> dict[str, object]:
    return {
        "variant": result.variant,
        "checkpoint": result.checkpoint,
        "sha256": result.sha256,
        "content_hash": result.content_hash,
        "layout": result.layout,
        "checks": [asdict(check) for check in result.checks],
        "accuracy": asdict(result.accuracy) if result.accuracy else None,
        "operations": _operations(result, by_layer=by_layer),
        "wiring": _wiring(result.wiring) if result.wiring else None,
        "parity": _parity(result.parity) if result.parity else None,
        "verdict": result.verdict,
    }


def _operations(result: CheckpointResult, *, by_layer: bool) -> dict[str, object] | None:
    operations = result.operations
    if operations is None:
        return None
    counted = ("macs", "mmcv", "fvcore", "activations")
    return {
        "input_size": list(result.input_size),
        **{convention: operations.by_convention(convention) for convention in counted},
        "layers": [asdict(layer) for layer in operations.layers] if by_layer else None,
    }


def _wiring(wiring: WiringResult) -> dict[str, object]:
    return {
        "pictures": wiring.pictures,
        "source": wiring.source,
        "layers": [
            {name: _number(value) if isinstance(value, float) else value for name, value in asdict(layer).items()}
            for layer in wiring.layers
        ],
    }


def _parity(parity: ParityResult) -> dict[str, object]:
    return {
        "peer": parity.peer,
        "version": parity.version,
        "incomparable": parity.incomparable or None,
        "refused": parity.refused or None,
        **(activations(parity.comparison) if parity.comparison else {}),
    }


def activations(comparison: ActivationComparison) -> dict[str, object]:
    """Two networks' outputs side by side as plain values; a difference that is no number is ``null``."""
    return {
        "equal": comparison.equal,
        "first_layer": _difference(comparison.first_layer),
        "first_stage": _difference(comparison.first_stage),
        "stages": [_difference(stage) for stage in comparison.stages],
        "layers": len(comparison.layers),
        "by_layer": [_difference(layer) for layer in comparison.layers],
    }


def _difference(difference: OutputDifference | None) -> dict[str, object] | None:
    if difference is None:
        return None
    return {
        "name": difference.name,
        "max_abs_diff": _number(difference.max_abs_diff),
        "relative": _number(difference.relative),
    }


def _number(value: float) -> float | None:
    # JSON has no infinity and no NaN.
    return value if isfinite(value) else None
