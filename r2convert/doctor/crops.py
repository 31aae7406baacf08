"""The ways in which a decoded picture becomes 224x224 pixels: the published one and the usual others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from r2convert.doctor.setting import CropKind
from r2convert.errors import UsageError
from r2convert.imagenet.preprocessing import CROP_SIDE, Crop, crop_corner, crop_pixels, opencv_crop_pixels, resized_size

Pixels = npt.NDArray[np.uint8]
CropPixels = Callable[[Pixels], Crop]


def crop_functions() -> Mapping[CropKind, CropPixels]:
    """Every way this installation knows; ``opencv`` only where OpenCV is installed."""
    functions: dict[CropKind, CropPixels] = {
        "pillow": crop_pixels,
        "not antialiased": _crop_not_antialiased,
        "bicubic": partial(_crop_resized, resampling=Image.Resampling.BICUBIC),
        "nearest": partial(_crop_resized, resampling=Image.Resampling.NEAREST),
        "squashed": _crop_squashed,
        "no margin": _crop_without_margin,
    }
    try:
        functions["opencv"] = opencv_crop_pixels()
    except UsageError:
        # Whoever needs it finds it missing here and says so.
        return functions
    return functions


def _crop_resized(pixels: Pixels, resampling: Image.Resampling) -> Crop:
    """As published, with another filter of Pillow's."""
    width, height = resized_size(pixels.shape[1], pixels.shape[0])
    resized = Image.fromarray(pixels).resize((width, height), resampling)
    return _centre(np.asarray(resized))


def _crop_not_antialiased(pixels: Pixels) -> Crop:
    """Bilinear between the four nearest source pixels, however far the picture shrinks: torch's default on tensors."""
    width, height = resized_size(pixels.shape[1], pixels.shape[0])
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(torch.float32)
    resized = functional.interpolate(planes, (height, width), mode="bilinear", align_corners=False, antialias=False)
    return _centre(resized[0].permute(1, 2, 0).round().to(torch.uint8).numpy())


def _crop_squashed(pixels: Pixels) -> Crop:
    """Both sides brought to 224, whatever that does to proportions."""
    return np.asarray(Image.fromarray(pixels).resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BILINEAR))


def _crop_without_margin(pixels: Pixels) -> Crop:
    """The short side brought to 224 instead of 256, so that nothing of it is cut off."""
    height, width = pixels.shape[:2]
    scale = CROP_SIDE / min(width, height)
    size = max(CROP_SIDE, int(width * scale)), max(CROP_SIDE, int(height * scale))
    return _centre(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)))


def _centre(resized: Pixels) -> Crop:
    left, top = crop_corner(resized.shape[1], resized.shape[0])
    return np.ascontiguousarray(resized[top : top + CROP_SIDE, left : left + CROP_SIDE])
