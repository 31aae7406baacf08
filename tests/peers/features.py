"""The features of our reference backbones, to compare with readers that have no classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from r2convert.mapping.tables import Tables
from r2convert.models.build import build_network
from tests.peers.logits import Logits


def features(tables: Tables, variant: str, mm_file: Path, images: Path) -> Logits:
    """The averaged features of a reference backbone with the weights of an mm file, in float64."""
    network = build_network(tables.catalog.find_architecture(variant))
    state = torch.load(mm_file, weights_only=True)
    backbone = {name.removeprefix("backbone."): each for name, each in state.items() if name.startswith("backbone.")}
    network.backbone.load_state_dict(backbone, strict=True)
    network.backbone.double().eval()
    with np.load(images) as batches, torch.inference_mode():
        return {size: network.backbone(torch.from_numpy(batches[size])).mean(dim=(2, 3)).numpy() for size in batches}
