"""`r2convert demo`: the whole job offline on a stand-in: the real commands on generated files."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from r2convert import api
from r2convert.cli import options
from r2convert.errors import AccessError, UsageError

EXIT_FAILED = 1


@options.command("demo", "Run the whole job offline on a stand-in.")
@options.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Work in DIR and leave everything there."
)
@click.pass_context
def command(context: click.Context, keep: Path | None) -> None:
    r"""Run fetch, map and verify on a stand-in for the official Res2Net-50-14w-8s, without network access.

    Parameters and FLOPs are checked against the actual published numbers. The weights are random, so accuracy is
    checked against counts that are known by construction.

    \b
    Example:
      r2convert demo
    """
    with _working_folder(keep) as folder:
        _say("Building stand-ins (no network is needed) ...")
        with api.demo_stage(folder) as stage:
            images, top1, top5 = stage.expected
            _say(
                f"{stage.file_name} has the names, shapes and container of the official {stage.name}, but random\n"
                f"weights. {images} synthetic images have labels chosen so that exactly {top1} are right at top-1\n"
                f"and {top5} at top-5. The file is served at {stage.address}; R2CONVERT_MIRROR points there."
            )
            for number, arguments in enumerate(_steps(stage, folder), start=1):
                code = _run_step(number, arguments, folder, stage.environment)
                if code:
                    _say(f"this step failed with exit code {code}")
                    context.exit(code)
            context.exit(_compare(folder / "results.json", stage.expected))


def _steps(stage: api.DemoStage, folder: Path) -> tuple[Sequence[str], ...]:
    output, results = str(folder / "mm.pth"), str(folder / "results.json")
    return (
        ("fetch", stage.variant),
        ("inspect", stage.variant),
        ("map", stage.variant, output),
        ("verify", output, "--imagenet", str(stage.images), "--json", results),
    )


@contextmanager
def _working_folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="r2convert-demo-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        empty = not any(keep.iterdir())
    except OSError as error:
        got = error.strerror or str(error)
        raise AccessError("the folder to keep the demo in cannot be created", where=str(keep), got=got) from error
    if not empty:
        raise UsageError("the folder to keep the demo in is not empty", where=str(keep))
    yield keep.resolve()


def _run_step(number: int, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    shown = shlex.join(argument.replace(str(folder) + os.sep, "") for argument in arguments)
    click.echo(f"\n[{number}] $ r2convert {shown}")
    command_line = [sys.executable, "-m", "r2convert", *arguments]
    return subprocess.run(command_line, env=dict(environment), check=False).returncode  # noqa: S603 - our own commands


def _compare(results: Path, expected: tuple[int, int, int]) -> int:
    """Compare the measured accuracy with the constructed one."""
    document = json.loads(results.read_text(encoding="utf-8"))
    accuracy = document["results"][0]["accuracy"]
    measured = (accuracy["images"], accuracy["top1_correct"], accuracy["top5_correct"])
    _say(
        "By construction: {} images, {} right at top-1, {} at top-5.\n".format(*expected)
        + "Measured:        {} images, {} right at top-1, {} at top-5.".format(*measured)
    )
    if measured != expected:
        _say("These differ: something is wrong with this installation.")
        return EXIT_FAILED
    _say(
        "All as it should be. The parameters and FLOPs above were checked against the actual published numbers; the\n"
        "weights and images were stand-ins. With network access, `r2convert fetch res2net50_w14_s8` gets the real file."
    )
    return 0


def _say(text: str) -> None:
    click.echo("\n" + "\n".join(f"# {line}" for line in text.splitlines()))
