"""`r2convert verify --imagenet`: what its options say about the images and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.cli.console import print_warning, stderr_console
from r2convert.errors import UsageError

if TYPE_CHECKING:
    from r2convert.catalog.protocol import Pipeline
    from r2convert.checks.run import ImageRun
    from r2convert.evaluation.backends import Acceleration, Precision
    from r2convert.evaluation.engine import AccuracyProgress
    from r2convert.imagenet.validation_set import ValidationSet

PRECISIONS = ("strict", "fast", "fp32", "tf32", "bf16", "fp16")
ACCELERATIONS = ("channels-last", "fold-bn", "compile", "cuda-graphs")
PIPELINES = ("pil", "opencv")


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """The options of one run; the names are those on the command line."""

    imagenet: Path | None
    device: str | None
    batch_size: int | None
    limit: int | None
    seed: int
    fail_fast: bool
    precision: Precision
    accelerate: tuple[Acceleration, ...]
    pipeline: Pipeline
    predictions: Path | None
    resume: bool
    overwrite: bool
    crop_cache: Path | None


def image_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of :class:`ImageOptions`, handed over as keyword arguments of those names."""
    folder = click.Path(path_type=Path)
    for option in reversed(
        (
            click.option("--imagenet", type=folder, metavar="PATH", help="The validation images: measures accuracy."),
            click.option("--device", help="cpu, cuda, cuda:1, mps; by default a CUDA GPU where there is one."),
            click.option("--batch-size", type=click.IntRange(1), help="Images a batch, to begin with."),
            click.option("--limit", type=click.IntRange(1), help="Show this many images only, drawn over all classes."),
            click.option("--seed", type=int, default=0, show_default=True, help="Another draw for --limit."),
            click.option("--fail-fast", is_flag=True, help="Stop once a published accuracy is certainly missed."),
            click.option("--precision", type=click.Choice(PRECISIONS), default="strict", show_default=True),
            click.option(
                "--accelerate",
                callback=_read_accelerations,
                metavar="WAY,...",
                help=f"Run faster in any precision but strict: {', '.join(ACCELERATIONS)}.",
            ),
            click.option("--pipeline", type=click.Choice(PIPELINES), default="pil", show_default=True),
            click.option("--predictions", type=folder, metavar="FILE", help="Keep every image's answer in FILE."),
            click.option("--resume", is_flag=True, help="Continue what an interrupted run left in --predictions."),
            click.option("--overwrite", is_flag=True, help="Replace the --predictions file."),
            click.option("--crop-cache", type=folder, metavar="DIR", help="Keep crops in DIR; later runs decode none."),
        )
    ):
        command = option(command)
    return command


def _read_accelerations(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """A list with commas, each way once and in the order of the help."""
    given = set() if value is None else {way.strip() for way in value.split(",")}
    unknown = sorted(given - set(ACCELERATIONS))
    if unknown:
        message = f"{', '.join(map(repr, unknown))} is none of {', '.join(ACCELERATIONS)}."
        raise click.BadParameter(message, context, option)
    return tuple(way for way in ACCELERATIONS if way in given)


@dataclass(frozen=True, slots=True)
class OpenedImages:
    """The images to show, and whether they are the whole validation set or a random part of it."""

    images: ValidationSet
    full_set: bool


def open_images(options: ImageOptions) -> OpenedImages | None:
    """Open the validation set that was asked for, if one was, and say what is odd about it.

    Raises:
        DatasetError: it cannot be used as one.
        UsageError: options contradict each other.
    """
    if options.imagenet is None:
        _refuse_without_images(options)
        return None
    if options.resume and options.predictions is None:
        raise UsageError("--resume continues a prediction file", expected="--predictions FILE --resume")
    if options.accelerate and options.precision == "strict":
        raise UsageError(
            "strict is the reference and takes no shortcut",
            expected=f"--precision fast (strict's counts) or fp32 with --accelerate {','.join(options.accelerate)}",
        )
    from r2convert.imagenet.datasets import open_validation_set
    from r2convert.imagenet.validation_set import stratified_sample

    images = open_validation_set(options.imagenet)
    for warning in images.warnings:
        print_warning(warning)
    shown = images if options.limit is None else stratified_sample(images, options.limit, seed=options.seed)
    return OpenedImages(shown, images.is_full)


def _refuse_without_images(options: ImageOptions) -> None:
    """An option that needs images must not be passed over in silence."""
    given = {
        "--limit": options.limit,
        "--fail-fast": options.fail_fast,
        "--predictions": options.predictions,
        "--resume": options.resume,
        "--crop-cache": options.crop_cache,
        "--accelerate": options.accelerate,
    }
    for name, value in given.items():
        if value:
            raise UsageError(f"{name} is about images, and none were given", expected=f"--imagenet PATH {name} ...")


def choose_device(name: str | None) -> str:
    """The device that was asked for, or a GPU where there is one.

    Raises:
        UsageError: the device cannot be used.
    """
    from r2convert.evaluation import backends

    return str(backends.choose_device(name))


@contextmanager
def image_run(options: ImageOptions, opened: OpenedImages, device: str) -> Iterator[ImageRun]:
    """How the images are to be shown, with a progress bar while they are; an interrupt says what is known by then."""
    import torch

    from r2convert.checks.run import ImageRun
    from r2convert.evaluation.backends import require_accelerations, require_precision
    from r2convert.evaluation.prediction_store import PredictionFile
    from r2convert.evaluation.processes import is_first

    # Before files are read and images shown.
    require_precision(options.precision, torch.device(device))
    require_accelerations(options.accelerate, torch.device(device))
    kept = options.predictions
    seen: list[AccuracyProgress] = []
    with _progress(shown=is_first()) as show:

        def follow(progress: AccuracyProgress) -> None:
            seen[:] = [progress]
            show(progress)

        try:
            yield ImageRun(
                opened.images,
                opened.full_set,
                torch.device(device),
                batch_size=options.batch_size,
                pipeline=options.pipeline,
                precision=options.precision,
                accelerations=options.accelerate,
                progress=follow,
                fail_fast=options.fail_fast,
                predictions=PredictionFile(kept, resume=options.resume, overwrite=options.overwrite) if kept else None,
                crop_cache=options.crop_cache,
            )
        except KeyboardInterrupt:
            _explain_interrupt(seen[-1] if seen else None, options)
            raise


def _explain_interrupt(progress: AccuracyProgress | None, options: ImageOptions) -> None:
    """What was measured so far, and how to go on."""
    said = []
    if progress is not None:
        top1 = ", ".join(f"{count:,}" for count in progress.top1_correct.values())
        said.append(f"{progress.done:,} of {progress.total:,} images measured; right at top-1: {top1}")
    if options.predictions is None:
        said.append("Nothing is kept; with --predictions FILE an interrupted run can be continued.")
    elif options.precision == "fast":
        said.append("Nothing is kept: with --precision fast answers are kept at the end only.")
    else:
        said.append("What was measured is kept: the same command with --resume continues it.")
    stderr_console().print("\n" + "\n".join(said), soft_wrap=True)


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[AccuracyProgress], None]]:
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
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        task = bar.add_task("images", total=None, rate="", top1="")

        def show(progress: AccuracyProgress) -> None:
            rate = f"{progress.images_per_second:.1f}/s"
            shares = (f"{100 * count / max(progress.done, 1):.1f}" for count in progress.top1_correct.values())
            top1 = f"top-1 {' '.join(list(shares)[:3])} %"
            # Several processes have a share of the images each; a second pass has a part of them only.
            bar.update(task, completed=progress.done, total=progress.total, rate=rate, top1=top1)

        yield show
