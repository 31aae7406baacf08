"""Benchmarks tell the truth: ratios round by round, goals met or missed, and a page that says when one failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import bench, bench_commands
from scripts.measuring import Figure, Run, in_turn, parser, ratio, run, tell

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("goal", "measured", "is_met"),
    [("at most 3", 3.0, True), ("at most 3", 3.01, False), ("at least 0.8", 0.79, False), ("at least 0.8", 0.8, True)],
)
def test_a_goal_is_met_or_missed(goal: str, measured: float, is_met: bool) -> None:
    assert Figure("x", goal, measured).is_met == is_met


def test_a_figure_without_a_goal_misses_nothing() -> None:
    assert Figure("x", "", 1e9).is_met


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    runs = {"ours": [Run(2, 0), Run(30, 0), Run(4, 0)], "peer": [Run(1, 0), Run(10, 0), Run(8, 0)]}
    assert ratio(runs, "ours", "peer", "at most 3").measured == 2


def test_the_first_round_is_not_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"open({str(log)!r}, 'a').write('x')"
    runs = in_turn({"one": [sys.executable, "-c", program]}, rounds=2)
    assert len(runs["one"]) == 2
    assert log.read_text() == "xxx"


def test_outputs_under_a_new_name_are_new_in_every_round(tmp_path: Path) -> None:
    new = tmp_path / "new"
    program = f"open({str(new)!r}, 'x')"
    assert len(in_turn({"one": [sys.executable, "-c", program]}, rounds=2, remove=[new])["one"]) == 2


def test_the_figures_of_whole_commands_name_what_was_run(tmp_path: Path) -> None:
    processes, new = bench_commands.commands(tmp_path)
    figures = bench_commands.figures({title: [Run(2, 10), Run(4, 30)] for title in processes})
    assert figures[0].figure == "`map`, over an old file / `cp` and `sync`, over an old file"
    assert {figure.measured for figure in figures} == {1, 2, 3, 30} | {2000, 0}  # the last two: steps, milliseconds
    assert all(str(path) in str(processes) for path in new if path.suffix == ".pth")


def test_time_and_memory_of_a_process_are_its_own() -> None:
    """Measured from a small process, as benchmarks are: the kernel counts what a child shares with its parent."""
    code = """
import sys
from scripts.measuring import run
result = run([sys.executable, "-c", "import time; data = bytearray(96 << 20); time.sleep(0.2)"])
print(result.seconds, result.mebibytes)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, mebibytes = map(float, done.stdout.split())
    assert seconds >= 0.2
    assert 96 <= mebibytes < 200


def test_a_process_that_fails_is_no_measurement() -> None:
    with pytest.raises(SystemExit, match="failed"):
        run([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_missed_goal_is_said_to_be_missed(capsys: pytest.CaptureFixture[str]) -> None:
    options = parser("x", rounds=1).parse_args([])
    tell("Things", [Figure("slow", "at most 1", 2.0), Figure("fast", "at most 1", 0.5)], options)
    slow, fast = capsys.readouterr().out.splitlines()[1:]
    assert "MISSED" in slow
    assert "MISSED" not in fast


def test_a_benchmarks_document_becomes_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    tell("Things", [Figure("slow", "at most 1", 2.0, "2 s")], parser("x", rounds=1).parse_args(["--json"]), "Why.")
    text = bench.section_text("python -m scripts.bench_things", json.loads(capsys.readouterr().out))
    assert text.startswith("## Things\n\n`python -m scripts.bench_things`\n")
    assert "| slow | at most 1 | **2** missed | 2 s |" in text
    assert text.endswith("\n\nWhy.")


def test_a_benchmark_that_fails_is_said_to_have_failed(tmp_path: Path) -> None:
    assert "Did not finish: exit code 1" in bench.section("/bin/false", "commands", (), str(tmp_path))


def test_the_page_names_machine_versions_and_date() -> None:
    text = bench.machine(sys.executable)
    for row in ("machine", "system", "versions", "date"):
        assert f"| {row} | " in text
