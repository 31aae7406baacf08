"""From a variant to its reference network."""

from __future__ import annotations

from torch import nn

from r2convert.catalog.variant import StagedArchitecture, Variant
from r2convert.models.blocks import Classifier, LinearHead
from r2convert.models.dla import DlaBackbone
from r2convert.models.staged import FEATURES, StagedBackbone


def build_network(variant: Variant, *, classes: int = 1000, unreachable: bool = False) -> Classifier:
    """Build a variant's network, with the ``mm`` layout as its state-dict names.

    Build under ``torch.device("meta")`` to count without using memory.

    Args:
        variant: which network.
        classes: outputs of the classifier.
        unreachable: include the layers that the official DLA code runs although nothing reads their result.

    Returns:
        A network in training mode with freshly initialised weights: images (N, 3, H, W) -> logits (N, classes).
    """
    architecture = variant.architecture
    if isinstance(architecture, StagedArchitecture):
        backbone: nn.Module = StagedBackbone(architecture)
        return Classifier(backbone, LinearHead(FEATURES, classes))
    backbone = DlaBackbone(architecture, unreachable=unreachable)
    return Classifier(backbone, LinearHead(architecture.channels[-1], classes))
