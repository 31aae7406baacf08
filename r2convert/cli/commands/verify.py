"""`r2convert verify`: check checkpoints against the published numbers."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.cli.arguments import SOURCE_LAYOUTS, checkpoint_path, selection_options
from r2convert.cli.commands.completion import complete_checkpoint, complete_variant
from r2convert.cli.console import print_json, print_note, stdout_console
from r2convert.cli.image_options import ImageOptions, choose_device, image_options, image_run, open_images
from r2convert.cli.network_options import NetworkOptions, network_options, open_probes
from r2convert.cli.progress import over_files
from r2convert.errors import AccessError, UsageError

if TYPE_CHECKING:
    from r2convert.checks.run import CheckpointResult, Probes, Request
    from r2convert.cli.image_options import OpenedImages
    from r2convert.mapping.tables import Tables

EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class Shown:
    """How much of the results is shown."""

    details: bool
    by_layer: bool


@click.command(short_help="Check checkpoints against the published numbers.")
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...", shell_complete=complete_checkpoint)
@click.option("--variant", shell_complete=complete_variant, help="The variant, instead of detecting it.")
@click.option("--from", "layout", type=click.Choice(SOURCE_LAYOUTS), help="The layout, instead of detecting it.")
@selection_options
@click.option("--references", is_flag=True, help="Check the reference networks themselves; needs no file.")
@network_options
@image_options
@click.option("--json", "json_file", metavar="FILE", help="Write the results as JSON; - for stdout.")
@click.option("--details", is_flag=True, help="Show every check, also of several checkpoints.")
@click.pass_context
def verify(
    context: click.Context,
    /,
    checkpoints: tuple[str, ...],
    variant: str | None,
    layout: str | None,
    key: str | None,
    prefix: str,
    references: bool,
    wiring: str | None,
    peer: str | None,
    input_size: tuple[int, int],
    by_layer: bool,
    json_file: str | None,
    details: bool,
    **image_arguments: Any,
) -> None:
    r"""Check each CHECKPOINT (a file, or a variant in the cache) against the published tables.

    Without a checkpoint, every variant in the cache is checked; with an empty cache, the reference networks
    themselves. Without --imagenet: names, shapes, values, parameters and FLOPs. Exit code 1 if a check fails.
    --wiring needs pictures but no labels; --peer needs another package. docs/explanation/verification.md says what
    each can see.

    \b
    Examples:
      r2convert verify mm.pth
      r2convert verify mm.pth --imagenet /data/val --json results.json
      r2convert verify mm.pth --imagenet ILSVRC2012_img_val.tar --limit 2000
      r2convert verify mm.pth --wiring ~/Pictures
    """
    from r2convert.catalog import load_catalog
    from r2convert.mapping.tables import Tables

    options = ImageOptions(**image_arguments)
    tables = Tables(load_catalog())
    said = {
        "variant": tables.catalog.find(variant) if variant else None,
        "layout": layout,
        "key": key,
        "prefix": prefix,
    }
    requests = [] if references else _requests(tables, checkpoints, said)
    network = NetworkOptions(wiring, peer, input_size)
    if references and (checkpoints or options.imagenet):
        raise UsageError("--references checks networks without files or images")
    if network.need_files and not requests:
        raise UsageError(
            "--wiring and --peer check files",
            expected="a checkpoint before --wiring, which takes the next word for a folder, or --wiring=FOLDER",
            got="no checkpoint, and none in the cache",
        )
    _require_place(json_file)
    images = open_images(options) if requests else None
    device = choose_device(options.device) if images or network.runs_networks else None
    probes = open_probes(network, device)
    if not requests and not references:
        print_note(
            "No file was given and none is in the cache: checking the reference networks themselves.\n"
            "`r2convert fetch VARIANT` downloads a file to check."
        )
    with _joined(images) as number:
        results = _run(tables, requests, probes, images, device, options)
        if number == 0:
            _report(results, device, json_file, Shown(details=details, by_layer=by_layer))
    if any(result.verdict == "fail" for result in results):
        context.exit(EXIT_FAILED)


def _joined(images: OpenedImages | None) -> AbstractContextManager[int]:
    """The processes of a `torchrun`, if there are several; only the first one prints."""
    if images is None:
        return nullcontext(0)
    from r2convert.evaluation.processes import joined_processes

    return joined_processes()


def _requests(tables: Tables, checkpoints: tuple[str, ...], said: dict[str, Any]) -> list[Request]:
    """The files to verify, each with what the user says of it."""
    from r2convert.checks.run import Request
    from r2convert.download.locating import cached_path

    if checkpoints:
        located = [checkpoint_path(tables.catalog, checkpoint) for checkpoint in checkpoints]
        return [Request(path, **{**said, "variant": said["variant"] or named}) for path, named in located]
    cached = [(cached_path(each), each) for each in tables.catalog.variants.values()]
    return [Request(path, each) for path, each in cached if path is not None]


def _run(
    tables: Tables,
    requests: list[Request],
    probes: Probes,
    images: OpenedImages | None,
    device: str | None,
    options: ImageOptions,
) -> list[CheckpointResult]:
    from r2convert.checks.run import verify_checkpoints, verify_references

    if not requests:
        return verify_references(tables, probes.input_size)
    if images is None or device is None:
        paths = [request.path for request in requests]
        return [
            result
            for request in over_files(requests, paths, "checking files")
            for result in verify_checkpoints(tables, [request], probes=probes)
        ]
    with image_run(options, images, device) as run:
        return verify_checkpoints(tables, requests, run, probes)


def _require_place(json_file: str | None) -> None:
    """Refuse a place that cannot take the results before hours go into measuring them."""
    if json_file is None or json_file == "-":
        return
    path = Path(json_file)
    if path.is_dir() or not path.parent.is_dir():
        raise AccessError(
            "the results cannot be written there",
            where=json_file,
            expected="a file in a folder that exists",
            got="a folder" if path.is_dir() else "no such folder",
        )


def _report(results: list[CheckpointResult], device: str | None, json_file: str | None, shown: Shown) -> None:
    from r2convert.report.terminal import results_view
    from r2convert.results.document import results_document

    document = results_document(results, device, by_layer=shown.by_layer, command=["r2convert", *sys.argv[1:]])
    if json_file == "-":
        print_json(document)
        return
    stdout_console().print(results_view(results, details=shown.details, by_layer=shown.by_layer))
    if json_file is not None:
        _write_json(Path(json_file), document)


def _write_json(path: Path, document: dict[str, object]) -> None:
    import json

    from r2convert.files import write_text

    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print_note(f"results written to {path}")
