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
    from r2convert.imagenet.pipelines import Pipeline
    from r2convert.imagenet.validation_set import ValidationSet
    from r2convert.verify.accuracy import AccuracyProgress
    from r2convert.verify.precision import Precision
    from r2convert.verify.run import ImageRun

PRECISIONS = ("strict", "fast", "tf32", "bf16", "fp16")
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
            click.option("--device", help="cpu, cuda, cuda:1, mps; by default a GPU where there is one."),
            click.option("--batch-size", type=click.IntRange(1), help="Images a batch, to begin with."),
            click.option("--limit", type=click.IntRange(1), help="Show this many images only, drawn over all classes."),
            click.option("--seed", type=int, default=0, show_default=True, help="Another draw for --limit."),
            click.option("--fail-fast", is_flag=True, help="Stop once a published accuracy is certainly missed."),
            click.option("--precision", type=click.Choice(PRECISIONS), default="strict", show_default=True),
            click.option("--pipeline", type=click.Choice(PIPELINES), default="pil", show_default=True),
            click.option("--predictions", type=folder, metavar="FILE", help="Keep every image's answer in FILE."),
            click.option("--resume", is_flag=True, help="Continue what an interrupted run left in --predictions."),
            click.option("--overwrite", is_flag=True, help="Replace the --predictions file."),
            click.option("--crop-cache", type=folder, metavar="DIR", help="Keep crops in DIR; later runs decode none."),
        )
    ):
        command = option(command)
    return command


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
    from r2convert.imagenet.datasets import open_validation_set
    from r2convert.imagenet.sampling import stratified_sample

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
    }
    for name, value in given.items():
        if value:
            raise UsageError(f"{name} is about images, and none were given", expected=f"--imagenet PATH {name} ...")


def choose_device(name: str | None) -> str:
    """The device that was asked for, or a GPU where there is one.

    Raises:
        UsageError: the device cannot be used.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used", got=str(error).splitlines()[0]) from error
    return name


@contextmanager
def image_run(options: ImageOptions, opened: OpenedImages, device: str) -> Iterator[ImageRun]:
    """How the images are to be shown, with a progress bar while they are; an interrupt says how to go on."""
    import torch

    from r2convert.verify.prediction_file import PredictionFile
    from r2convert.verify.run import ImageRun

    kept = options.predictions
    with _progress(len(opened.images.images)) as progress:
        try:
            yield ImageRun(
                opened.images,
                opened.full_set,
                torch.device(device),
                batch_size=options.batch_size,
                pipeline=options.pipeline,
                precision=options.precision,
                progress=progress,
                fail_fast=options.fail_fast,
                predictions=PredictionFile(kept, resume=options.resume, overwrite=options.overwrite) if kept else None,
                crop_cache=options.crop_cache,
            )
        except KeyboardInterrupt:
            if kept is not None:
                stderr_console().print("\nWhat was measured is kept: the same command with --resume continues it.")
            raise


@contextmanager
def _progress(total: int) -> Iterator[Callable[[AccuracyProgress], None]]:
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
            rate = f"{progress.images_per_second:.1f}/s"
            shares = (f"{100 * count / max(progress.done, 1):.1f}" for count in progress.top1_correct.values())
            bar.update(task, completed=progress.done, rate=rate, top1=f"top-1 {' '.join(list(shares)[:3])} %")

        yield show
