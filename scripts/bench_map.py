"""Measure `r2convert map`: whole processes against `cp` and against the usual script, ratios in one run.

    python -m scripts.bench_map [--rounds 7] [--json]

The file is a stand-in for the official Res2Net-101-26w-4s, 181 MB, written by torch and read from the page cache.
Everybody replaces the file of the round before, as a conversion that is repeated does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.measuring import Figure, in_turn, mebibytes, parser, ratio, tell

MAKE = """
import sys
from pathlib import Path
from r2convert.catalog import load_catalog
from r2convert.mapping.tables import Tables
from r2convert.checks.standins import write_random_checkpoint
tables = Tables(load_catalog({}))
write_random_checkpoint(tables, tables.catalog.find("res2net101_w26_s4"), Path(sys.argv[1]))
"""
USUAL_SCRIPT = """
import sys, torch
renamed = {}
for name, tensor in torch.load(sys.argv[1], weights_only=True).items():
    renamed[name.replace("fc.", "head.fc.") if name.startswith("fc.") else "backbone." + name] = tensor
torch.save(renamed, sys.argv[2])
"""
HASHES = """
import hashlib, sys, threading
def digest():
    value = hashlib.sha256()
    with open(sys.argv[1], "rb") as file:
        while piece := file.read(1 << 19):
            value.update(piece)
threads = [threading.Thread(target=digest) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
REMARKS = """\
`cp` neither syncs nor checks nor hashes; `map` does all three. What a receipt binds takes three SHA-256 passes over
this file (source, output, every tensor), and each byte of a source with checksums is checked once. The row "three
SHA-256 passes" is a Python process that does nothing but these, in threads: on two cores, `map` cannot come under its
time plus that of copying. What keeps it above the goals beyond that is Python itself: starting it with click and
describing source and output tensor by tensor holds one core for about 0.3 s, whatever the file's size. Without receipt
and check, that start, the search for NaN and the wait for the disk are all that is left."""


def commands(folder: Path) -> dict[str, list[str]]:
    """The processes to compare, each writing its own file."""
    source = str(folder / "official.pth")
    convert = [sys.executable, "-m", "r2convert", "map", "--overwrite", "--src", source, "--dst"]
    return {
        "`cp`": ["/usr/bin/env", "cp", source, str(folder / "copy.pth")],
        "`map`": [*convert, str(folder / "mm.pth")],
        "`map --no-receipt --no-check`": [*convert, str(folder / "quick.pth"), "--no-receipt", "--no-check"],
        "the usual script": [sys.executable, "-c", USUAL_SCRIPT, source, str(folder / "usual.pth")],
        "three SHA-256 passes": [sys.executable, "-c", HASHES, source],
    }


def main() -> None:
    """Make the file, run the processes and tell the figures."""
    options = parser(__doc__, rounds=7).parse_args()
    with tempfile.TemporaryDirectory(prefix="r2convert-bench-") as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MAKE, str(folder / "official.pth")], check=True)
        runs = in_turn(commands(folder), options.rounds)
    figures = [
        ratio(runs, "`map`", "`cp`", "at most 3"),
        ratio(runs, "`map`", "the usual script", "at most 0.2"),
        ratio(runs, "`map --no-receipt --no-check`", "`cp`", "at most 1.7"),
        Figure("peak memory of `map`, MiB", "at most 100", round(mebibytes(runs["`map`"]))),
        Figure("peak memory of the usual script, MiB", "", round(mebibytes(runs["the usual script"]))),
        ratio(runs, "three SHA-256 passes", "`cp`", ""),
    ]
    title = f"Converting (181 MB, median of {options.rounds} rounds, receipt and read-back unless said otherwise)"
    tell(title, figures, options, REMARKS)


if __name__ == "__main__":
    main()
