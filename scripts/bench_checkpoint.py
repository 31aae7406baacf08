"""Measure how checkpoints are read: whole processes, against a named peer, ratios in one run.

    python -m scripts.bench_checkpoint [--megabytes 180] [--rounds 5] [--json]

A ratio compares the medians of rounds in which both programs ran one after the other. Files are made with torch
in a temporary folder and read from the page cache.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.measuring import Figure, in_turn, mebibytes, parser, ratio, seconds, tell

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
from r2convert.checkpoint.open import open_checkpoint
with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    print(len(checkpoint.tensors), checkpoint.sha256() if sys.argv[2] else "")
"""
READ = """
import sys
from pathlib import Path
from r2convert.checkpoint.open import open_checkpoint
with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    arrays = {name: checkpoint.array(tensor) for name, tensor in checkpoint.tensors.items()}
"""
TORCH_READ = "import sys, torch; torch.load(sys.argv[1], weights_only=True)"
REMARKS = """\
torch's own import counts where torch reads, as it does for whoever runs a script. torch verifies no checksums; here
every byte of a zip file is checked."""


def commands(folder: Path) -> dict[str, list[str]]:
    """The processes to compare."""
    zipped, legacy = str(folder / "zip.pth"), str(folder / "legacy.pth")
    python = [sys.executable, "-c"]
    inspect = [sys.executable, "-m", "r2convert", "inspect", zipped]
    return {
        "sha256sum": ["/usr/bin/env", "sha256sum", zipped],
        "describe": [*python, DESCRIBE, zipped, ""],
        "describe, with SHA-256": [*python, DESCRIBE, zipped, "digest"],
        "`inspect --no-digest`": [*inspect, "--no-digest"],
        "`inspect`, all digests and values": inspect,
        "torch.load, legacy": [*python, TORCH_READ, legacy],
        "read into NumPy, legacy": [*python, READ, legacy],
        "torch.load, zip": [*python, TORCH_READ, zipped],
        "read into NumPy, zip": [*python, READ, zipped],
    }


#: What is compared with what, and the figure to reach, if there is one.
RATIOS = (
    ("describe, with SHA-256", "sha256sum", "at most 2"),
    ("`inspect`, all digests and values", "sha256sum", "at most 2"),
    ("read into NumPy, legacy", "torch.load, legacy", "at most 1"),
    ("read into NumPy, zip", "torch.load, zip", ""),
)


def main() -> None:
    """Make the files, run all processes and tell the figures."""
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--megabytes", type=int, default=180)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="r2convert-bench-") as name:
        subprocess.run([sys.executable, "-c", MAKE, name, str(options.megabytes)], check=True)
        runs = in_turn(commands(Path(name)), options.rounds)
    figures = [ratio(runs, title, peer, goal) for title, peer, goal in RATIOS]
    for title in ("describe", "`inspect --no-digest`"):
        figures.append(Figure(f"{title}, seconds", "at most 0.35", round(seconds(runs[title]), 2)))
        figures.append(Figure(f"{title}, MiB", "at most 80", round(mebibytes(runs[title]))))
    tell(f"Reading ({options.megabytes} MB, median of {options.rounds} rounds)", figures, options, REMARKS)


if __name__ == "__main__":
    main()
