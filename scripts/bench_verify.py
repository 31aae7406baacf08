"""Measure what `verify` takes without images: whole processes, beyond what importing torch takes anyway.

    python -m scripts.bench_verify [--rounds 3] [--json]

The files are stand-ins for all variants of the official table, 1.67 GB, written by torch and read from the page cache.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.measuring import Figure, in_turn, parser, seconds, tell

MAKE = """
import sys
from pathlib import Path
from r2convert.catalog import load_catalog
from r2convert.mapping.tables import Tables
from r2convert.checks.standins import write_random_checkpoint
tables = Tables(load_catalog({}))
for variant in tables.catalog.variants.values():
    layout = variant.sources[0].layout
    write_random_checkpoint(tables, variant, Path(sys.argv[1], f"{variant.id}.pth"), layout=layout)
"""
COUNT = """
import time
from r2convert.catalog import load_catalog
from r2convert.checks.counting import count_operations
variants = list(load_catalog({}).variants.values())
count_operations(variants[0])  # what torch brings in on first use is no counting
slowest = 0
for variant in variants:
    started = time.perf_counter()
    count_operations(variant)
    slowest = max(slowest, time.perf_counter() - started)
print(slowest)
"""


def main() -> None:
    """Make the files, run the processes and tell the figures."""
    options = parser(__doc__, rounds=3).parse_args()
    with tempfile.TemporaryDirectory(prefix="r2convert-bench-") as name:
        subprocess.run([sys.executable, "-c", MAKE, name], check=True)
        files = sorted(map(str, Path(name).iterdir()))
        megabytes = sum(Path(file).stat().st_size for file in files) / 1e6
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "verify": [sys.executable, "-m", "r2convert", "verify", *files],
        }
        runs = in_turn(commands, options.rounds)
    slowest = float(subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True).stdout)
    beyond = seconds(runs["verify"]) - seconds(runs["import torch"])
    figures = [
        Figure(
            f"static verification of {len(files)} files ({megabytes:.0f} MB), seconds beyond importing torch",
            "at most 15",
            round(beyond, 1),
            f"importing torch: {seconds(runs['import torch']):.1f} s",
        ),
        Figure("counting one variant in all conventions, seconds, the slowest", "at most 1", round(slowest, 2)),
    ]
    tell(f"Verifying without images (median of {options.rounds} rounds)", figures, options)


if __name__ == "__main__":
    main()
