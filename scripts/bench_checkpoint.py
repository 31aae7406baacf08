"""Measure the checkpoint room: whole processes, against a named peer, ratios in one run.

    python scripts/bench_checkpoint.py [--megabytes 180] [--rounds 5]

A ratio compares the medians of rounds in which both programs ran one after the other. Files are made with torch
in a temporary folder and read from the page cache.
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
import sys, torch
folder, megabytes = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
count = 300
tensors = {f"layer{i}.conv.weight": torch.randn(megabytes * 250_000 // count) for i in range(count)}
tensors |= {f"layer{i}.bn.num_batches_tracked": torch.tensor(i) for i in range(count)}
torch.save(tensors, f"{folder}/zip.pth")
torch.save(tensors, f"{folder}/legacy.pth", _use_new_zipfile_serialization=False)
"""
DESCRIBE = """
import sys
from pathlib import Path
from r2convert.checkpoint.reading import open_checkpoint
with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    print(len(checkpoint.tensors), checkpoint.sha256() if sys.argv[2:] else "")
"""
READ = """
import sys
from pathlib import Path
from r2convert.checkpoint.reading import open_checkpoint
with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    arrays = {name: checkpoint.array(tensor) for name, tensor in checkpoint.tensors.items()}
"""
REWRITE = """
import sys
from pathlib import Path
from r2convert.checkpoint.reading import open_checkpoint
from r2convert.checkpoint.writing import write_checkpoint
check = sys.argv[3] == "check"
with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    if check:
        checkpoint.begin_sha256()
    outputs = [checkpoint.output(tensor.renamed("x." + name)) for name, tensor in checkpoint.tensors.items()]
    write_checkpoint(Path(sys.argv[2]), outputs, overwrite=True, check=check)
    if check:
        checkpoint.sha256()
"""
TORCH_READ = "import sys, torch; torch.load(sys.argv[1], weights_only=True)"
TORCH_REWRITE = """
import sys, torch
tensors = torch.load(sys.argv[1], weights_only=True)
torch.save({"x." + name: tensor for name, tensor in tensors.items()}, sys.argv[2])
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One process: how long it took and how much memory it needed at most.

    Attributes:
        seconds: wall-clock time.
        mebibytes: largest resident set.
    """

    seconds: float
    mebibytes: float


def run(arguments: list[str]) -> Run:
    """Run a process to its end; its peak memory is read from the kernel's accounting of that one child."""
    started = time.perf_counter()
    child = os.posix_spawn(
        arguments[0], arguments, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    )
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"failed: {' '.join(arguments)[:200]}")
    return Run(seconds, usage.ru_maxrss / 1024)


def measure(commands: Mapping[str, list[str]], rounds: int) -> dict[str, Run]:
    """Run all commands in turn, several rounds, and return each one's median time and largest memory."""
    results: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, arguments in commands.items():
            results[name].append(run(arguments))
    return {
        name: Run(statistics.median(each.seconds for each in runs), max(each.mebibytes for each in runs))
        for name, runs in results.items()
    }


def commands(folder: Path) -> dict[str, list[str]]:
    """The processes to compare."""
    zipped, legacy, output = str(folder / "zip.pth"), str(folder / "legacy.pth"), str(folder / "output.pth")
    python = [sys.executable, "-c"]
    return {
        "sha256sum": ["/usr/bin/env", "sha256sum", zipped],
        "describe": [*python, DESCRIBE, zipped],
        "describe, with SHA-256": [*python, DESCRIBE, zipped, "digest"],
        "torch.load, legacy": [*python, TORCH_READ, legacy],
        "read into NumPy, legacy": [*python, READ, legacy],
        "torch.load, zip": [*python, TORCH_READ, zipped],
        "read into NumPy, zip": [*python, READ, zipped],
        "cp": ["/usr/bin/env", "cp", zipped, str(folder / "copy.pth")],
        "rewrite, unchecked": [*python, REWRITE, zipped, output, "no"],
        "rewrite, read back, both SHA-256": [*python, REWRITE, zipped, output, "check"],
        "the usual script": [*python, TORCH_REWRITE, zipped, str(folder / "usual.pth")],
    }


#: What is compared with what, and the figure to reach, if there is one.
RATIOS = (
    ("describe, with SHA-256", "sha256sum", "at most 2"),
    ("read into NumPy, legacy", "torch.load, legacy", "at most 1"),
    ("read into NumPy, zip", "torch.load, zip", ""),
    ("rewrite, unchecked", "cp", "at most 1.7"),
    ("rewrite, read back, both SHA-256", "cp", "at most 3"),
    ("rewrite, read back, both SHA-256", "the usual script", "at most 0.2"),
)


def main() -> None:
    """Make the files, run all processes and print times, memory and ratios."""
    parser = argparse.ArgumentParser(description="Benchmark the checkpoint room.")
    parser.add_argument("--megabytes", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="r2convert-bench-") as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MAKE, name, str(arguments.megabytes)], check=True)
        results = measure(commands(folder), arguments.rounds)
    print(f"{arguments.megabytes} MB, median of {arguments.rounds} rounds, largest memory")
    for title, result in results.items():
        print(f"  {title:<34}{result.seconds:7.3f} s {result.mebibytes:7.0f} MiB")
    for title, peer, goal in RATIOS:
        ratio = results[title].seconds / results[peer].seconds
        print(f"  {title} / {peer}: {ratio:.2f}" + (f" (goal: {goal})" if goal else ""))


if __name__ == "__main__":
    main()
