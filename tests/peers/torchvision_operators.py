"""timm and mmpretrain import torchvision, whose operators do not load beside the CPU build of PyTorch.

Runs in the peers' own interpreter.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch.library import Library


def declare_missing_operators() -> Library | None:
    """Declare the two operators that ``import torchvision`` gives a meta implementation, if its binary cannot.

    No Res2Net runs them, so that declared is enough.

    Returns:
        The declarations, which last as long as the object does; None where torchvision brings the operators.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("torchvision is not installed in the peers' environment")
    try:
        torch.ops.load_library(str(Path(found.origin).parent / "_C.so"))
    except OSError:
        library = Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None
