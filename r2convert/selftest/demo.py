"""What `r2convert demo` works on, made for the occasion: a stand-in for an official file, and images for it.

The stand-in has the names, shapes and container of the official file, but random weights, and is served on the
loopback. The images' labels are chosen so that exactly so many of them are right.
"""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from r2convert.catalog.loading import builtin_folder, load_catalog
from r2convert.catalog.variant import Source, Variant
from r2convert.checks.standins import write_images_for, write_random_checkpoint
from r2convert.files import sha256_of
from r2convert.mapping.tables import Tables

VARIANT = "res2net50_w14_s8"
IMAGES, TOP1, TOP5 = 40, 25, 33


@dataclass(frozen=True, slots=True)
class DemoStage:
    """What was built.

    Args:
        variant: id of the variant that the stand-in is of.
        name: its name as published.
        file_name: name of the stand-in, as the server has it.
        address: of the server.
        images: folder of the images.
        expected: number of images, and how many are right at top-1 and at top-5.
        environment: variables with which the commands find all this.
    """

    variant: str
    name: str
    file_name: str
    address: str
    images: Path
    expected: tuple[int, int, int]
    environment: Mapping[str, str]


@contextmanager
def prepare_demo(folder: Path) -> Iterator[DemoStage]:
    """Build everything in an empty folder, and serve the checkpoint."""
    tables = Tables(load_catalog({}))
    variant = tables.catalog.find(VARIANT)
    published, images = folder / "published", folder / "val"
    published.mkdir()
    source = _publish_standin(tables, variant, published)
    write_images_for(tables, published / source.file_name, images, images=IMAGES, top1_correct=TOP1, top5_correct=TOP5)
    _write_variant_file(variant, source, folder / "mappings")
    with _serve(published) as address:
        environment = {
            **os.environ,
            "R2CONVERT_CACHE": str(folder / "cache"),
            "R2CONVERT_MIRROR": address,
            "R2CONVERT_MAPPINGS": str(folder / "mappings"),
            # requests would ask a proxy for the loopback too.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        expected = (IMAGES, TOP1, TOP5)
        yield DemoStage(VARIANT, variant.name, source.file_name, address, images, expected, environment)


def _publish_standin(tables: Tables, variant: Variant, folder: Path) -> Source:
    """Write the stand-in as the official file was: legacy container, its digest's first digits in its name."""
    path = folder / "standin.pth"
    write_random_checkpoint(tables, variant, path, legacy=True)
    prefix = sha256_of(path)[0][:8]
    name = f"res2net50_14w_8s-{prefix}.pth"
    path.rename(folder / name)
    return replace(variant.sources[0], file_name=name, sha256_prefix=prefix)


def _write_variant_file(variant: Variant, source: Source, folder: Path) -> None:
    """Lay a variant file over the built-in one in which the official file is the stand-in: all else is the same."""
    official = variant.sources[0]
    name = f"{official.weights}.toml"
    text = (builtin_folder() / "weights" / name).read_text(encoding="utf-8")
    for old, new in (
        (official.file_name, source.file_name),
        (f'sha256_prefix = "{official.sha256_prefix}"', f'sha256_prefix = "{source.sha256_prefix}"'),
    ):
        text = text.replace(old, new)
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / name).write_text(text, encoding="utf-8")


@contextmanager
def _serve(folder: Path) -> Iterator[str]:
    class QuietHandler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing: the demo's own output is the story."""

    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
