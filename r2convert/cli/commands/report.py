"""`r2convert report`: verification results as a page, a Markdown table, a metafile, or a table in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import open_output, stderr_console, stdout_console
from r2convert.errors import UsageError


@options.command("report", "Turn results of verify into a page, a Markdown table or a metafile.")
@click.argument("results", nargs=-1, required=True, metavar="RESULTS.json...", type=options.FILE)
@options.option("--html", type=options.FILE, metavar="FILE", help="One self-contained page; needs the extra [report].")
@options.option("--markdown", type=options.FILE, metavar="FILE", help="The table as model zoos print it.")
@options.option(
    "--metafile", type=options.FILE, metavar="FILE", help="OpenMMLab's model-index YAML with the measured numbers."
)
@options.option(
    "--imagenet",
    type=options.FILE,
    metavar="PATH",
    help="The images of the measurement, to show confused and changed ones in the page.",
)
@options.option(
    "--predictions",
    nargs=2,
    type=options.FILE,
    metavar="BEFORE AFTER",
    help="The files of both runs' verify --predictions, to show in the page which images changed.",
)
def command(
    results: tuple[str, ...],
    html: str | None,
    markdown: str | None,
    metafile: str | None,
    imagenet: str | None,
    predictions: tuple[str, str] | None,
) -> None:
    r"""Report RESULTS.json, one or several files written by `r2convert verify --json`.

    FILE may be - for standard output, and a results file - for standard input. Existing files are replaced.
    Without an option, the verdict table is printed. For two results files, the page shows what changed between them.

    \b
    Examples:
      r2convert report results.json
      r2convert report results.json --html report.html
      r2convert report results.json --html report.html --imagenet /data/val
      r2convert report a.json b.json --html changes.html --predictions a.jsonl b.jsonl
      r2convert report first.json second.json --markdown -
    """
    targets: dict[api.ReportKind, str | None] = {"html": html, "markdown": markdown, "metafile": metafile}
    wanted = {kind: target for kind, target in targets.items() if target is not None}
    _check_usage(results, wanted, imagenet, predictions)
    runs = api.read_results(results)
    if not wanted:
        _print_table(runs)
        return
    with ExitStack() as stack:
        # Open every output and render every text before writing the first: all files are new or none is.
        outputs = {
            kind: stack.enter_context(open_output(target, "report"))
            for kind, target in wanted.items()
            if target != options.STDOUT
        }
        images = options.images_path(imagenet) if imagenet is not None else None
        compared = _compare(predictions) if predictions is not None else None
        texts = {kind: api.render_report(runs, kind, imagenet=images, predictions=compared) for kind in wanted}
        for kind, text in texts.items():
            if kind in outputs:
                outputs[kind](text)
            else:
                sys.stdout.buffer.write(text.encode())
                sys.stdout.buffer.flush()


def _check_usage(
    results: Sequence[str],
    wanted: dict[api.ReportKind, str],
    imagenet: str | None,
    predictions: tuple[str, str] | None,
) -> None:
    for kind, target in wanted.items():
        if target == "":
            raise UsageError(f"--{kind} needs the path of a file", expected=f"--{kind} FILE, or --{kind} - for stdout")
    targets = list(wanted.values())
    if targets.count(options.STDOUT) > 1:
        raise UsageError("only one report can go to standard output", got="several options with -")
    paths = [Path(target).absolute() for target in targets if target != options.STDOUT]
    if len(set(paths)) < len(paths):
        raise UsageError("two reports cannot go to the same file", got=str(paths[0]))
    options.refuse_replacing_inputs(
        {f"--{kind}": target for kind, target in wanted.items()}, (*results, imagenet, *(predictions or ()))
    )
    if results.count(options.STDOUT) > 1:
        raise UsageError("standard input can be read once only", got="several results files -")
    if imagenet is not None and "html" not in wanted:
        raise UsageError("--imagenet shows images in a page", expected="--html FILE --imagenet PATH")
    if predictions is not None and ("html" not in wanted or len(results) != 2):
        raise UsageError(
            "--predictions shows in a page what changed between two runs",
            expected="BEFORE.json AFTER.json --html FILE --predictions BEFORE AFTER",
            got=f"{len(results)} results file" + ("s" if len(results) != 1 else ""),
        )


def _compare(predictions: tuple[str, str]) -> api.PredictionsComparison:
    """Compare the predictions, with a spinner on a terminal."""
    with stderr_console().status("comparing predictions"):
        return api.compare_predictions(*predictions)


def _print_table(runs: Sequence[api.Run]) -> None:
    # Imported here: rich slows start-up, and neither `--help` nor a report in a file needs it.
    from r2convert.report.terminal import reason_lines, unchecked_lines, verdict_table

    results = [result for run in runs for result in run.results]
    unchecked = [file for run in runs for file in run.verification.unchecked]
    console = stdout_console()
    if results:
        console.print(verdict_table(results))
        console.print(reason_lines(results), soft_wrap=True)
    if unchecked:
        console.print(unchecked_lines(unchecked), soft_wrap=True)
    if not results and not unchecked:
        console.print("no network was verified")
