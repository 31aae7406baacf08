"""Measure whole commands on files of 181 MB, each against its peer in the same rounds.

    python -m scripts.bench_commands [--rounds 11] [--json]

The file is a stand-in for the official Res2Net-101-26w-4s, written by torch and read from the page cache. `map` syncs
what it writes, so its peer is `cp` and `sync` of the copy, under a new name and over the file of the round before.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scripts.measuring import Figure, Run, in_turn, mebibytes, parser, ratio, seconds, tell

MAKE = """
import sys, torch
from pathlib import Path
from r2convert.catalog import load_catalog
from r2convert.mapping.tables import Tables
from r2convert.checks.standins import write_random_checkpoint
folder, tables = Path(sys.argv[1]), Tables(load_catalog({}))
write_random_checkpoint(tables, tables.catalog.find("res2net101_w26_s4"), folder / "official.pth")
torch.save(torch.load(folder / "official.pth"), folder / "legacy.pth", _use_new_zipfile_serialization=False)
(folder / "all").mkdir()
for variant in tables.catalog.variants.values():
    if any(claim.source == "official README" for claim in variant.claims):
        layout = variant.sources[0].layout
        write_random_checkpoint(tables, variant, folder / "all" / f"{variant.id}.pth", layout=layout)
"""
COPY = 'cp "$0" "$1" && sync "$1"'
USUAL_SCRIPT = """
import sys, torch
renamed = {}
for name, tensor in torch.load(sys.argv[1], weights_only=True).items():
    renamed[name.replace("fc.", "head.fc.") if name.startswith("fc.") else "backbone." + name] = tensor
torch.save(renamed, sys.argv[2])
"""
#: A copy, a sync and the three digests that a receipt binds, and nothing else: what no way of proving can undercut.
FLOOR = """
import hashlib, os, sys, threading
def hash_file(digests):
    buffer = memoryview(bytearray(1 << 22))
    with open(sys.argv[1], "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            for digest in digests:
                digest.update(buffer[:count])
threads = [threading.Thread(target=hash_file, args=([hashlib.sha256() for _ in range(n)],)) for n in (1, 2)]
[thread.start() for thread in threads]
with open(sys.argv[1], "rb", buffering=0) as file, open(sys.argv[2], "wb", buffering=0) as copy:
    while piece := file.read(1 << 19):
        copy.write(piece)
    os.fsync(copy.fileno())
[thread.join() for thread in threads]
"""
READ = """
import sys
from pathlib import Path
from r2convert.checkpoint.open import open_checkpoint
with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    arrays = {name: checkpoint.array(tensor) for name, tensor in checkpoint.tensors.items()}
"""
TORCH_READ = "import sys, torch; torch.load(sys.argv[1], weights_only=True)"
#: What two short commands do before they print, line by line. A step's process runs its line and those above it.
STEPS = {
    "`list`": {
        "starting Python": "import gc, sys; gc.set_threshold(100_000)",
        "importing click": "import click",
        "importing the command": "from r2convert.cli.commands import list",
        "reading the catalogue": "from r2convert.catalog import load_catalog; load_catalog()",
    },
    "`inspect --no-digest`": {
        "starting Python": "import gc, sys; gc.set_threshold(100_000)",
        "importing click": "import click",
        "importing the command and the reader": "from r2convert.cli.commands import inspect\n"
        "from r2convert.mapping import inspection\n"
        "from r2convert.checkpoint.formats import torch_zip",
        "describing the file": "from pathlib import Path; file = inspection.open_checkpoint(Path(sys.argv[1]))",
        "reading the catalogue": "from r2convert.catalog import load_catalog; catalog = load_catalog()",
        "telling what it is": "inspection.resolve(inspection.Tables(catalog), file)",
    },
}
REMARKS = """\
A receipt binds three SHA-256: of the source, of the output and of every tensor. "The plain script" is a Python process
that takes these three in two threads, copies and syncs, and does nothing else. `map` has to know what the file is
besides, which is what `inspect --no-digest` does: the two together say how near to `cp` and `sync` a command can come
on this disk; a goal below that is out of reach. Over an old file, `cp` writes into its blocks, and where it is stopped
it leaves half a file; `map` writes a new file, and the old one's blocks have to be freed.

Of the processor's time that `map` takes, SHA-256 is 38 %, the interpreter 30 % (a third of that before the source is
open, a quarter the parsing of source and output, the rest the catalogue and a thousand tensors on their way through
four threads), the kernel 26 % (reading 181 MB four times and writing them once, starting a process), copying for the
search for NaN 5 % and checksums 1 % (`perf`, two cores, 2026-11-26).

torch's own import counts where torch reads or writes, as it does for whoever runs a script; torch verifies no
checksums, and here every byte is checked. Commands are measured as an installed wheel starts them."""


def commands(folder: Path) -> tuple[dict[str, list[str]], list[Path]]:
    """The processes to compare, and the files to remove before each, so that they get a new name."""
    source, mapped = str(folder / "official.pth"), str(folder / "mapped.pth")
    python = [sys.executable, "-I", "-c"]
    tool = [str(Path(sys.executable).with_name("r2convert"))]
    new = [folder / name for name in ("new-copy.pth", "new.pth", "new.pth.receipt.json", "quick.pth", "plain.pth")]
    processes = {
        "`cp` and `sync`, new name": ["/bin/sh", "-c", COPY, source, str(new[0])],
        "`cp` and `sync`, over an old file": ["/bin/sh", "-c", COPY, source, str(folder / "copy.pth")],
        "the plain script": [*python, FLOOR, source, str(new[4])],
        "`map`, new name": [*tool, "map", source, str(new[1])],
        "`map`, over an old file": [*tool, "map", "--overwrite", source, mapped],
        "`map --no-receipt --no-check`, new name": [*tool, "map", source, str(new[3]), "--no-receipt", "--no-check"],
        "the usual torch script": [*python, USUAL_SCRIPT, source, str(folder / "usual.pth")],
        "`sha256sum`": ["/usr/bin/env", "sha256sum", source],
        "`inspect`": [*tool, "inspect", source],
        "`inspect --no-digest`": [*tool, "inspect", "--no-digest", source],
        "`compare`": [*tool, "compare", source, mapped],
        "`verify`": [*tool, "verify", source],
        "importing click": [*python, "import click"],
        "`--help`": [*tool, "--help"],
        "`list`": [*tool, "list"],
        "`torch.load`, zip": [*python, TORCH_READ, source],
        "read into NumPy, zip": [*python, READ, source],
        "`torch.load`, legacy": [*python, TORCH_READ, str(folder / "legacy.pth")],
        "read into NumPy, legacy": [*python, READ, str(folder / "legacy.pth")],
    }
    for command, lines in STEPS.items():
        for title, code in zip(lines, itertools.accumulate(lines.values(), "{}\n{}".format), strict=True):
            processes[f"{command}, {title}"] = [*python, f"{code}\ngc.freeze()", source]
    return processes, new


#: What is compared with what, and the figure to reach, if there is one.
RATIOS = (
    ("`map`, over an old file", "`cp` and `sync`, over an old file", "at most 1.9"),
    ("`map`, new name", "`cp` and `sync`, new name", "at most 1.5"),
    ("`map --no-receipt --no-check`, new name", "`cp` and `sync`, new name", "at most 1.5"),
    ("the plain script", "`cp` and `sync`, new name", ""),
    ("`map`, new name", "the plain script", ""),
    ("`map`, over an old file", "the usual torch script", "at most 0.3"),
    ("`list`", "importing click", "at most 1.5"),
    ("`--help`", "importing click", "at most 1.1"),
    ("read into NumPy, zip", "`torch.load`, zip", ""),
    ("read into NumPy, legacy", "`torch.load`, legacy", "at most 1"),
)
SECONDS = (
    ("`verify`", "at most 1"),
    ("`inspect`", "at most 0.5"),
    ("`inspect --no-digest`", "at most 0.2"),
    ("`compare`", "at most 0.5"),
    ("`sha256sum`", ""),
)
MEMORY = (("`map`, over an old file", "at most 100"), ("the usual torch script", ""), ("`inspect`", "at most 80"))


def figures(runs: Mapping[str, Sequence[Run]]) -> list[Figure]:
    """What the measured processes say."""
    return [
        *(ratio(runs, title, peer, goal) for title, peer, goal in RATIOS),
        *(Figure(f"{title}, seconds", goal, round(seconds(runs[title]), 2)) for title, goal in SECONDS),
        *(Figure(f"peak memory of {title}, MiB", goal, round(mebibytes(runs[title]))) for title, goal in MEMORY),
        _floor(runs),
        *(figure for command in STEPS for figure in _steps(runs, command)),
    ]


def _floor(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """How near to a plain copy a command could come that computes three digests, knows the file, and does no more."""
    least = seconds(runs["the plain script"]) + seconds(runs["`inspect --no-digest`"])
    copy = "`cp` and `sync`, new name"
    title = f"the plain script and `inspect --no-digest` together / {copy}"
    return Figure(
        title, "", round(least / seconds(runs[copy]), 2), f"{least:.2f} s against {seconds(runs[copy]):.2f} s"
    )


def _steps(runs: Mapping[str, Sequence[Run]], command: str) -> Iterator[Figure]:
    """Where the time of a short command goes: what each step adds to those before it, in the fastest rounds."""
    fastest = [min(run.seconds for run in runs[f"{command}, {title}"]) for title in STEPS[command]]
    fastest.append(min(run.seconds for run in runs[command]))
    for title, (before, after) in zip([*STEPS[command], "the rest"], itertools.pairwise([0, *fastest]), strict=True):
        yield Figure(f"{command}, fastest round: {title}, milliseconds", "", round(1000 * (after - before)))


def main() -> None:
    """Make the files, run the processes and print the figures."""
    options = parser(__doc__, rounds=11).parse_args()
    with tempfile.TemporaryDirectory(prefix="r2convert-bench-") as name:
        subprocess.run([sys.executable, "-I", "-c", MAKE, name], check=True)
        processes, new = commands(Path(name))
        runs = in_turn(processes, options.rounds, remove=new)
        files = sorted(map(str, Path(name, "all").iterdir()))
        megabytes = sum(Path(file).stat().st_size for file in files) / 1e6
        many = in_turn({"all": [processes["`verify`"][0], "verify", *files]}, options.rounds)
    of_many = f"`verify` of {len(files)} files ({megabytes:.0f} MB), seconds"
    measured = [*figures(runs), Figure(of_many, "at most 6", round(seconds(many["all"]), 1))]
    tell(f"Whole commands (181 MB, medians of {options.rounds} rounds)", measured, options, REMARKS)


if __name__ == "__main__":
    main()
