"""A checkpoint's tensors in the reference network."""

from __future__ import annotations

import torch
from torch import Tensor

from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.open import Checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.mapping.identity import Resolution
from r2convert.mapping.plan import make_plan, target_tensor
from r2convert.mapping.tables import CANONICAL
from r2convert.models.blocks import Classifier
from r2convert.models.build import build_network


def load_network(checkpoint: Checkpoint, resolution: Resolution) -> Classifier:
    """Build the reference network with a checkpoint's weights, strictly: every tensor has to be there.

    Half-precision weights are widened to float32, which changes no value.

    Returns:
        The network in evaluation mode, in float32 (float64 for a float64 file).

    Raises:
        MappingError: a tensor of the network has no source, such as the classifier of a backbone file.
        CheckpointError: the file's bytes are damaged.
    """
    identity = resolution.identity
    plan = make_plan(resolution.expansion, identity.layout, CANONICAL, checkpoint.tensors)
    plan.require_clean(str(checkpoint.path))
    state: dict[str, Tensor] = {}
    for row in plan.rows:
        if row.source is not None and row.target is not None:
            state[row.target] = _tensor(checkpoint, target_tensor(plan, row, checkpoint.tensors[row.source]))
        elif row.target is not None:
            state[row.target] = torch.tensor(0)
    with torch.device("meta"):
        network = build_network(identity.variant, classes=identity.classes)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()


def _tensor(checkpoint: Checkpoint, info: TensorInfo) -> Tensor:
    array = torch.from_numpy(checkpoint.array(info))
    if info.dtype is DType.BFLOAT16:
        array = array.view(torch.bfloat16)
    return array.float() if info.dtype in (DType.BFLOAT16, DType.FLOAT16) else array
