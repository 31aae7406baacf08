"""`r2convert doctor`: accuracy is off; which of the usual causes is it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2convert.cli.arguments import SOURCE_LAYOUTS, checkpoint_path, selection_options
from r2convert.cli.console import print_json, print_warning, stderr_console, stdout_console
from r2convert.cli.image_options import choose_device
from r2convert.errors import UsageError

if TYPE_CHECKING:
    from r2convert.doctor.agreement import KnownScore
    from r2convert.doctor.consultation import DoctorImages
    from r2convert.doctor.trials import Progress

EXIT_OFF = 1
_SAMPLE = 256


class Percentage(click.ParamType[Decimal]):
    """A share of the images as it was printed, whose digits say how exact it is."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """``76.3`` or ``76.3%``.

        Raises:
            click.BadParameter: it is no number from 0 to 100.
        """
        try:
            percent = Decimal(str(value).removesuffix("%").strip())
        except InvalidOperation:
            percent = Decimal(-1)
        if not percent.is_finite() or not 0 <= percent <= 100:
            self.fail(f"{value!r} is no share in per cent: write for example 76.3", param, ctx)
        return percent


@click.command(short_help="Accuracy is off: try the usual causes and rank them.")
@click.argument("checkpoint")
@click.option("--imagenet", type=click.Path(path_type=Path), required=True, metavar="PATH", help="Validation images.")
@click.option("--measured", type=Percentage(), help="Top-1 that was measured elsewhere on all of these images.")
@click.option("--measured-top5", type=Percentage(), help="The same for top-5.")
@click.option("--expected", type=Percentage(), help="Top-1 these images ought to give; by default the published one.")
@click.option("--limit", type=click.IntRange(1), default=_SAMPLE, show_default=True, help="Images to try causes on.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another draw of them.")
@click.option("--thorough", is_flag=True, help="Try every cause on every image, also what is out of the question.")
@click.option("--variant", help="The variant, instead of detecting it.")
@click.option("--from", "layout", type=click.Choice(SOURCE_LAYOUTS), help="The layout, instead of detecting it.")
@selection_options
@click.option("--device", help="cpu, cuda, cuda:1, mps; by default a GPU where there is one.")
@click.option("--batch-size", type=click.IntRange(1), help="Images a batch; by default 32 on a CPU, else 128.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--details", is_flag=True, help="List every cause, not the first eight only.")
@click.pass_context
def doctor(
    context: click.Context,
    /,
    checkpoint: str,
    imagenet: Path,
    measured: Decimal | None,
    measured_top5: Decimal | None,
    expected: Decimal | None,
    limit: int,
    seed: int,
    thorough: bool,
    variant: str | None,
    layout: str | None,
    key: str | None,
    prefix: str,
    device: str | None,
    batch_size: int | None,
    as_json: bool,
    details: bool,
) -> None:
    r"""Find out why the accuracy of CHECKPOINT (a file, or a variant in the cache) is off.

    A few hundred images are shown to the network as published numbers are measured, then with one usual cause at a
    time: another resize, channel order, normalisation, label order, pool or precision. Is the score too low here, the
    causes are ranked by what they would mend. Is it too low elsewhere, say what it was with --measured, and they are
    ranked by how well each gives that number. Exit code 0 if nothing is off, 1 if something is.

    \b
    Examples:
      r2convert doctor mm.pth --imagenet /data/val
      r2convert doctor mm.pth --imagenet /data/val --measured 76.3
    """
    import torch

    from r2convert.catalog import load_catalog
    from r2convert.checks.run import Request
    from r2convert.doctor.consultation import consult
    from r2convert.mapping.tables import Tables
    from r2convert.report.diagnosis_document import diagnosis_document
    from r2convert.report.diagnosis_view import diagnosis_view

    if measured_top5 is not None and measured is None:
        raise UsageError("--measured-top5 says more of --measured", expected="--measured 76.3 --measured-top5 93.1")
    tables = Tables(load_catalog())
    path, named = checkpoint_path(tables.catalog, checkpoint)
    request = Request(path, tables.catalog.find(variant) if variant else named, layout, key, prefix)
    images = _open(imagenet, limit, seed)
    chosen = choose_device(device)
    with _progress() as progress:
        found = consult(
            tables,
            request,
            images,
            measured=_known(measured, measured_top5),
            expected=_known(expected),
            device=torch.device(chosen),
            batch_size=batch_size,
            thorough=thorough,
            progress=progress,
        )
    if as_json:
        print_json(diagnosis_document(found, chosen))
    else:
        stdout_console().print(diagnosis_view(found, details=details))
    if found.diagnosis.verdict != "nothing is off":
        context.exit(EXIT_OFF)


def _known(top1: Decimal | None, top5: Decimal | None = None) -> KnownScore | None:
    from r2convert.doctor.agreement import KnownScore

    if top1 is None:
        return None
    exponents = [int(value.as_tuple().exponent) for value in (top1, top5) if value is not None]
    digit = Decimal(1).scaleb(max(exponents) - 2)
    return KnownScore(float(top1 / 100), None if top5 is None else float(top5 / 100), float(digit))


def _open(path: Path, limit: int, seed: int) -> DoctorImages:
    from r2convert.doctor.consultation import DoctorImages
    from r2convert.imagenet.datasets import open_validation_set
    from r2convert.imagenet.validation_set import stratified_sample

    images = open_validation_set(path)
    for warning in images.warnings:
        print_warning(warning)
    sample = stratified_sample(images, limit, seed=seed)
    return DoctorImages(sample, len(images.images), images.is_full, seed)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr with rate and time left; nothing is drawn where stderr is no terminal."""
    from rich import progress as bars

    console = stderr_console()
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(compact=True),
    )
    with bars.Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("reading", total=None, rate="")

        def show(progress: Progress) -> None:
            speed = bar.tasks[0].speed
            rate = "" if speed is None else f"{speed:.1f} images/s"
            bar.update(task, completed=progress.done, total=progress.total, description=progress.trying, rate=rate)

        yield show
