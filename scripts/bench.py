"""Run every benchmark of this folder and show its table.

Each ``bench_*.py`` measures whole processes against a named peer in one run and prints ratios; nothing here fails
on a timing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run the benchmarks one after another; they would disturb each other."""
    folder = Path(__file__).parent
    for script in sorted(folder.glob("bench_*.py")):
        print(f"\n== {script.name}", flush=True)
        subprocess.run([sys.executable, str(script)], check=False)


if __name__ == "__main__":
    main()
