"""The ways in which uint8 pixels become a network's input: the published one and the usual others."""

from __future__ import annotations

import torch
from torch import Tensor

from r2convert.catalog.protocol import MEAN, STANDARD_DEVIATION
from r2convert.doctor.setting import Feed
from r2convert.evaluation.backends import normalise

_CAFFE_MEAN = (103.939, 116.779, 123.68)
"""Blue, green, red, as Caffe's reference networks subtract it."""


def feed_pixels(crops: Tensor, feed: Feed) -> Tensor:
    """Pixels to input.

    Args:
        crops: uint8, shape (images, height, width, 3), red green blue.
        feed: in which way.

    Returns:
        float32, shape (images, 3, height, width).
    """
    if feed == "published":
        return normalise(crops)
    if feed == "bgr":
        # The channels change places and the mean and deviation do not: what a forgotten conversion does.
        return normalise(crops.flip(-1))
    pixels = crops.permute(0, 3, 1, 2).to(torch.float32)
    if feed == "caffe":
        return pixels.flip(1) - _column(_CAFFE_MEAN, pixels)
    if feed == "0 to 255":
        return pixels
    if feed == "0 to 1":
        return pixels / 255
    if feed == "-1 to 1":
        return pixels / 127.5 - 1
    mean, deviation = _column(MEAN, pixels), _column(STANDARD_DEVIATION, pixels)
    if feed == "not divided":
        return (pixels - mean) / deviation
    return (pixels / 255 - 255 * mean) / (255 * deviation)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None]
