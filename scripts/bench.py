"""Run every benchmark of this folder against its peers and write what was measured to docs/maintainers/benchmarks.md.

    python -m scripts.bench [--output docs/maintainers/benchmarks.md] [--only map fetch]

Each ``bench_*.py`` measures whole processes against a named peer in one run and prints ratios. Nothing here fails on
a timing: a goal that is missed is said to be missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.measuring import Figure

FOLDER = Path(__file__).parent
PACKAGES = ("torch", "numpy", "pillow", "simplejpeg", "requests", "click")
#: Pictures instead of rounds: the network takes its time for each of them.
ARGUMENTS = {"imagenet": ("--images", "1000")}
INTRODUCTION = """\
# Benchmarks

Every figure is measured against its peer in one run, all competitors in turn, so that a busy moment of the machine
touches all of them; ratios are medians over the rounds. Absolute times are of the machine named below only.
`make bench` measures again and writes this page; nothing fails on a timing."""


def main() -> None:
    """Run the benchmarks one after another (side by side they would disturb each other) and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER.parent / "docs" / "maintainers" / "benchmarks.md")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these alone and print them; writes no page")
    options = parser.parse_args()
    names = options.only or [path.stem.removeprefix("bench_") for path in sorted(FOLDER.glob("bench_*.py"))]
    sections = [section(name) for name in names]
    if options.only is None:
        command = shlex.join(["python", "-m", "scripts.bench", *sys.argv[1:]])
        options.output.write_text("\n\n".join([INTRODUCTION, machine(command), *sections, gpu_section()]) + "\n")


def section(name: str) -> str:
    """Run one benchmark, show its table and return it as Markdown; one that fails is said to have failed."""
    module = f"scripts.bench_{name}"
    print(f"== {module}", flush=True)
    command = [sys.executable, "-m", module, *ARGUMENTS.get(name, ()), "--json"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
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


def machine(command: str) -> str:
    """What the figures were measured on, and with."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    load = os.getloadavg()[0]
    rows = [
        ("machine", f"{os.cpu_count()} cores, {processor()}, {memory()} of memory"),
        ("system", f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}"),
        ("versions", versions),
        ("date", f"{datetime.now(UTC):%Y-%m-%d}, load average at the start {load:.1f}"),
        ("command", f"`{command}`"),
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
    result = FOLDER.parent / "docs" / "gpu-check.md"
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
