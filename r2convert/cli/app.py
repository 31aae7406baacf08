"""The program: its commands, each imported only when run, and how errors, signals and closed streams are handled."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import FrameType, MappingProxyType
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from r2convert.errors import AccessError, LargerNetworkError, R2ConvertError
from r2convert.version import __version__

EXIT_TERMINATED = 143
EXIT_BROKEN_PIPE = 141
EXIT_INTERNAL = 70
"""A bug in r2convert itself (EX_SOFTWARE of sysexits.h), unlike the codes that scripts act on."""

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "list": "List architectures and weights: published numbers, files, what is in the cache.",
        "fetch": "Download weights, verify them and keep them in the cache.",
        "inspect": "Show what a file really is: container, layout, variant, tensors.",
        "layout": "Learn the names of an unknown code base from one file.",
        "map": "Convert a checkpoint into another layout.",
        "compare": "Tell whether two checkpoints hold the same network, and where they differ.",
        "verify": "Check checkpoints against the published numbers.",
        "doctor": "Find out why accuracy is off: try the usual causes and rank them.",
        "report": "Turn results of verify into a page, a Markdown table or a metafile.",
        "cache": "Show, check or clean the cache folder.",
        "selftest": "Run the reader over the catalogue of bad files.",
        "demo": "Run the whole job offline on a stand-in.",
        "completion": "Set up completion of commands, options and names in your shell.",
    }
)
"""Command name -> its short help; the command itself is ``command`` in ``r2convert.cli.commands.<name>``."""

_OTHER_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "convert": "map",
        "download": "fetch",
        "ls": "list",
        "info": "inspect",
        "show": "inspect",
        "diff": "compare",
        "check": "verify",
        "evaluate": "verify",
        "diagnose": "doctor",
    }
)
"""What commands are called elsewhere -> our names, for suggestions."""

FIRST_STEPS = """\
r2convert converts Res2Net checkpoints and proves that they are right. Three steps:

  r2convert fetch res2net50_w14_s8                        download official weights
  r2convert map res2net50_w14_s8 mm.pth                   convert them
  r2convert verify mm.pth --imagenet /data/val            check sizes and accuracy

No network, no images? `r2convert demo` does the whole job on a stand-in.
All commands: `r2convert --help`. Completion in your shell: `r2convert completion --help`."""


class Settings:
    """Settings of the whole run; the options that fill it in work anywhere on the command line.

    Attributes:
        quiet: print results, warnings and errors only.
        verbose: print on stderr what is used: configuration, files, device, time.
        debug: show Python's traceback with an error.
        json: JSON on stdout was asked for, and nothing has been printed there yet: an error is printed there too.
    """

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = False
        self.debug = False
        self.json = False


def run() -> int:
    """Run the command line; return 0 (success), 1 (a check failed), 2 (usage), 3 (bad input) or 4 (no access)."""
    # Reading a checkpoint makes tens of thousands of small objects that are needed to the end: looking through them
    # for cycles at the usual rate would take a tenth of a short command's time.
    gc.set_threshold(100_000)
    # A terminated run cleans up after itself like an interrupted one.
    signal.signal(signal.SIGTERM, _terminate)
    _prepare_streams()
    code = _run(sys.argv[1:])
    gc.freeze()  # nothing is left to collect: skip the collector's last pass at exit
    return code


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)


def _prepare_streams() -> None:
    """Make sure that printing cannot fail on a closed stream or a character that it cannot encode."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Closed by the caller. The next file opened, perhaps an output, would get its number and our messages.
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 - stays open until the process ends
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be UTF-8, and a terminal may not support every character.
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    settings = Settings()
    try:
        result = application.main(args=arguments, prog_name="r2convert", standalone_mode=False, obj=settings)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except SystemExit as stopped:
        if stopped.code != 1:
            raise
        # click and rich exit like this when the reader has gone; here it would mean that a check failed.
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except click.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if (end := _what_ended(error)) is not None:
            raise end from None
        return _report(error, settings, arguments)
    return result if isinstance(result, int) else 0


def _what_ended(error: BaseException | None) -> KeyboardInterrupt | SystemExit | None:
    """The interrupt that an error comes from, if it does: C code, for example, turns one into a failure of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        error = error.__cause__ or error.__context__
    return error


def _report(error: Exception, settings: Settings, arguments: list[str]) -> int:
    """Show an error, with Python's traceback if asked for; results printed before it stay."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()
    # Imported here so that `--help` does not wait for them.
    import traceback

    from r2convert.cli.console import print_error

    if settings.debug:
        traceback.print_exc()
    problem, code = _as_problem(error)
    if isinstance(problem, LargerNetworkError) and [each for each in arguments if each[:1] != "-"][:1] == ["map"]:
        problem.next_step = f"`{_taking_out(problem, arguments)}` takes {problem.which} out"
    print_error(problem, code, settings)
    return code


def _taking_out(problem: LargerNetworkError, arguments: list[str]) -> str:
    """The command as it was given, with the options that take a network out of a larger one."""
    from shlex import join, split

    added = [each for each in split(problem.options) if each != "--backbone-only" or each not in arguments]
    kept, given = [], iter(arguments)
    for each in given:
        if each == "--prefix" in added:
            next(given, None)
        elif not (each.startswith("--prefix=") and "--prefix" in added):
            kept.append(each)
    end = kept.index("--") if "--" in kept else len(kept)
    return join(["r2convert", *kept[:end], *added, *kept[end:]])


def _as_problem(error: Exception) -> tuple[R2ConvertError, int]:
    """Turn any error into one with a readable message, and return it with its exit code."""
    if isinstance(error, R2ConvertError):
        return error, error.exit_code
    if isinstance(error, click.ClickException):
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "r2convert"
        # Like the library's own messages: one sentence that starts in lower case.
        message = " ".join(error.format_message().split()).rstrip(".")
        message = message[:1].lower() + message[1:]
        return R2ConvertError(message, next_step=f"`{path} --help` shows the options and an example"), error.exit_code
    if isinstance(error, OSError):
        where = None if error.filename is None else str(error.filename)
        problem = AccessError("something could not be read or written", where=where, got=error.strerror or str(error))
        return problem, problem.exit_code
    if isinstance(error, MemoryError):
        problem = AccessError("out of memory", next_step="close other programs, or use a larger machine")
        return problem, problem.exit_code
    bug = R2ConvertError(
        "this is a bug in r2convert: please report it",
        got=f"{type(error).__name__}: {error}",
        next_step="`r2convert --debug ...` shows where it happened",
    )
    return bug, EXIT_INTERNAL


def _discard_stdout() -> None:
    """Discard what is still buffered: flushing it at exit must not raise again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _remember(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    found = context.find_object(Settings)
    if value and found is not None and parameter.name is not None:
        setattr(found, parameter.name, True)
    return value


def general_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the whole program to a command, so that they also work at the end of a line."""
    for names, text in (
        (("--debug",), "Show Python's traceback with an error."),
        (("-v", "--verbose"), "Print on stderr what is used: configuration, files, device, time."),
        (("--quiet",), "Print results, warnings and errors only."),
    ):
        flag = click.option(*names, is_flag=True, expose_value=False, is_eager=True, callback=_remember, help=text)
        function = flag(function)
    return function


class LazyGroup(click.Group):
    """A group that knows its commands' names and short helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every command, in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"r2convert.cli.commands.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - a bug in this package, not the user's
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest a similar one if there is none of that name."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = [_OTHER_WORDS[name]] if name in _OTHER_WORDS else get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without importing every command."""
        commands = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands into the help text."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example:\n\n\b\n  r2convert fetch res2net50_w14_s8\n"
    "  r2convert map res2net50_w14_s8 mm.pth\n  r2convert verify mm.pth",
)
@general_options
@click.version_option(__version__, prog_name="r2convert")
@click.pass_context
def application(context: click.Context) -> None:
    """Convert Res2Net checkpoints between layouts and verify them against the published numbers."""
    if context.invoked_subcommand is None:
        click.echo(FIRST_STEPS)
