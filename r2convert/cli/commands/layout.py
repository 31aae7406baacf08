"""`r2convert layout`: learn the names of an unknown code base from one file."""

from __future__ import annotations

from collections.abc import Iterator

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import print_json, print_warning
from r2convert.files import printable

_EVIDENCE = {"shape": "its shape", "names": "shapes and numbers", "order": "ORDER ALONE"}


@options.command("layout", "Learn the names of an unknown code base from one file.")
@click.argument("file", type=options.Checkpoint())
@options.option(
    "--like",
    required=True,
    metavar="ARCHITECTURE",
    group=options.CHECKPOINT,
    shell_complete=options.complete_variant,
    help="The network it holds: any id or alias, such as res2net152_v1b_w26_s4.",
)
@options.part_options
@options.option("--name", default="learned", show_default=True, group=options.OUTPUT, help="Name of the layout.")
@options.option(
    "--output",
    metavar="FOLDER",
    type=options.FILE,
    group=options.OUTPUT,
    help="Write the draft into FOLDER, for R2CONVERT_MAPPINGS.",
)
@options.option("--overwrite", is_flag=True, group=options.OUTPUT, help="Replace an existing draft.")
@options.json_option
def command(
    file: str,
    like: str,
    key: str | None,
    prefix: str,
    leave_out: tuple[str, ...],
    name: str,
    output: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    r"""Learn the names of an unknown code base from FILE, which holds a known architecture.

    Modules are identified by their shapes and the numbers in their names. Those that only an order identifies are
    listed: check them with `verify --wiring` on images. To use the draft, set R2CONVERT_MAPPINGS to its folder.

    \b
    Example:
      r2convert layout ours.pth --like res2net50_w26_s4 --output lab
    """
    (located,) = options.locate(file, fetch=False)
    learned = api.learn_layout(
        located, like, name=name, key=key, prefix=prefix, leave_out=leave_out, output=output, overwrite=overwrite
    )
    for doubt in _doubts(learned):
        print_warning(doubt)
    if as_json:
        from r2convert.results.reading import plain

        print_json(plain(learned))
    else:
        click.echo("\n".join(_lines(learned)))


def _doubts(learned: api.LearnedLayout) -> Iterator[str]:
    if learned.known_as is not None:
        yield f"the catalogue has these names already, as {learned.known_as}: no column is needed"
    for group in learned.undecided:
        names = ", ".join(map(printable, group))
        yield f"equal in shape, told apart only by rising numbers, or else by their order in the file: {names}"
    if learned.roles_by_order:
        yield f"identified by their order alone, in every BatchNorm: {', '.join(learned.roles_by_order)}"
    yield from learned.doubts


def _lines(learned: api.LearnedLayout) -> Iterator[str]:
    yield f"{printable(learned.path)}: the names of {learned.architecture}, as the layout {learned.layout}"
    cells = [(row.module, printable(row.name), f"{_EVIDENCE[row.evidence]} ({row.count})") for row in learned.modules]
    widths = [max(len(row[column]) for row in cells) for column in (0, 1)]
    for module, name, evidence in [("mm", learned.layout, "identified by (modules)"), *cells]:
        yield f"  {module:<{widths[0]}}  {name:<{widths[1]}}  {evidence}"
    for kind, roles in learned.suffixes.items():
        yield f"  {kind:<6} " + "  ".join(f"{role} {printable(suffix)}" for role, suffix in roles.items())
    if learned.linear is not None:
        yield f"  the classifier weight is stored {learned.linear}"
    if learned.reordered:
        yield f"  the file departs from the network's order {learned.reordered} times"
    if learned.folder is None:
        yield "  nothing written: --output FOLDER writes the draft"
    else:
        folder = printable(learned.folder)
        yield f"  wrote  {', '.join(f'{folder}/{name}' for name in learned.files)}"
        yield f"  next   R2CONVERT_MAPPINGS={folder} r2convert verify {printable(learned.path)} --wiring IMAGES"
