"""Options shared by several commands, and how ``--help`` lists them.

An option that is passed on is named after its parameter in :mod:`r2convert.api`.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from r2convert import api
from r2convert.cli.app import Settings, general_options
from r2convert.cli.config import CACHE_VARIABLE, Config, load_config
from r2convert.cli.console import print_detail
from r2convert.errors import UsageError

if TYPE_CHECKING:
    from r2convert.cli.progress import TransferDisplay

Function = Callable[..., Any]

SYNTHETIC = ""
"""The value of ``--wiring`` without a folder."""

_BLOCK = 1 << 20
_SMALLEST_SIDE = 32
_LARGEST_SIDE = 100_000


class Option(click.Option):
    """An option that ``--help`` lists under a heading."""

    def __init__(self, *arguments: Any, group: str = "Options", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.group = group


class Command(click.Command):
    """A command whose help lists its options in groups, in the order in which they were declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the help text."""
        # The general ones were declared first, by the decorator of all commands; they are shown last.
        groups: dict[str, list[tuple[str, str]]] = {}
        shown = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for parameter in sorted(shown, key=lambda each: not isinstance(each, Option)):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(parameter.group if isinstance(parameter, Option) else GENERAL, []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


STDOUT = "-"
_CONFIG = "r2convert.config"
GENERAL = "General options"
CHOICE = "Which weights"
CHECKPOINT = "The checkpoint"
CHECKS = "Checks"
IMAGES = "Images"
SPEED = "Speed"
OUTPUT = "Output"
"""Headings of groups."""

FILE = click.Path(allow_dash=True)
"""Completes file names; whether the file can be used is checked when it is opened."""


class LayoutName(click.ParamType[str]):
    """A layout; the catalogue is read only when one is given.

    Args:
        written: accept only layouts that can be written.
    """

    name = "layout"

    def __init__(self, *, written: bool = False) -> None:
        self._written = written

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Reject an unknown layout the way click rejects a wrong choice."""
        names = api.layouts(written=self._written)
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(map(repr, names))}", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a layout."""
        del ctx, param
        return [CompletionItem(name) for name in api.layouts(written=self._written) if name.startswith(incomplete)]


SOURCE_LAYOUT = LayoutName()
TARGET_LAYOUT = LayoutName(written=True)


def option(*names: str, **attributes: Any) -> Callable[[Function], Function]:
    """One option; ``group`` says under which heading the help lists it."""
    return click.option(*names, cls=Option, **attributes)


def _as_one(name: str, kind: Callable[..., Any], members: Sequence[str]) -> Callable[[Function], Function]:
    """Pass some of the options on as one value, a parameter of :mod:`r2convert.api`."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            given = {member: options.pop(member) for member in members if member in options}
            return function(*arguments, **options, **{name: kind(**given)})

        return call

    return decorate


def _together(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Several options as one decorator, listed in this order."""

    def decorate(function: Function) -> Function:
        for each in reversed(options):
            function = each(function)
        return function

    return decorate


def command(name: str, short_help: str) -> Callable[[Function], Command]:
    """Turn a function into a command: its docstring is the help, and the general options work anywhere."""

    def decorate(function: Function) -> Command:
        @functools.wraps(function)
        def run(*arguments: Any, **options: Any) -> None:
            started = time.perf_counter()
            _apply_config()
            try:
                function(*arguments, **options)
            finally:
                print_detail(f"{name}: {time.perf_counter() - started:.1f} s")

        made = click.command(name, cls=Command, short_help=short_help)(general_options(run))
        # A raw docstring spells out the backspace that keeps click from joining the lines of an example.
        made.help = (made.help or "").replace("\\b\n", "\b\n")
        return made

    return decorate


def note_json(context: click.Context, _: click.Parameter, value: Any) -> Any:
    """Record that stdout carries JSON, so that an error is printed there too."""
    found = context.find_object(Settings)
    if found is not None:
        found.json = value is True or value == STDOUT
    return value


json_option = option(
    "--json",
    "as_json",
    group=OUTPUT,
    is_flag=True,
    is_eager=True,
    callback=note_json,
    help="Print one JSON document on stdout.",
)


def given(context: click.Context) -> dict[str, str]:
    """Parameters given on the command line -> their option, or the argument's name in the usage."""
    return {
        parameter.name: parameter.opts[0] if isinstance(parameter, click.Option) else parameter.make_metavar(context)
        for parameter in context.command.params
        if parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def refuse_replacing_inputs(outputs: Mapping[str, str | None], inputs: Iterable[str | None]) -> None:
    """Refuse to write over what the command reads.

    Args:
        outputs: option -> where it writes.
        inputs: what is read.

    Raises:
        UsageError: one of the outputs is an input.
    """
    read = {os.path.realpath(each) for each in inputs if each not in (None, STDOUT)}
    for option, target in outputs.items():
        if target not in (None, STDOUT) and os.path.realpath(target) in read:
            raise UsageError(
                f"{option} would replace a file that the command reads",
                got=target,
                next_step="choose another name",
            )


# --- r2convert.toml --------------------------------------------------------------------------------------------------


def _apply_config() -> None:
    """Read the configuration file and apply its cache folder."""
    found = load_config()
    click.get_current_context().meta[_CONFIG] = found
    if found.path is not None:
        print_detail(f"configuration: {found.path}")
    if found.cache is not None and not os.environ.get(CACHE_VARIABLE):
        os.environ[CACHE_VARIABLE] = str(found.cache)


def config() -> Config:
    """The configuration of this run."""
    found: Config = click.get_current_context().meta[_CONFIG]
    return found


def images_path(given: str) -> str:
    """Resolve a path, or the name of a data set in the configuration, to a path."""
    return str(config().datasets.get(given, given))


# --- which file ------------------------------------------------------------------------------------------------------


def complete_variant(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a variant."""
    return [CompletionItem(each.id, help=each.name) for each in api.variants() if each.id.startswith(incomplete)]


def complete_publisher(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a publisher."""
    return [CompletionItem(name) for name in api.publishers() if name.startswith(incomplete)]


class Checkpoint(click.ParamType[str]):
    """A path, a folder, a variant or - for standard input; found by :func:`locate` once the options are checked."""

    name = "checkpoint"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete names of variants and files."""
        return [*complete_variant(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


fetch_option = option(
    "--fetch",
    group=CHECKPOINT,
    is_flag=True,
    help="Download a variant or hf:// file that is not in the cache.",
)


def locate(*names: str, fetch: bool) -> tuple[api.Located, ...]:
    """Find the checkpoints that a command was given.

    Args:
        names: paths, folders, variants, or - for standard input.
        fetch: download variants that are not in the cache.

    Raises:
        AccessError: a variant is not in the cache, or could not be downloaded.
        UnknownVariantError: no variant has this name.
        UsageError: a folder holds several checkpoints, or standard input is named twice.
    """
    if names.count(STDOUT) > 1:
        raise UsageError("standard input can be read once only", got="several checkpoints -")
    found = _locate(names, fetch=fetch)
    for name, each in zip(names, found, strict=True):
        if str(each.path) != name:
            print_detail(f"{name}: {each.path}")
    return found


def _locate(names: Sequence[str], *, fetch: bool) -> tuple[api.Located, ...]:
    if not fetch and STDOUT not in names:
        return tuple(map(api.locate, names))
    from r2convert.cli.progress import TransferDisplay  # here: rich takes a sixth of the time of a conversion

    with TransferDisplay() as display:
        return tuple(
            _from_stdin(display) if name == STDOUT else api.locate(name, fetch=fetch, progress=display)
            for name in names
        )


def _from_stdin(display: TransferDisplay) -> api.Located:
    """Copy standard input to a file, which can be read in any order; it is removed when the command ends."""
    import tempfile  # here: it brings in shutil and random numbers

    folder = click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="r2convert-"))
    path, state = Path(folder) / "standard-input", os.fstat(sys.stdin.fileno())
    display.started("standard input", state.st_size if stat.S_ISREG(state.st_mode) else None, 0)
    with path.open("wb") as file:
        while block := sys.stdin.buffer.read(_BLOCK):
            file.write(block)
            display.advanced("standard input", len(block))
    display.finished("standard input")
    return api.Located(path)


variant_option = option(
    "--variant",
    "--architecture",
    "variant",
    group=CHECKPOINT,
    shell_complete=complete_variant,
    help="The variant, instead of detecting it; needed where the names fit several.",
)

part_options = _together(
    option("--key", group=CHECKPOINT, help="Which of several state dicts in the file, e.g. state_dict or ema."),
    option(
        "--prefix",
        group=CHECKPOINT,
        default="",
        help="Only the tensors under this prefix, e.g. backbone. or resnet.",
    ),
    option(
        "--leave-out",
        group=CHECKPOINT,
        multiple=True,
        metavar="PATTERN",
        help="Leave out tensors whose names match, e.g. 'aux_head.*'; may be repeated.",
    ),
)

_as_part = _as_one("part", api.Part, api.Part._fields)

checkpoint_options = _together(variant_option, part_options, fetch_option, _as_part)

identity_options = _together(
    variant_option,
    option(
        "--from",
        "layout",
        group=CHECKPOINT,
        type=SOURCE_LAYOUT,
        help="The layout of the file, instead of detecting it.",
    ),
    part_options,
    fetch_option,
    _as_part,
)


# --- what verify and doctor measure ----------------------------------------------------------------------------------

device_options = _together(
    option("--device", group=SPEED, help="cpu, cuda, cuda:1 or mps; by default a CUDA GPU if there is one."),
    option(
        "--batch-size",
        group=SPEED,
        type=click.IntRange(1),
        help="Initial batch size; halved when memory runs out. Default: what suits the device.",
    ),
)


def _parse_accelerations(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Parse a comma-separated list; each acceleration once, in the order of the help."""
    given = set() if value is None else {way.strip() for way in value.split(",")}
    unknown = sorted(given - set(api.ACCELERATIONS))
    if unknown:
        message = f"{', '.join(map(repr, unknown))} is none of {', '.join(api.ACCELERATIONS)}"
        raise click.BadParameter(message, context, parameter)
    return tuple(way for way in api.ACCELERATIONS if way in given)


def _parse_channels(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parse ``0.5,0.5,0.5``; a single number stands for all three."""
    if value is None:
        return None
    try:
        numbers = tuple(float(each) for each in value.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise click.BadParameter(f"{value!r} is neither one number nor three separated by commas")
    return numbers * 3 if len(numbers) == 1 else numbers


image_options = _together(
    option("--imagenet", group=IMAGES, type=FILE, metavar="PATH", help="Validation images: measures accuracy."),
    option(
        "--limit",
        group=IMAGES,
        type=click.IntRange(1),
        help="Use a random sample of this many images, stratified by class.",
    ),
    option("--seed", group=IMAGES, type=int, default=0, show_default=True, help="Random seed of --limit."),
    option(
        "--pipeline",
        group=IMAGES,
        type=click.Choice(api.PIPELINES),
        help="How images are prepared: pil like torchvision, opencv like PaddleClas. Default: as the publisher did.",
    ),
    option("--image-size", group=IMAGES, type=click.IntRange(1), help="Side of the crop in pixels, e.g. 288."),
    option(
        "--crop-pct",
        group=IMAGES,
        type=click.FloatRange(0, 1, min_open=True),
        help="The crop's share of the resized short side, e.g. 0.95.",
    ),
    option("--interpolation", group=IMAGES, type=click.Choice(api.INTERPOLATIONS), help="Resize filter."),
    option(
        "--mean", group=IMAGES, callback=_parse_channels, metavar="R,G,B", help="Channel means of pixels from 0 to 1."
    ),
    option("--std", group=IMAGES, callback=_parse_channels, metavar="R,G,B", help="Channel standard deviations."),
    option("--fail-fast", group=IMAGES, is_flag=True, help="Stop once a published accuracy is certainly missed."),
    device_options,
    option(
        "--precision",
        group=SPEED,
        type=click.Choice(api.PRECISIONS),
        default="strict",
        show_default=True,
        help="Numerical precision. strict: float32, TF32 off; fast: the same counts, sooner on a GPU.",
    ),
    option(
        "--accelerate",
        group=SPEED,
        callback=_parse_accelerations,
        metavar="WAY,...",
        help=f"Optimisations for any precision but strict: {', '.join(api.ACCELERATIONS)}.",
    ),
    option("--crop-cache", group=SPEED, type=FILE, metavar="DIR", help="Keep crops in DIR; later runs decode none."),
    option(
        "--predictions", group=OUTPUT, type=FILE, metavar="FILE", help="Keep the prediction of every image in FILE."
    ),
    option("--resume", group=OUTPUT, is_flag=True, help="Continue an interrupted run from its --predictions file."),
    option("--overwrite", group=OUTPUT, is_flag=True, help="Replace the --predictions file."),
    _as_one(
        "protocol",
        api.ProtocolOptions,
        ("pipeline", "image_size", "crop_pct", "interpolation", "mean", "std"),
    ),
)


def _parse_input_size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """``224`` or ``224x320`` to (height, width)."""
    sides = value.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isascii() and side.isdigit() for side in sides):
        raise click.BadParameter(f"{value!r} is not a size: write 256 or, height first, 256x320")
    height, width = int(sides[0]), int(sides[-1])
    if not _SMALLEST_SIDE <= min(height, width) <= max(height, width) <= _LARGEST_SIDE:
        raise click.BadParameter(f"{value!r}: each side must be {_SMALLEST_SIDE} to {_LARGEST_SIDE:,} pixels")
    return height, width


def _parse_wiring(_: click.Context, __: click.Parameter, value: str | None) -> str | bool:
    if value is None:
        return False
    return True if value == SYNTHETIC else value


network_options = _together(
    option(
        "--wiring",
        group=CHECKS,
        type=FILE,
        is_flag=False,
        flag_value=SYNTHETIC,
        callback=_parse_wiring,
        metavar="[FOLDER]",
        help="Run any images (by default synthetic ones) and compare BatchNorm inputs with running statistics.",
    ),
    option(
        "--peer",
        group=CHECKS,
        type=click.Choice(api.PEERS),
        help="Load the file into another implementation too, and compare activations.",
    ),
    option(
        "--input-size",
        group=CHECKS,
        callback=_parse_input_size,
        default="224",
        show_default=True,
        metavar="H[xW]",
        help="Count operations for images of this size.",
    ),
)
