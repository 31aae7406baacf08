"""File names: which are images, and how to mention many of them in one message."""

from __future__ import annotations

from collections.abc import Sequence

# What ImageNet and its repackagings use; the content is decoded whatever the extension claims.
_IMAGE_EXTENSIONS = (".jpeg", ".jpg", ".png", ".webp", ".bmp")


def is_image_name(name: str) -> bool:
    """Whether a file is meant to be an image, by its extension; hidden files (``._x.JPEG``) are not."""
    return name.lower().endswith(_IMAGE_EXTENSIONS) and not name.startswith(".")


def name_some(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
