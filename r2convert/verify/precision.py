"""What "strict float32" means to torch, as a context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def strict_float32() -> Iterator[None]:
    """Float32 products and sums as IEEE has them (no TF32, no bfloat16 inside), deterministic convolutions.

    TF32 alone moves logits by 1e-2, a thousand times the rounding of float32: enough to make a sound conversion
    look wrong. The settings that were found are put back at the end.
    """
    backends: Any = torch.backends  # torch adds the settings below at run time; its type hints know some of them
    precisions = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    found = [setting.fp32_precision for setting in precisions]
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        for setting in precisions:
            setting.fp32_precision = "ieee"
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        yield
    finally:
        for setting, value in zip(precisions, found, strict=True):
            setting.fp32_precision = value
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
