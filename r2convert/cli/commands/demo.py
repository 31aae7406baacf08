"""`r2convert demo`: the whole job, offline, on a stand-in: the real commands on files made for the occasion."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.errors import AccessError, UsageError

if TYPE_CHECKING:
    from r2convert.catalog.variant import Source, Variant
    from r2convert.mapping.tables import Tables

VARIANT = "res2net50_w14_s8"
IMAGES, TOP1, TOP5 = 40, 25, 33
EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class _Stage:
    """What was built before the real commands run."""

    folder: Path
    images: Path
    environment: Mapping[str, str]


@click.command(short_help="The whole job, offline, on a stand-in, in about a minute.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Work in DIR and leave everything there.")
@click.pass_context
def demo(context: click.Context, keep: Path | None) -> None:
    r"""Run fetch, map and verify on a stand-in for the official Res2Net-50-14w-8s, without a network.

    Parameters and FLOPs are checked against the really published numbers. The weights are no trained ones, so
    accuracy is checked against an answer that is known by construction.

    \b
    Example:
      r2convert demo
    """
    with _working_folder(keep) as folder, _prepare(folder) as stage:
        steps = (
            ["fetch", VARIANT],
            ["inspect", VARIANT],
            ["map", "--src", VARIANT, "--dst", str(folder / "mm.pth")],
            ["verify", str(folder / "mm.pth"), "--imagenet", str(stage.images), "--json", str(folder / "results.json")],
        )
        for number, arguments in enumerate(steps, start=1):
            code = _run_step(number, arguments, stage)
            if code:
                _say(f"this step failed with exit code {code}")
                context.exit(code)
        context.exit(_compare(folder / "results.json"))


@contextmanager
def _working_folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
            empty = not any(keep.iterdir())
        except OSError as error:
            got = error.strerror or str(error)
            raise AccessError("the folder to keep the demo in cannot be made", where=str(keep), got=got) from error
        if not empty:
            raise UsageError("the folder to keep the demo in is not empty", where=str(keep))
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="r2convert-demo-") as folder:
        yield Path(folder)


@contextmanager
def _prepare(folder: Path) -> Iterator[_Stage]:
    """Build the stand-ins and serve the checkpoint on the loopback."""
    from r2convert.catalog import load_catalog
    from r2convert.checks.standins import write_images_for
    from r2convert.mapping.tables import Tables

    tables = Tables(load_catalog({}))
    variant = tables.catalog.find(VARIANT)
    published, images = folder / "published", folder / "val"
    _say(
        f"Building stand-ins (no network is needed): a file with the names, shapes and container of the\n"
        f"official {variant.name}, but drawn weights; and {IMAGES} drawn images whose labels are chosen so that\n"
        f"exactly {TOP1} of them are right at top-1 and {TOP5} at top-5."
    )
    published.mkdir()
    source = _publish_standin(tables, variant, published)
    write_images_for(tables, published / source.file_name, images, images=IMAGES, top1_correct=TOP1, top5_correct=TOP5)
    _write_variant_file(variant, source, folder / "mappings")
    with _serve(published) as address:
        _say(f"Serving {source.file_name} at {address}; R2CONVERT_MIRROR points there.")
        environment = {
            **os.environ,
            "R2CONVERT_CACHE": str(folder / "cache"),
            "R2CONVERT_MIRROR": address,
            "R2CONVERT_MAPPINGS": str(folder / "mappings"),
            # requests would ask a proxy for the loopback too.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        yield _Stage(folder, images, environment)


def _publish_standin(tables: Tables, variant: Variant, folder: Path) -> Source:
    """Write the stand-in as the official file was: legacy container, its digest's first digits in its name."""
    from dataclasses import replace

    from r2convert.checks.standins import write_random_checkpoint
    from r2convert.files import sha256_of

    path = folder / "standin.pth"
    write_random_checkpoint(tables, variant, path, legacy=True)
    prefix = sha256_of(path)[0][:8]
    name = f"res2net50_14w_8s-{prefix}.pth"
    path.rename(folder / name)
    return replace(variant.sources[0], file_name=name, sha256_prefix=prefix)


def _write_variant_file(variant: Variant, source: Source, folder: Path) -> None:
    """Lay a variant file over the built-in one in which the official file is the stand-in: all else is the same."""
    from r2convert.catalog.loading import builtin_folder

    official = variant.sources[0]
    text = (builtin_folder() / f"{variant.id}.toml").read_text(encoding="utf-8")
    for old, new in (
        (official.file_name, source.file_name),
        (f'sha256_prefix = "{official.sha256_prefix}"', f'sha256_prefix = "{source.sha256_prefix}"'),
    ):
        text = text.replace(old, new)
    folder.mkdir()
    (folder / f"{variant.id}.toml").write_text(text, encoding="utf-8")


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


def _run_step(number: int, arguments: list[str], stage: _Stage) -> int:
    shown = shlex.join(argument.replace(str(stage.folder) + os.sep, "") for argument in arguments)
    click.echo(f"\n[{number}] $ r2convert {shown}")
    command = [sys.executable, "-m", "r2convert", *arguments]
    return subprocess.run(command, env=dict(stage.environment), check=False).returncode  # noqa: S603 - our own commands


def _compare(results: Path) -> int:
    """Hold the measured accuracy against the constructed answer."""
    document = json.loads(results.read_text(encoding="utf-8"))
    accuracy = document["results"][0]["accuracy"]
    measured = (accuracy["images"], accuracy["top1_correct"], accuracy["top5_correct"])
    expected = (IMAGES, TOP1, TOP5)
    _say(
        "Constructed answer: {} images, {} right at top-1, {} at top-5.\n".format(*expected)
        + "Measured:           {} images, {} right at top-1, {} at top-5.".format(*measured)
    )
    if measured != expected:
        _say("These differ: something is wrong with this installation.")
        return EXIT_FAILED
    _say(
        "All as it should be. The parameters and FLOPs above are checks against really published numbers; the\n"
        "weights and images were stand-ins. With a network, `r2convert fetch res2net50_w14_s8` gets the real file."
    )
    return 0


def _say(text: str) -> None:
    click.echo("\n" + "\n".join(f"# {line}" for line in text.splitlines()))
