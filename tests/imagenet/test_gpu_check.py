"""The checks for a GPU, where there is none."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_without_a_cuda_device_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.gpu_check"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "no CUDA device" in done.stderr
