"""`r2convert verify`: check checkpoints against the published numbers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import (
    error_document,
    open_output,
    print_detail,
    print_json,
    print_note,
    print_warning,
    stderr_console,
    stdout_console,
)
from r2convert.cli.progress import ImageProgress, over_files
from r2convert.errors import UsageError
from r2convert.files import printable
from r2convert.report.terminal import results_view, unchecked_lines
from r2convert.results.reading import plain, to_json
from r2convert.results.verdicts import ACCURACIES
from r2convert.results.verification import UncheckedFile, verification

EXIT_FAILED = 1


@options.command("verify", "Check checkpoints against the published numbers.")
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...", type=options.Checkpoint())
@options.identity_options
@options.option(
    "--references", group=options.CHECKS, is_flag=True, help="Check the reference networks themselves; needs no file."
)
@options.network_options
@options.image_options
@options.option("--details", group=options.OUTPUT, is_flag=True, help="Show every check, even for several checkpoints.")
@options.option("--by-layer", group=options.OUTPUT, is_flag=True, help="List operations and activations by layer.")
@options.option(
    "--json",
    "json_file",
    group=options.OUTPUT,
    type=options.FILE,
    is_eager=True,
    callback=options.note_json,
    metavar="FILE",
    help="Write the results as JSON; - for stdout.",
)
@click.pass_context
def command(
    context: click.Context,
    /,
    checkpoints: tuple[str, ...],
    references: bool,
    details: bool,
    by_layer: bool,
    json_file: str | None,
    **chosen: Any,
) -> None:
    r"""Check each CHECKPOINT (a file, or a variant in the cache) against the published tables.

    Without a checkpoint, every variant in the cache is checked; with an empty cache, the reference networks themselves.
    Without --imagenet: names, shapes, values, parameters and FLOPs. Exit code 1 if a check fails. --wiring needs images
    but no labels; --peer needs another package. docs/explanation/verification.md says what each can detect.

    \b
    Examples:
      r2convert verify mm.pth
      r2convert verify mm.pth --imagenet /data/val --json results.json
      r2convert verify mm.pth --imagenet ILSVRC2012_img_val.tar --limit 2000
      r2convert verify mm.pth --wiring ~/Pictures
    """
    _check_usage(context)
    read, predictions = (*checkpoints, chosen["imagenet"]), chosen["predictions"]
    options.refuse_replacing_inputs({"--predictions": predictions}, read)
    options.refuse_replacing_inputs({"--json": json_file}, (*read, predictions))
    with ExitStack() as stack:
        write = None
        if json_file not in (None, options.STDOUT) and api.is_first_process():
            # Refuse an output that cannot be written before spending hours on measuring.
            write = stack.enter_context(open_output(json_file, "results"))
        found = (
            api.verify_references(input_size=chosen["input_size"]) if references else _verify(checkpoints, dict(chosen))
        )
        if api.is_first_process():
            print_detail(f"device: {found.device or 'none: no network was run'}")
            _show(found, json_file, write, chosen["imagenet"], details=details, by_layer=by_layer)
    failed = EXIT_FAILED if any(result.verdict == "fail" for result in found.results) else 0
    context.exit(max([failed, *(error.exit_code for _, error in found.unchecked)]))


def _verify(checkpoints: tuple[str, ...], chosen: dict[str, Any]) -> api.VerifyRun:
    imagenet, limit, seed, fetch = (chosen.pop(name) for name in ("imagenet", "limit", "seed", "fetch"))
    images = None
    if imagenet is not None:
        images = api.open_images(options.images_path(imagenet), limit=limit, seed=seed, warn=print_warning)
        print_detail(f"images: {len(images.images.images):,} of {images.images.path}")
    chosen["device"] = chosen["device"] or options.config().device
    files = options.locate(*checkpoints, fetch=fetch) if checkpoints else api.cached_checkpoints()
    if not files and images is None and not (chosen["wiring"] or chosen["peer"]):
        print_note(
            "No file was given and none is in the cache: checking the reference networks themselves.\n"
            "`r2convert fetch VARIANT` downloads a file to check."
        )
        return api.verify_references(input_size=chosen["input_size"])
    if not files:
        raise UsageError(
            "there is no file to check: none was given, and none is in the cache",
            expected="a checkpoint (before --wiring, which takes the next word for a folder, or with --wiring=FOLDER)",
            next_step="give the path of a file, or `r2convert fetch VARIANT`",
        )
    with ImageProgress() as progress:
        try:
            return api.verify_all(
                files,
                **chosen,
                images=images,
                following=lambda requests: over_files(requests, "checking files"),
                progress=progress.measured,
            )
        except KeyboardInterrupt:
            if images is not None:
                _explain_interrupt(progress.last, chosen["predictions"], chosen["precision"])
            raise


def _explain_interrupt(progress: api.AccuracyProgress | None, predictions: str | None, precision: str) -> None:
    """Print what was measured so far, and how to continue."""
    lines = []
    if progress is not None:
        top1 = f"{progress.top1_correct[progress.network]:,}"
        network = f"{progress.network}: " if len(progress.top1_correct) > 1 else ""
        lines.append(f"{network}{progress.done:,} of {progress.total:,} images measured; correct at top-1: {top1}")
    if predictions is None:
        lines.append("Nothing was kept; with --predictions FILE an interrupted run can be resumed.")
    elif precision == "fast":
        lines.append("Nothing was kept: with --precision fast predictions are written only at the end.")
    else:
        lines.append("What was measured is kept: the same command with --resume continues it.")
    stderr_console().print("\n" + "\n".join(lines), soft_wrap=True)


def _show(
    found: api.VerifyRun,
    json_file: str | None,
    write: Callable[[str], None] | None,
    imagenet: str | None,
    *,
    details: bool,
    by_layer: bool,
) -> None:
    command_line = ["r2convert", *sys.argv[1:]]
    unchecked = [UncheckedFile(str(path), **error_document(error)) for path, error in found.unchecked]
    document = verification(found.results, found.device, by_layer=by_layer, command=command_line, unchecked=unchecked)
    if json_file == options.STDOUT:
        print_json(plain(document))
        return
    console = stdout_console()
    if found.results:
        console.print(results_view(found.results, details=details, by_layer=by_layer))
    if unchecked:
        console.print(unchecked_lines(unchecked), soft_wrap=True)
    for result in found.results:
        for warning in result.warnings:
            print_warning(f"{result.checkpoint}: {warning}")
    for line in advice(found.results, imagenet):
        console.print(printable(line), markup=False, soft_wrap=True)
    if write is not None:
        write(to_json(document))


def advice(results: Sequence[api.CheckpointResult], imagenet: str | None) -> Iterator[str]:
    """What the table has no room for, and what to do next if an accuracy is off."""
    for result in results:
        if len(results) > 1 and result.checkpoint is not None and result.half_precision:
            yield f"{result.checkpoint} is {result.half_precision}: half precision"
        off = any(check.verdict == "fail" and check.metric in ACCURACIES for check in result.checks)
        if off and result.checkpoint is not None and imagenet is not None:
            command_line = shlex.join(["r2convert", "doctor", result.checkpoint, "--imagenet", imagenet])
            yield f"Accuracy is off. To find out why: {command_line}"


_NEEDS = {
    (
        *("limit", "pipeline", "image_size", "crop_pct", "interpolation", "mean", "std", "fail_fast"),
        *("batch_size", "precision", "accelerate", "crop_cache", "predictions"),
    ): ("imagenet",),
    ("seed",): ("limit",),
    ("resume", "overwrite"): ("predictions",),
    ("device",): ("imagenet", "wiring"),
    ("fetch",): ("checkpoints",),
}
"""Options -> others, without any of which they would not be used."""

_ABOUT_NETWORKS = {"references", "input_size", "by_layer", "json_file", "details"}
"""Options that are used with --references."""


def _check_usage(context: click.Context) -> None:
    """Refuse options that were given and would not be used."""
    names = options.given(context)
    for dependents, needed in _NEEDS.items():
        for name in names.keys() & set(dependents):
            if not any(context.params[each] for each in needed):
                wanted = " or ".join("a checkpoint" if each == "checkpoints" else f"--{each}" for each in needed)
                raise UsageError(f"{names[name]} is not used without {wanted}", expected=f"{wanted} with {names[name]}")
    unused = sorted(names[name] for name in names.keys() - _ABOUT_NETWORKS)
    if context.params["references"] and unused:
        raise UsageError("--references checks networks without files or images", got=", ".join(unused))
