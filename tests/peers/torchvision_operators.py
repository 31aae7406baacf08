"""timm and mmpretrain import torchvision, whose operators do not load beside the CPU build of PyTorch.

Runs in the peers' own interpreter.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch


def declare_missing_operators() -> object:
    """Declare the two operators that ``import torchvision`` gives a meta implementation, if its binary cannot.

    No Res2Net runs them, so that declared is enough.

    Returns:
        What holds the operators: they are declared for as long as this object lives.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("torchvision is not installed in the peers' environment")
    operators: Any = torch.ops
    try:
        operators.load_library(str(Path(found.origin).parent / "_C.so"))
    except OSError:
        new_library: Any = torch.library.Library
        library = new_library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return operators
