"""`r2convert report`: verification results as a page, a Markdown table, a metafile, or a table in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2convert.cli.console import print_note, stdout_console
from r2convert.errors import AccessError, UsageError

if TYPE_CHECKING:
    from r2convert.results.recorded import RecordedRun

STDOUT = "-"


@click.command(short_help="Results of verify as a page, a Markdown table or a metafile.")
@click.argument("results", nargs=-1, required=True, metavar="RESULTS.json...")
@click.option("--html", metavar="FILE", help="Write one self-contained page; needs the extra [report].")
@click.option("--markdown", metavar="FILE", help="Write the table as model zoos print it.")
@click.option("--metafile", metavar="FILE", help="Write OpenMMLab's model-index YAML with the measured numbers.")
@click.option(
    "--imagenet",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The images that were measured on: shows those that were confused in the page.",
)
def report(
    results: tuple[str, ...], html: str | None, markdown: str | None, metafile: str | None, imagenet: Path | None
) -> None:
    r"""Report RESULTS.json, one or several files that `r2convert verify --json` has written.

    FILE may be - for standard output, and a results file - for standard input. Files that are there are replaced.
    Without an option, the verdict table is printed.

    \b
    Examples:
      r2convert report results.json
      r2convert report results.json --html report.html
      r2convert report results.json --html report.html --imagenet /data/val
      r2convert report first.json second.json --markdown -
    """
    from r2convert.results.reading import read_run

    targets = {"--html": html, "--markdown": markdown, "--metafile": metafile}
    _require_sense(results, targets, imagenet)
    runs = [read_run(path) for path in results]
    if not any(targets.values()):
        _print_table(runs)
        return
    # All of them are made before the first is written: either all the files are new or none is.
    texts = {
        "--html": _html(runs, imagenet) if html else None,
        "--markdown": _markdown(runs) if markdown else None,
        "--metafile": _metafile(runs) if metafile else None,
    }
    for option, text in texts.items():
        target = targets[option]
        if text is not None and target is not None:
            _write(target, text)


def _require_sense(results: tuple[str, ...], targets: dict[str, str | None], imagenet: Path | None) -> None:
    for option, target in targets.items():
        if target == "":
            raise UsageError(f"{option} needs the path of a file", expected=f"{option} FILE, or {option} - for stdout")
    if list(targets.values()).count(STDOUT) > 1:
        raise UsageError("only one report can go to standard output", got="several options with -")
    places = [Path(target).absolute() for target in targets.values() if target and target != STDOUT]
    if len(set(places)) < len(places):
        raise UsageError("two reports cannot go to the same file", got=str(places[0]))
    if results.count("-") > 1:
        raise UsageError("standard input can be read once only", got="several results files -")
    if imagenet is not None and not targets["--html"]:
        raise UsageError("--imagenet shows images in a page", expected="--html FILE --imagenet PATH")


def _print_table(runs: list[RecordedRun]) -> None:
    from r2convert.report.verdict_table import reason_lines, verdict_table

    results = [result for run in runs for result in run.results]
    console = stdout_console()
    console.print(verdict_table(results))
    console.print(reason_lines(results), soft_wrap=True)


def _html(runs: list[RecordedRun], imagenet: Path | None) -> str:
    from importlib.util import find_spec

    from r2convert.catalog import load_catalog

    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise UsageError(
            "--html needs packages that are not installed",
            expected="jinja2 and matplotlib",
            got=f"no {' and no '.join(missing)}",
            next_step="pip install 'r2convert[report]'; --markdown and --metafile work without",
        )
    from r2convert.report.page.rendering import render_page
    from r2convert.report.page.thumbnails import Thumbnails

    return render_page(runs, load_catalog(), Thumbnails.from_images(imagenet))


def _markdown(runs: list[RecordedRun]) -> str:
    from r2convert.catalog import load_catalog
    from r2convert.report.markdown import markdown_table

    return markdown_table(runs, load_catalog())


def _metafile(runs: list[RecordedRun]) -> str:
    from r2convert.report.metafile import model_index

    return model_index(runs)


def _write(target: str, text: str) -> None:
    from r2convert.files import write_text

    if target == STDOUT:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if not path.parent.is_dir():
        raise AccessError("the report cannot be written there", where=target, got="no such folder")
    write_text(path, text)
    print_note(f"report written to {target}")
