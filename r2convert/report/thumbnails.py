"""Small pictures of images that were confused, if available; everything else stays as it was measured."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from r2convert.errors import UnreadableImageError
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.preprocessing import crop_image
from r2convert.imagenet.validation_set import ImageLocation

_SIDE = 96
_QUALITY = 72
_MOST = 96
"""Images a page shows: it is to be mailed, and to be made in a moment."""


class Thumbnails:
    """Finds images of a validation set by their ids and makes them small.

    Args:
        locations: where the images lie, by id.
    """

    def __init__(self, locations: Mapping[str, ImageLocation]) -> None:
        self._locations = locations
        self._made: dict[str, str | None] = {}
        self._left = _MOST

    @property
    def at_hand(self) -> bool:
        """Whether there are images at all."""
        return bool(self._locations)

    @classmethod
    def from_images(cls, path: Path | None) -> Thumbnails:
        """Those of the validation set at a path; none where there is no path.

        Raises:
            DatasetError: there is no validation set at the path.
        """
        if path is None:
            return cls({})
        images = open_validation_set(path).images
        return cls({image.id: image.location for image in images if image.location is not None})

    def data_uri(self, image_id: str) -> str | None:
        """An image's crop as a ``data:`` address; ``None`` if it is not here, cannot be read, or is one too many."""
        if image_id not in self._made:
            location = self._locations.get(image_id) if self._left else None
            self._made[image_id] = _encode(location) if location is not None else None
            self._left -= location is not None
        return self._made[image_id]


def _encode(location: ImageLocation) -> str | None:
    try:
        crop = crop_image(location.read())
    except (UnreadableImageError, OSError):
        return None
    file = io.BytesIO()
    small = Image.fromarray(crop).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
