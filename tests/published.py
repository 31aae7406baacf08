"""Stand-ins published under the official files' names: what the examples of the documentation run against.

The names, containers and shapes are the real ones, so that a command prints what it prints for the real file, but for
digests and accuracy. A folder serves as the mirror, so no network is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from r2convert.catalog.loading import builtin_folder
from r2convert.checks.standins import write_images_for
from r2convert.mapping.tables import Tables
from tests.conftest import Standin

VARIANTS = ("res2net50_w14_s8", "res2net50_v1b_w26_s4")
IMAGES, TOP1, TOP5 = 10, 6, 8


@dataclass(frozen=True)
class Published:
    """Folders that were made: the publishers' files, the mapping files that know their digests, labelled images."""

    mirror: Path
    mappings: Path
    images: Path

    def environment(self, cache: Path) -> dict[str, str]:
        """The variables by which r2convert finds the stand-ins where it would find the published files."""
        return {
            "R2CONVERT_CACHE": str(cache),
            "R2CONVERT_MAPPINGS": str(self.mappings),
            "R2CONVERT_MIRROR": str(self.mirror),
        }


def publish_standins(tables: Tables, standin: Standin, folder: Path) -> Published:
    """Make a stand-in of every variant that examples use, and images that the first one scores on as constructed."""
    published = Published(folder / "mirror", folder / "mappings", folder / "val")
    published.mirror.mkdir()
    (published.mappings / "weights").mkdir(parents=True)
    for name in VARIANTS:
        source = tables.catalog.find(name).sources[0]
        path = published.mirror / source.file_name
        _link_or_copy(standin(name, legacy=True), path)
        with path.open("rb") as file:
            prefix = hashlib.file_digest(file, "sha256").hexdigest()[:8]
        text = (builtin_folder() / "weights" / f"{source.weights}.toml").read_text(encoding="utf-8")
        text = text.replace(f'sha256_prefix = "{source.sha256_prefix}"', f'sha256_prefix = "{prefix}"')
        (published.mappings / "weights" / f"{source.weights}.toml").write_text(text, encoding="utf-8")
    first = published.mirror / tables.catalog.find(VARIANTS[0]).sources[0].file_name
    write_images_for(tables, first, published.images, images=IMAGES, top1_correct=TOP1, top5_correct=TOP5)
    return published


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copy(path, target)
