"""`r2convert selftest`: does the reader refuse every bad file, on this machine, with what is installed here?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from r2convert.selftest.trial import Trial


@click.command(
    "selftest",
    short_help="Run the reader over the catalogue of bad files.",
    epilog="\b\nExample:\n  r2convert selftest --against torch",
)
@click.option("--against", type=click.Choice(["torch"]), help="Also show what the installed torch does with each file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def selftest(context: click.Context, against: str | None, as_json: bool) -> None:
    """Make every file of the catalogue of bad files and check that the reader refuses it as it should.

    One line a file: what was expected and what happened. Exit 1 if any file was read, or refused otherwise
    than expected. The files are made in a temporary folder; nothing in them is ever run. With --against
    torch, each file is also loaded with torch.load(weights_only=True) in a confined process of its own.
    """
    import tempfile

    from r2convert.selftest.bad_files import bad_files
    from r2convert.selftest.trial import try_bad_file

    with tempfile.TemporaryDirectory(prefix="r2convert-selftest-") as folder:
        trials = [
            try_bad_file(bad_file, Path(folder) / f"{index:03}{bad_file.suffix}")
            for index, bad_file in enumerate(bad_files())
        ]
        others = _with_torch([trial.path for trial in trials]) if against else None
    if as_json:
        _print_json(trials, others)
    else:
        _print_lines(trials, others)
    if not all(trial.is_as_expected for trial in trials):
        context.exit(1)


def _with_torch(paths: Sequence[Path]) -> list[str]:
    from r2convert.selftest.torch_judge import judge_with_torch

    return judge_with_torch(paths)


def _print_json(trials: Sequence[Trial], others: Sequence[str] | None) -> None:
    from r2convert.cli.console import print_json

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
    print_json({"ok": all(trial.is_as_expected for trial in trials), "files": rows})


def _print_lines(trials: Sequence[Trial], others: Sequence[str] | None) -> None:
    width = max(len(trial.bad_file.name) for trial in trials)
    for index, trial in enumerate(trials):
        mark = "ok  " if trial.is_as_expected else "FAIL"
        line = f"{mark} {trial.bad_file.name:<{width}}  expected {trial.bad_file.expected.__name__}, got {trial.got}"
        click.echo(f"{line}; torch: {others[index]}" if others else line)
        if not trial.is_as_expected and trial.message:
            click.echo(f"     {trial.message.splitlines()[0]}")
    failures = sum(not trial.is_as_expected for trial in trials)
    click.echo(f"{len(trials)} bad files, {failures} not refused as expected")
