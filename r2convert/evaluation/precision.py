"""What the precision profiles mean to torch.

``strict``
    float32 products and sums as IEEE has them, deterministic: the reference.
``fast``
    a first pass in what the device is fastest in, then ``strict`` for every image that this could have decided
    otherwise: strict's counts.
``fp32``, ``tf32``, ``bf16``, ``fp16``
    all images in that precision, with what it changes found out on a sample. ``fp32`` is ``strict`` until it is
    accelerated (see :mod:`r2convert.evaluation.acceleration`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch

from r2convert.errors import UsageError

Precision = Literal["strict", "fast", "fp32", "tf32", "bf16", "fp16"]
ComputePrecision = Literal["strict", "fp32", "tf32", "bf16", "fp16"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def first_precision(device: torch.device) -> ComputePrecision:
    """What a first pass is run in, before ``strict`` settles the doubtful images: the fastest the device has."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "fp32"
    return "fp16"


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raises ``UsageError`` if a device does not have a precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(
            "TF32 exists on CUDA devices only",
            expected="--precision strict, fast, fp32, bf16 or fp16",
            got=f"tf32 on {device}",
        )


@contextmanager
def computing_in(precision: ComputePrecision, device: torch.device) -> Iterator[None]:
    """Runs networks in a precision; the settings that were found are put back at the end.

    TF32 alone moves logits by 1e-2, a thousand times the rounding of float32: enough to make a sound conversion
    look wrong. So it is off unless it is asked for.

    Raises:
        UsageError: the device does not have this precision.
    """
    require_precision(precision, device)
    with ExitStack() as settings:
        settings.enter_context(_float32_products("tf32" if precision == "tf32" else "ieee"))
        if precision in _AUTOCAST:
            settings.enter_context(torch.autocast(device.type, dtype=_AUTOCAST[precision]))
        yield


@contextmanager
def _float32_products(kind: Literal["ieee", "tf32"]) -> Iterator[None]:
    backends: Any = torch.backends  # torch adds the settings below at run time; its type hints know some of them
    on_cuda, on_cpu = (backends.cuda.matmul, backends.cudnn.conv), (backends.mkldnn.matmul, backends.mkldnn.conv)
    found = [(setting, setting.fp32_precision) for setting in on_cuda + on_cpu]
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        for setting in on_cuda:
            setting.fp32_precision = kind
        for setting in on_cpu:
            setting.fp32_precision = "ieee"
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        yield
    finally:
        for setting, value in found:
            setting.fp32_precision = value
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
