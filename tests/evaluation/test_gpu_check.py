"""The checks for a GPU, where there is none."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scripts import gpu_check
from scripts.gpu_check import Bench, Outcome

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


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 7, stride=8),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 1000),
    ).eval()


@pytest.mark.usefixtures("one_thread")
def test_every_check_is_a_row_whatever_another_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(bench: Bench) -> Iterator[Outcome]:
        yield Outcome("half of it", "found")
        raise torch.OutOfMemoryError("CUDA out of memory. Tried | to allocate\nmore")

    page = tmp_path / "page.md"
    monkeypatch.setattr(gpu_check, "draw_network", small_network)
    monkeypatch.setitem(gpu_check.CHECKS, "memory running out", broken)
    arguments = ["--device", "cpu", "--images", "10", "--workers", "1", "--write", "--page", str(page)]
    monkeypatch.setattr(sys, "argv", ["gpu_check", *arguments])
    assert gpu_check.main() == 1
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")][1:]
    found = {row[0].removeprefix("| "): row for row in rows}
    assert list(found) == [
        "resize on the device",
        "right predictions, strict on the device",
        "right predictions, fast on the device",
        "right predictions, strict on the CPU",
        "pixels shown on both",
        "half of it",
        "memory running out",
        "strict on ready crops",
        "fast on ready crops",
        "files to counts, strict",
        "what that run tells of the device",
        "decode to crop",
        "one network, 50,000 images, strict",
        "eleven networks, strict's counts",
        "profile of strict",
        "profile of fast",
        "bf16",
        "fp32 fold-bn",
        "timm's loop",
    ]
    assert found["memory running out"][2] == "OutOfMemoryError: CUDA out of memory. Tried / to allocate"
    assert [name for name, row in found.items() if "failed" in row[3]] == ["memory running out"]
    assert all("ok" in found[name][3] for name in list(found)[:5])
    assert "strict's counts" in found["fast on ready crops"][2]
    assert "0 of 10 predictions changed" in found["fp32 fold-bn"][2]
    assert "s in all" in capsys.readouterr().out


HANGS = """
import sys, threading
from scripts import gpu_check

gpu_check.run_checks = lambda *_: (yield gpu_check.Outcome("first", "found")) or threading.Event().wait()
sys.argv = ["gpu_check", "--device", "cpu", "--images", "1", "--seconds", "1", "--write", "--page", sys.argv[1]]
gpu_check.main()
"""


def test_what_hangs_ends_it_with_a_traceback_and_what_was_found_so_far(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    arguments = [sys.executable, "-c", HANGS, str(page)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "first" in done.stdout
    assert "**not finished**" in page.read_text()
    assert "| first |  | found |  |" in page.read_text()


def test_what_would_begin_too_late_is_a_row_that_says_so() -> None:
    def fails() -> list[Outcome]:
        raise AssertionError("begun")

    (row,) = gpu_check.caught("late", fails, ends=time.monotonic() - 1)
    assert row == Outcome("late", "not run: the time was up")
