"""`r2convert selftest`: does the reader refuse every bad file, on this machine, with what is installed here?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import print_json

EXIT_FAILED = 1


@options.command("selftest", "Run the reader over the catalogue of bad files.")
@options.option(
    "--against", type=click.Choice(["torch"]), help="Also show what the installed torch does with each file."
)
@options.json_option
@click.pass_context
def command(context: click.Context, against: Literal["torch"] | None, as_json: bool) -> None:
    r"""Write every file of the catalogue of bad files and check that the reader refuses it as it should.

    One line per file: what was expected and what happened. Exit code 1 if any file was read, or refused for another
    reason than expected. The files are written to a temporary folder; nothing in them is ever run. With --against
    torch, each file is also loaded with torch.load(weights_only=True) in a confined process of its own.

    \b
    Example:
      r2convert selftest --against torch
    """
    trials, others = api.selftest(against=against)
    if as_json:
        print_json(_document(trials, others))
    else:
        _print(trials, others)
    if not all(trial.is_as_expected for trial in trials):
        context.exit(EXIT_FAILED)


def _document(trials: Sequence[api.Trial], others: Sequence[str] | None) -> dict[str, object]:
    rows: list[dict[str, object]] = [
        {
            "name": trial.bad_file.name,
            "expected": trial.bad_file.expected.__name__,
            "got": trial.got,
            "ok": trial.is_as_expected,
        }
        for trial in trials
    ]
    for row, other in zip(rows, others or (), strict=False):
        row["torch"] = other
    return {"ok": all(trial.is_as_expected for trial in trials), "files": rows}


def _print(trials: Sequence[api.Trial], others: Sequence[str] | None) -> None:
    width = max(len(trial.bad_file.name) for trial in trials)
    for index, trial in enumerate(trials):
        mark = "ok  " if trial.is_as_expected else "FAIL"
        line = f"{mark} {trial.bad_file.name:<{width}}  expected {trial.bad_file.expected.__name__}, got {trial.got}"
        click.echo(f"{line}; torch: {others[index]}" if others else line)
        if not trial.is_as_expected and trial.message:
            click.echo(f"     {trial.message.splitlines()[0]}")
    failures = sum(not trial.is_as_expected for trial in trials)
    click.echo(f"{len(trials)} bad files, {failures} not refused as expected")
