"""`r2convert completion`: the script that makes a shell complete commands, options and variants."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print what makes a shell complete commands, options and names.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the script that makes SHELL complete commands, options and names of variants.

    \b
    Examples:
      r2convert completion bash >> ~/.bashrc
      r2convert completion zsh >> ~/.zshrc
      r2convert completion fish > ~/.config/fish/completions/r2convert.fish
    """
    program = context.find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click brings all of SHELLS
    click.echo(kind(program, {}, "r2convert", "_R2CONVERT_COMPLETE").source())


def complete_variant(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of variants that begin with what has been typed."""
    from r2convert.catalog import load_catalog

    variants = load_catalog().variants.values()
    return [CompletionItem(each.id, help=each.name) for each in variants if each.id.startswith(incomplete)]


def complete_checkpoint(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of variants, and whatever files the shell finds."""
    return [*complete_variant(context, parameter, incomplete), CompletionItem(incomplete, type="file")]
