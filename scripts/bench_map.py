"""Measure `r2convert map`: whole processes against `cp` and against the usual script, ratios in one run.

    python scripts/bench_map.py [--rounds 7]

The file is a stand-in for the official Res2Net-101-26w-4s, 181 MB, written by torch and read from the page cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAKE = """
import sys
from pathlib import Path
from r2convert.catalog import load_catalog
from r2convert.mapping.tables import Tables
from r2convert.verify.standin import write_standin_checkpoint
tables = Tables(load_catalog({}))
write_standin_checkpoint(tables, tables.catalog.find("res2net101_w26_s4"), Path(sys.argv[1]))
"""
USUAL_SCRIPT = """
import sys, torch
renamed = {}
for name, tensor in torch.load(sys.argv[1], weights_only=True).items():
    renamed[name.replace("fc.", "head.fc.") if name.startswith("fc.") else "backbone." + name] = tensor
torch.save(renamed, sys.argv[2])
"""
RATIOS = (
    ("map", "cp", "at most 3"),
    ("map", "usual script", "at most 0.2"),
    ("map, no receipt, no check", "cp", "at most 1.7"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One process: its wall-clock time and its largest resident set in MiB."""

    seconds: float
    mebibytes: float


def run(arguments: list[str]) -> Run:
    """Run a process to its end; its peak memory comes from the kernel's accounting of that one child."""
    started = time.perf_counter()
    silence = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    child = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=silence)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"failed: {' '.join(arguments)[:200]}")
    return Run(seconds, usage.ru_maxrss / 1024)


def commands(folder: Path) -> dict[str, list[str]]:
    """The processes to compare, each writing its own file."""
    source = str(folder / "official.pth")
    convert = [sys.executable, "-m", "r2convert", "map", "--overwrite", "--src", source, "--dst"]
    return {
        "cp": ["/usr/bin/env", "cp", source, str(folder / "copy.pth")],
        "map": [*convert, str(folder / "mm.pth")],
        "map, no receipt, no check": [*convert, str(folder / "quick.pth"), "--no-receipt", "--no-check"],
        "usual script": [sys.executable, "-c", USUAL_SCRIPT, source, str(folder / "usual.pth")],
    }


def measure(processes: Mapping[str, list[str]], rounds: int) -> dict[str, list[Run]]:
    """Run all processes in turn, so that a slow moment of the machine touches all of them; the first round warms up."""
    results: dict[str, list[Run]] = {name: [] for name in processes}
    for number in range(rounds + 1):
        for name, arguments in processes.items():
            result = run(arguments)
            if number:
                results[name].append(result)
    return results


def main() -> None:
    """Make the file, run the processes and print times, memory and the median of the ratios round by round."""
    parser = argparse.ArgumentParser(description="Benchmark r2convert map.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="r2convert-bench-") as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MAKE, str(folder / "official.pth")], check=True)
        results = measure(commands(folder), rounds)
    for title, runs in results.items():
        seconds = statistics.median(each.seconds for each in runs)
        print(f"  {title:<28}{seconds:7.3f} s {max(each.mebibytes for each in runs):7.0f} MiB")
    for title, peer, goal in RATIOS:
        ratios = [one.seconds / other.seconds for one, other in zip(results[title], results[peer], strict=True)]
        print(f"  {title} / {peer}: {statistics.median(ratios):.2f} (goal: {goal})")


if __name__ == "__main__":
    main()
