"""The command group: every command is imported when it is run, so that `--help` and `list` start fast."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click
from click.shell_completion import CompletionItem

from r2convert.cli.console import QUIET
from r2convert.version import __version__

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "list": "All variants, what is published about them, and what is in the cache.",
        "fetch": "Download weights, verify them and keep them in the cache.",
        "inspect": "What a file really is: container, layout, variant, tensors.",
        "map": "Convert a checkpoint into another layout.",
        "compare": "Are two checkpoints the same network? If not, where do they differ?",
        "verify": "Check checkpoints against the published numbers.",
        "doctor": "Accuracy is off: try the usual causes and rank them.",
        "report": "Results of verify as a page, a Markdown table or a metafile.",
        "cache": "The cache folder and its files.",
        "selftest": "Run the reader over the catalogue of bad files.",
        "demo": "The whole job, offline, on a stand-in, in about a minute.",
        "completion": "Print what makes a shell complete commands, options and names.",
    }
)
"""Command name -> its short help; the command itself is ``r2convert.cli.commands.<name>``'s object of that name."""

_MODULES: Mapping[str, str] = MappingProxyType({"list": "list_variants", "map": "map_checkpoint"})
"""Modules that cannot be called as their command: the names are Python's own."""


FIRST_STEPS = """\
r2convert converts Res2Net checkpoints and proves that they are right. Three steps:

  r2convert fetch res2net50_w14_s8                        download official weights
  r2convert map --src res2net50_w14_s8 --dst mm.pth       convert them
  r2convert verify mm.pth --imagenet /data/val            check sizes and accuracy

No network, no images? `r2convert demo` goes the whole way on a stand-in.
All commands: `r2convert --help`. Completion in your shell: `r2convert completion --help`."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and short helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every command, in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module_name = _MODULES.get(cmd_name, cmd_name)
        command = getattr(import_module(f"r2convert.cli.commands.{module_name}"), module_name)
        assert isinstance(command, click.Command)  # noqa: S101 - a mistake in this package, not of the user
        # A raw docstring spells out the backspace that keeps click from joining the lines of an example.
        command.help = (command.help or "").replace("\\b\n", "\b\n")
        return command

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
    "  r2convert map --src res2net50_w14_s8 --dst mm.pth\n  r2convert verify mm.pth",
)
@click.option("--quiet", is_flag=True, help="Print results, warnings and errors only.")
@click.option("--debug", is_flag=True, help="Show Python's traceback with an error.")
@click.version_option(__version__, prog_name="r2convert")
@click.pass_context
def application(context: click.Context, quiet: bool, debug: bool) -> None:
    """Convert Res2Net checkpoints between layouts and verify them against the published numbers."""
    del debug  # `main` looks for it itself, as errors are shown after click is done; here it is for --help
    context.meta[QUIET] = quiet
    if context.invoked_subcommand is None:
        click.echo(FIRST_STEPS)
