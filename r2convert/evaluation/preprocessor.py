"""Image preprocessing for use from Python: the same crops and values that measurements feed to networks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from r2convert.catalog.protocol import Protocol
from r2convert.errors import AccessError, UnreadableImageError
from r2convert.evaluation.backends import normalise
from r2convert.imagenet.preprocessing import Crop, crop_function, crop_opened

EncodedOrOpened = str | os.PathLike[str] | bytes | Image.Image

# Creating a crop function compares decoders with Pillow: once per process is enough.
_cropping = cache(crop_function)


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Prepares images by a protocol; it can be pickled, and so passed to the workers of a ``DataLoader``.

    Args:
        protocol: sizes, filter, pipeline, mean and standard deviation.

    Raises:
        UsageError: a package that the pipeline needs is not installed.
    """

    protocol: Protocol

    def __post_init__(self) -> None:
        _cropping(self.protocol)

    def __call__(self, image: EncodedOrOpened) -> torch.Tensor:
        """Prepare one image, without a batch dimension.

        Args:
            image: the path of a file, its bytes, or a Pillow image, which is converted to RGB.

        Returns:
            float32, shape (3, crop, crop), red green blue, normalised; the same numbers as in ``r2convert verify``.

        Raises:
            AccessError: the file cannot be read.
            UnreadableImageError: it is not an image, is damaged, or is absurdly long and thin.
        """
        if isinstance(image, Image.Image):
            crop = crop_opened(image, self.protocol)
        elif isinstance(image, bytes):
            crop = _cropping(self.protocol)(image)
        else:
            crop = self._crop_file(Path(image))
        return normalise(torch.tensor(crop)[None], self.protocol)[0].contiguous()

    def _crop_file(self, path: Path) -> Crop:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AccessError("the image cannot be read", where=str(path), got=str(error)) from error
        try:
            return _cropping(self.protocol)(data)
        except UnreadableImageError as error:
            raise UnreadableImageError(error.what, where=str(path), got=error.got) from error
