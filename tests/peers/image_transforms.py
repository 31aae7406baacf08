"""What timm and torchvision make of images: tensors as their networks are shown them.

Runs in the peers' own interpreter: ``python -m tests.peers.image_transforms OUT IMAGE...``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.peers.torchvision_operators import declare_missing_operators

TIMM = ((224, 0.875, "bilinear"), (224, 0.95, "bicubic"), (288, 1.0, "bicubic"), (160, 0.9, "bilinear"))
"""Image size, crop_pct and interpolation."""

TORCHVISION = ((256, 224, "bilinear"), (232, 224, "bilinear"), (320, 288, "bicubic"))
"""Resized size, crop size and interpolation."""


def main(out: Path, images: list[Path]) -> None:
    """Write one array an image and setting."""
    operators = declare_missing_operators()
    from timm.data import create_transform
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    transforms = {}
    for size, share, interpolation in TIMM:
        transforms[f"timm-{size}-{share}-{interpolation}"] = create_transform(
            size, interpolation=interpolation, crop_pct=share, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
        )
    for resized, size, interpolation in TORCHVISION:
        transforms[f"torchvision-{resized}-{size}-{interpolation}"] = ImageClassification(
            crop_size=size, resize_size=resized, interpolation=InterpolationMode(interpolation), antialias=True
        )
    for path in images:
        for name, transform in transforms.items():
            np.save(out / f"{path.stem}-{name}.npy", np.asarray(transform(Image.open(path).convert("RGB"))))
    del operators


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
