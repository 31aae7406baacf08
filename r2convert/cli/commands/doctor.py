"""`r2convert doctor`: accuracy is off; which of the usual causes is it?"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import print_json, print_warning, stdout_console
from r2convert.cli.progress import ImageProgress
from r2convert.errors import UsageError
from r2convert.results.reading import plain

EXIT_OFF = 1
_SAMPLE = 256


class Percentage(click.ParamType[Decimal]):
    """A percentage of the images as printed; its digits say how precise it is."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """``76.3`` or ``76.3%``.

        Raises:
            click.BadParameter: it is not a number from 0 to 100.
        """
        try:
            percent = Decimal(str(value).removesuffix("%").strip())
        except InvalidOperation:
            percent = Decimal(-1)
        if not percent.is_finite() or not 0 <= percent <= 100:
            self.fail(f"{value!r} is not a percentage: write for example 76.3", param, ctx)
        return percent


@options.command("doctor", "Find out why accuracy is off: try the usual causes and rank them.")
@click.argument("checkpoint", type=options.Checkpoint())
@options.identity_options
@options.option(
    "--imagenet", group=options.IMAGES, type=options.FILE, required=True, metavar="PATH", help="Validation images."
)
@options.option(
    "--limit",
    group=options.IMAGES,
    type=click.IntRange(1),
    default=_SAMPLE,
    show_default=True,
    help="Images to try causes on: a random sample, stratified by class.",
)
@options.option(
    "--seed", group=options.IMAGES, type=int, default=0, show_default=True, help="Random seed of the sample."
)
@options.option(
    "--measured", group=options.CHECKS, type=Percentage(), help="Top-1 measured elsewhere on all of these images."
)
@options.option("--measured-top5", group=options.CHECKS, type=Percentage(), help="The same for top-5.")
@options.option(
    "--expected",
    group=options.CHECKS,
    type=Percentage(),
    help="Top-1 these images ought to give; by default the published one.",
)
@options.option(
    "--thorough", group=options.CHECKS, is_flag=True, help="Try every cause on every image, also those ruled out early."
)
@options.device_options
@options.option("--details", group=options.OUTPUT, is_flag=True, help="List every cause, not only the first eight.")
@options.json_option
@click.pass_context
def command(
    context: click.Context, /, checkpoint: str, fetch: bool, imagenet: str, details: bool, as_json: bool, **chosen: Any
) -> None:
    r"""Find out why the accuracy of CHECKPOINT (a file, or a variant in the cache) is off.

    A few hundred images are run as published numbers are measured, then with one usual cause at a time: another
    resize, channel order, normalisation, label order, network or weights. If the score is too low here, causes are
    ranked by how much of it they win back. If it is too low elsewhere, say what it was with --measured, and they are
    ranked by how well each explains that number. Exit code 0 if nothing is off, 1 if something is.

    \b
    Examples:
      r2convert doctor mm.pth --imagenet /data/val
      r2convert doctor mm.pth --imagenet /data/val --measured 76.3
    """
    if chosen["measured_top5"] is not None and chosen["measured"] is None:
        raise UsageError("--measured-top5 needs --measured", expected="--measured 76.3 --measured-top5 93.1")
    if chosen["measured_top5"] is not None and chosen["measured_top5"] < chosen["measured"]:
        raise UsageError(
            "top-5 cannot be lower than top-1",
            expected="--measured 76.3 --measured-top5 93.1",
            got=f"--measured {chosen['measured']} --measured-top5 {chosen['measured_top5']}",
        )
    images = api.open_images(options.images_path(imagenet), warn=print_warning)
    (located,) = options.locate(checkpoint, fetch=fetch)
    chosen["device"] = chosen["device"] or options.config().device
    with ImageProgress() as progress:
        found = api.diagnose(located, images, **chosen, progress=progress.tried)
    if as_json:
        print_json(plain(found))
    else:
        from r2convert.report.diagnosis import diagnosis_view  # brings in rich

        console = stdout_console()
        console.print(diagnosis_view(found, console.width, details=details))
    if found.verdict != "nothing is off":
        context.exit(EXIT_OFF)
