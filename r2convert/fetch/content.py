"""A look into a file whose hash nobody publishes, so that at least its kind is right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from r2convert.catalog.variant import FileFormat
from r2convert.errors import AccessError, CheckpointError
from r2convert.fetch.expectation import Objection

_KINDS: Mapping[FileFormat, tuple[str, ...]] = MappingProxyType(
    {
        "pth": ("zip", "torch-legacy", "pickle", "tar"),
        "safetensors": ("safetensors",),
        "pdparams": ("pickle",),
        "tar": ("tar",),
    }
)
"""What :func:`r2convert.checkpoint.sniffing.sniff` calls the containers of a format."""


def kind_of(path: Path) -> tuple[str | None, str]:
    """Return the kind of container a file announces (``None``: none) and a description for people."""
    from r2convert.checkpoint.sniffing import sniff
    from r2convert.checkpoint.source_file import SourceFile

    try:
        with SourceFile(path) as source:
            kind = sniff(source)
    except (CheckpointError, AccessError) as problem:
        return None, problem.got or problem.what
    return kind, f"a {kind} file"


def objection_to_kind(path: Path, file_format: FileFormat) -> Objection | None:
    """Say why a file cannot be a checkpoint of this format; ``None`` if its beginning looks like one."""
    kind, description = kind_of(path)
    if kind in _KINDS[file_format]:
        return None
    return Objection("it is no file of this format", f"a {file_format} file", description)
