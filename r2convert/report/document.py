"""A verification as a JSON document, schema ``r2convert.verify/1``; fields may be added, never changed."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

import torch

from r2convert.verify.checks import overall
from r2convert.verify.results import CheckpointResult

SCHEMA = "r2convert.verify/1"


def results_document(results: Sequence[CheckpointResult], device: str | None = None) -> dict[str, object]:
    """The results of one run as plain values.

    Args:
        results: one a checkpoint.
        device: where the networks ran, if they did.
    """
    return {
        "schema": SCHEMA,
        "environment": environment(device),
        "results": [_result(result) for result in results],
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
    }
    if device is not None:
        facts["device"] = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return facts


def _result(result: CheckpointResult) -> dict[str, object]:
    return {
        "variant": result.variant,
        "checkpoint": result.checkpoint,
        "sha256": result.sha256,
        "content_hash": result.content_hash,
        "layout": result.layout,
        "checks": [asdict(check) for check in result.checks],
        "accuracy": asdict(result.accuracy) if result.accuracy else None,
        "verdict": result.verdict,
    }
