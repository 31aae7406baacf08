"""`r2convert completion`: the script that makes a shell complete commands, options and variants."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from r2convert.cli import options

SHELLS = ("bash", "zsh", "fish")


@options.command("completion", "Set up completion of commands, options and names in your shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    r"""Print the script that makes SHELL complete commands, options, files and names of variants.

    \b
    Examples:
      r2convert completion bash >> ~/.bashrc
      r2convert completion zsh >> ~/.zshrc
      r2convert completion fish > ~/.config/fish/completions/r2convert.fish
    """
    program = context.find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click supports all of SHELLS
    click.echo(kind(program, {}, "r2convert", "_R2CONVERT_COMPLETE").source())
