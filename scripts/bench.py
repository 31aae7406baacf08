"""Run every benchmark of this folder against its peers and write what was measured to docs/maintainers/benchmarks.md.

    python -m scripts.bench [--output docs/maintainers/benchmarks.md] [--only commands fetch] [--quick]

What is measured is a wheel, built from this tree and installed into an environment of its own: an editable install
compiles what has changed and starts slower. Each ``bench_*.py`` measures against a named peer in one run and prints
ratios. Nothing here fails on a timing: a goal that is missed is said to be missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.make_distributions import bare, build, install, source_date
from scripts.measuring import Figure

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PACKAGES = ("torch", "numpy", "pillow", "simplejpeg", "requests", "click")
VERSIONS = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
#: Pictures instead of rounds: the network takes its time for each of them.
ARGUMENTS = {"imagenet": ("--images", "1000")}
#: The same in a few minutes, to see that all of it runs.
QUICK = {
    "acceleration": ("--images", "16", "--rounds", "1"),
    "commands": ("--rounds", "1"),
    "fetch": ("--rounds", "1"),
    "imagenet": ("--images", "16", "--slices", "1"),
}
INTRODUCTION = """\
# Benchmarks

Every figure is measured against its peer in one run, all competitors in turn, so that a busy moment of the machine
touches all of them; ratios are medians over the rounds. Absolute times are of the machine named below only.
`make bench` builds a wheel, installs it into a clean environment, measures again there and writes this page; nothing
fails on a timing."""


def main() -> None:
    """Run the benchmarks one after another (side by side they would disturb each other) and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "maintainers" / "benchmarks.md")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these alone and print them; writes no page")
    parser.add_argument("--quick", action="store_true", help="few rounds and images, to try it; writes no page")
    options = parser.parse_args()
    started = time.monotonic()
    names = options.only or [path.stem.removeprefix("bench_") for path in sorted(FOLDER.glob("bench_*.py"))]
    with tempfile.TemporaryDirectory(prefix="r2convert-bench-") as place:
        (dist := Path(place, "dist")).mkdir()
        python = install(build(dist, source_date())[1], place)
        shutil.copytree(FOLDER, Path(place, "scripts"))  # beside them lies no r2convert that is not installed
        about = machine(python)
        arguments = QUICK if options.quick else ARGUMENTS
        sections = [section(python, name, arguments.get(name, ()), place) for name in names]
    took = f"{(time.monotonic() - started) / 60:.0f} minutes"
    print(f"all together: {took}", flush=True)
    if options.only is None and not options.quick:
        page = [INTRODUCTION, f"{about}\n| command | `make bench`, {took} |", *sections, gpu_section()]
        options.output.write_text("\n\n".join(page) + "\n")


def section(python: str, name: str, arguments: Sequence[str], place: str) -> str:
    """Run one benchmark, show its table and return it as Markdown; one that fails is said to have failed.

    Args:
        python: the interpreter to measure with.
        name: which benchmark.
        arguments: what it is run with.
        place: the folder that ``scripts`` lies in.
    """
    module = f"scripts.bench_{name}"
    print(f"== {module}", flush=True)
    command = [python, "-m", module, *arguments, "--json"]
    process = subprocess.run(command, cwd=place, env=bare(place), capture_output=True, text=True, check=False)
    if process.returncode:
        sys.stderr.write(process.stderr)
        return f"## {module}\n\nDid not finish: exit code {process.returncode}."
    text = section_text(shlex.join(["python", *command[1:-1]]), json.loads(process.stdout))
    print(text, flush=True)
    return text


def section_text(command: str, document: Mapping[str, Any]) -> str:
    """A benchmark's document as a section of the page.

    Args:
        command: what was run.
        document: what it printed.
    """
    figures = [Figure(**figure) for figure in document["figures"]]
    lines = [
        f"## {document['title']}",
        "",
        f"`{command}`",
        "",
        "| figure | goal | measured | |",
        "|---|---|---|---|",
        *(figure_row(figure) for figure in figures),
    ]
    return "\n".join([*lines, *(["", document["remarks"].strip()] if document["remarks"] else [])])


def figure_row(figure: Figure) -> str:
    """One row of a table."""
    measured = f"**{figure.measured:g}**" if figure.goal else f"{figure.measured:g}"
    return (
        f"| {figure.figure} | {figure.goal or '-'} | {measured}{'' if figure.is_met else ' missed'} | {figure.note} |"
    )


def machine(python: str) -> str:
    """What the figures are measured on, and with the packages of which interpreter."""
    found = subprocess.run([python, "-c", VERSIONS, *PACKAGES], capture_output=True, text=True, check=True).stdout
    versions = ", ".join(map(" ".join, zip(PACKAGES, found.split(), strict=True)))
    load = os.getloadavg()[0]
    rows = [
        ("machine", f"{os.cpu_count()} cores, {processor()}, {memory()} of memory"),
        ("system", f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}"),
        ("versions", versions),
        ("date", f"{datetime.now(UTC):%Y-%m-%d}, load average at the start {load:.1f}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return _first(lines, "model name") or platform.machine()


def memory() -> str:
    """The machine's memory in GiB."""
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def gpu_section() -> str:
    """What `scripts/gpu_check.py` left behind, or that it has not been run."""
    result = ROOT / "docs" / "gpu-check.md"
    if result.is_file():
        return result.read_text(encoding="utf-8").strip()
    return (
        "## GPU\n\n**Not run yet.** `python -m scripts.gpu_check` does all of it in one command on a machine with a "
        "CUDA device."
    )


def _first(lines: Sequence[str], key: str) -> str | None:
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


if __name__ == "__main__":
    main()
