"""The usual mistakes, each written down as somebody makes it, without anything of the doctor's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from r2convert.models.blocks import Classifier
from tests.doctor.lab import DEVIATION, MEAN, ToInput, centre, published_pixels


def normalised(pixels: Tensor) -> Tensor:
    return (pixels / 255 - MEAN) / DEVIATION


def bgr(picture: Image.Image) -> Tensor:
    return normalised(published_pixels(picture).flip(0))


def not_normalised(picture: Image.Image) -> Tensor:
    return published_pixels(picture) / 255


def raw_pixels(picture: Image.Image) -> Tensor:
    return published_pixels(picture)


def not_divided(picture: Image.Image) -> Tensor:
    return (published_pixels(picture) - MEAN) / DEVIATION


def half_normalised(picture: Image.Image) -> Tensor:
    return (published_pixels(picture) / 255 - 0.5) / 0.5


def opencv(picture: Image.Image) -> Tensor:
    scale = 256 / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return normalised(centre(Image.fromarray(cv2.resize(np.asarray(picture), size))))


def not_antialiased(picture: Image.Image) -> Tensor:
    """Bilinear between the four nearest pixels, in so many words."""
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float()
    scale = 256 / min(picture.size)
    width, height = int(picture.width * scale), int(picture.height * scale)
    across = (torch.arange(width) + 0.5) * picture.width / width * 2 / picture.width - 1
    down = (torch.arange(height) + 0.5) * picture.height / height * 2 / picture.height - 1
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)[None]
    resized = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return normalised(centre(Image.fromarray(resized[0].permute(1, 2, 0).round().byte().numpy())))


def with_filter(resampling: Image.Resampling) -> ToInput:
    def resize(picture: Image.Image) -> Tensor:
        scale = 256 / min(picture.size)
        size = (int(picture.width * scale), int(picture.height * scale))
        return normalised(centre(picture.resize(size, resampling)))

    return resize


def squashed(picture: Image.Image) -> Tensor:
    return normalised(centre(picture.resize((224, 224), Image.Resampling.BILINEAR)))


def no_margin(picture: Image.Image) -> Tensor:
    scale = 224 / min(picture.size)
    size = (int(picture.width * scale), int(picture.height * scale))
    return normalised(centre(picture.resize(size, Image.Resampling.BILINEAR)))


FEEDS: dict[str, ToInput] = {
    "bgr": bgr,
    "not-normalised": not_normalised,
    "raw-pixels": raw_pixels,
    "half-normalised": half_normalised,
}

RESIZES: dict[str, ToInput] = {
    "opencv-resize": opencv,
    "no-antialias": not_antialiased,
    "bicubic": with_filter(Image.Resampling.BICUBIC),
    "squash": squashed,
    "no-margin": no_margin,
}


@contextmanager
def in_training_mode(network: Classifier) -> Iterator[None]:
    """What a forgotten model.eval() leaves; a pass over images then also changes what BatchNorms remember."""
    copy = deepcopy(network.state_dict())
    network.train()
    yield
    network.eval().load_state_dict(copy)


@contextmanager
def without_stem(network: Classifier) -> Iterator[None]:
    """Loading that passes over the first layer's names."""
    conv = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    copy = deepcopy(network.state_dict())
    with torch.random.fork_rng():
        torch.manual_seed(7)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        norm.reset_parameters()
    yield
    network.load_state_dict(copy)
