"""A look into a file whose hash nobody publishes, so that at least it is a whole checkpoint of the right kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from r2convert.catalog.variant import FileFormat
from r2convert.download.expectation import Objection
from r2convert.errors import R2ConvertError

_CONTAINERS: Mapping[FileFormat, tuple[str, ...]] = MappingProxyType(
    {
        "pth": ("torch-zip", "torch-legacy", "torch-tar", "torch-hub-zip"),
        "safetensors": ("safetensors",),
        "pdparams": ("pdparams",),
        "tar": ("paddle-static",),
    }
)
"""The containers that each published format may turn out to be."""


def container_of(path: Path) -> tuple[str | None, str]:
    """Return a checkpoint's container (``None``: it cannot be read as one) and a description for people."""
    from r2convert.checkpoint.open import open_checkpoint  # here: most fetches are settled by their hash

    try:
        with open_checkpoint(path) as checkpoint:
            return checkpoint.container, f"a {checkpoint.container} file"
    except R2ConvertError as problem:
        return None, problem.got or problem.what


def objection_to_content(path: Path, file_format: FileFormat) -> Objection | None:
    """Say why a file cannot be a checkpoint of this format; ``None`` if it reads as a whole one."""
    container, description = container_of(path)
    if container in _CONTAINERS[file_format]:
        return None
    return Objection("it is no sound file of this format", f"a {file_format} file", description)
