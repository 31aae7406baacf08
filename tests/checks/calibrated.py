"""A stand-in whose BatchNorms remember what they saw, as a trained network's do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from r2convert.catalog.variant import Variant
from r2convert.checks.standins import synthetic_image
from r2convert.evaluation.backends import normalise
from r2convert.imagenet.preprocessing import crop_image
from r2convert.models.blocks import Classifier
from r2convert.models.build import build_network


def synthetic_inputs(count: int, *, seed: int, side: int = 224) -> Tensor:
    """Normalised synthetic images (count, 3, side, side); another random seed gives others of the same kind."""
    crops = np.stack([crop_image(synthetic_image(number, seed)) for number in range(count)])
    return normalise(torch.from_numpy(crops[:, :side, :side])).contiguous()


def calibrated_network(variant: Variant, images: Tensor, *, seed: int = 0) -> Classifier:
    """Random weights, with running statistics of one pass over the images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(variant)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
                module.momentum = None  # the mean over all passes, of which there is one
    with torch.no_grad():
        network.train()(images)
    return network.eval()
