"""`r2convert verify`: check checkpoints against the published numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.cli.arguments import SOURCE_LAYOUTS, cached_path, checkpoint_path, selection_options
from r2convert.cli.console import print_json, print_warning, stderr_console, stdout_console
from r2convert.errors import UsageError

if TYPE_CHECKING:
    from r2convert.imagenet.validation_set import ValidationSet
    from r2convert.mapping.tables import Tables
    from r2convert.verify.image_pass import AccuracyProgress
    from r2convert.verify.results import CheckpointResult
    from r2convert.verify.run import Request

    Progress = Callable[[AccuracyProgress], None]

EXIT_FAILED = 1


@click.command(short_help="Check checkpoints against the published numbers.")
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...")
@click.option(
    "--imagenet", type=click.Path(path_type=Path), help="The ImageNet validation images, to measure accuracy."
)
@click.option("--variant", help="The variant, instead of detecting it.")
@click.option("--from", "layout", type=click.Choice(SOURCE_LAYOUTS), help="The layout, instead of detecting it.")
@selection_options
@click.option("--references", is_flag=True, help="Check the reference networks themselves; needs no file.")
@click.option("--device", help="cpu, cuda, cuda:1, mps; by default a GPU where there is one.")
@click.option("--batch-size", type=click.IntRange(1), help="Images a batch.")
@click.option("--json", "json_file", metavar="FILE", help="Write the results as JSON; - for stdout.")
@click.option("--details", is_flag=True, help="Show every check, also of several checkpoints.")
@click.pass_context
def verify(
    context: click.Context,
    checkpoints: tuple[str, ...],
    imagenet: Path | None,
    variant: str | None,
    layout: str | None,
    key: str | None,
    prefix: str,
    references: bool,
    device: str | None,
    batch_size: int | None,
    json_file: str | None,
    details: bool,
) -> None:
    r"""Check each CHECKPOINT (a file, or a variant in the cache) against the published tables.

    Without a checkpoint, every variant in the cache is checked; with an empty cache, the reference networks
    themselves. Without --imagenet: names, shapes, values, parameters and FLOPs. Exit code 1 if a check fails.

    \b
    Examples:
      r2convert verify mm.pth
      r2convert verify mm.pth --imagenet /data/val --json results.json
    """
    from r2convert.catalog import load_catalog
    from r2convert.mapping.tables import Tables

    tables = Tables(load_catalog())
    said = {
        "variant": tables.catalog.find(variant) if variant else None,
        "layout": layout,
        "key": key,
        "prefix": prefix,
    }
    requests = [] if references else _requests(tables, checkpoints, said)
    if references and (checkpoints or imagenet):
        raise UsageError("--references checks networks without files or images")
    images = _open_images(imagenet) if imagenet and requests else None
    chosen = _choose_device(device) if images else None
    if not requests and not references:
        stderr_console().print(
            "No file was given and none is in the cache: checking the reference networks themselves.\n"
            "`r2convert fetch VARIANT` downloads a file to check.",
            soft_wrap=True,
        )
    results = _run(tables, requests, images, chosen, batch_size)
    _report(results, chosen, json_file, details=details)
    if any(result.verdict == "fail" for result in results):
        context.exit(EXIT_FAILED)


def _requests(tables: Tables, checkpoints: tuple[str, ...], said: dict[str, Any]) -> list[Request]:
    """The files to verify, each with what the user says of it."""
    from r2convert.verify.run import Request

    if checkpoints:
        located = [checkpoint_path(tables.catalog, checkpoint) for checkpoint in checkpoints]
        return [Request(path, **{**said, "variant": said["variant"] or named}) for path, named in located]
    cached = [(cached_path(each), each) for each in tables.catalog.variants.values()]
    return [Request(path, each) for path, each in cached if path is not None]


def _open_images(path: Path) -> ValidationSet:
    from r2convert.imagenet.datasets import open_validation_set

    images = open_validation_set(path)
    for warning in images.warnings:
        print_warning(warning)
    return images


def _choose_device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used", got=str(error).splitlines()[0]) from error
    return name


def _run(
    tables: Tables, requests: list[Request], images: ValidationSet | None, device: str | None, batch_size: int | None
) -> list[CheckpointResult]:
    import torch

    from r2convert.verify.run import ImageRun, verify_checkpoints, verify_references

    if not requests:
        return verify_references(tables)
    if images is None or device is None:
        return verify_checkpoints(tables, requests)
    with _progress(len(images.images)) as progress:
        return verify_checkpoints(
            tables, requests, ImageRun(images, torch.device(device), batch_size=batch_size, progress=progress)
        )


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    """A bar on stderr with rate, time left and running top-1; nothing is drawn where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr_console()
    columns = (
        TextColumn("images"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[top1]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("images", total=total, rate="", top1="")

        def show(progress: AccuracyProgress) -> None:
            rate = f"{progress.done / progress.seconds:.1f}/s" if progress.seconds else ""
            shares = (f"{100 * count / max(progress.done, 1):.1f}" for count in progress.top1_correct.values())
            bar.update(task, completed=progress.done, rate=rate, top1=f"top-1 {' '.join(list(shares)[:3])} %")

        yield show


def _report(results: list[CheckpointResult], device: str | None, json_file: str | None, *, details: bool) -> None:
    from r2convert.report.document import results_document
    from r2convert.report.terminal import results_view

    if json_file == "-":
        print_json(results_document(results, device))
        return
    stdout_console().print(results_view(results, details=details))
    if json_file is not None:
        _write_json(Path(json_file), results, device)


def _write_json(path: Path, results: list[CheckpointResult], device: str | None) -> None:
    import json
    import os

    from r2convert.checkpoint.placing import file_beside
    from r2convert.report.document import results_document

    text = json.dumps(results_document(results, device), indent=2, ensure_ascii=False) + "\n"
    with file_beside(path, overwrite=True) as (_, descriptor), os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(text.encode())
    sys.stderr.write(f"results written to {path}\n")
