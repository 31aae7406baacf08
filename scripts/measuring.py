"""What the benchmarks share: processes timed in turn, and figures printed together with their goals.

A benchmark is a script ``bench_*.py`` whose ``main`` ends in :func:`tell`: for people a table, with ``--json`` one
JSON document that ``scripts/bench.py`` makes a section of docs/maintainers/benchmarks.md of.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One process.

    Attributes:
        seconds: wall-clock time.
        mebibytes: largest resident set.
    """

    seconds: float
    mebibytes: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        figure: what was measured, ``a / b`` for a ratio of times.
        goal: what it should reach, ``at most 3`` or ``at least 0.8``; empty if it is only told.
        measured: what was measured.
        note: absolute values, conditions.
    """

    figure: str
    goal: str
    measured: float
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached."""
        if not self.goal:
            return True
        limit = float(self.goal.split()[2])
        return self.measured <= limit if self.goal.startswith("at most") else self.measured >= limit


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The arguments every benchmark takes."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=rounds, help="rounds of all competitors in turn")
    result.add_argument("--json", action="store_true", help="print one JSON document")
    return result


def run(arguments: Sequence[str]) -> Run:
    """Run a process to its end; its peak memory comes from the kernel's accounting of that one child."""
    silence = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    started = time.perf_counter()
    child = os.posix_spawn(arguments[0], list(arguments), os.environ, file_actions=silence)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"failed: {' '.join(arguments)[:200]}")
    return Run(seconds, usage.ru_maxrss / 1024)


def in_turn(commands: Mapping[str, Sequence[str]], rounds: int, *, remove: Sequence[Path] = ()) -> dict[str, list[Run]]:
    """Run all commands in turn, so that a slow moment of the machine touches all; the first round only warms up.

    Args:
        commands: title -> what to run.
        rounds: how often each is measured.
        remove: files to remove before each command, which nobody is charged for.
    """
    results: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, arguments in commands.items():
            for path in remove:
                path.unlink(missing_ok=True)
            os.sync()  # nobody waits for what the one before has written
            result = run(arguments)
            if number:
                results[name].append(result)
    return results


def ratio(runs: Mapping[str, Sequence[Run]], title: str, peer: str, goal: str) -> Figure:
    """The median over the rounds of one command's time divided by another's."""
    ratios = [one.seconds / other.seconds for one, other in zip(runs[title], runs[peer], strict=True)]
    note = f"{seconds(runs[title]):.2f} s against {seconds(runs[peer]):.2f} s"
    return Figure(f"{title} / {peer}", goal, round(statistics.median(ratios), 2), note)


def seconds(runs: Sequence[Run]) -> float:
    """The median time."""
    return statistics.median(each.seconds for each in runs)


def mebibytes(runs: Sequence[Run]) -> float:
    """The largest memory."""
    return max(each.mebibytes for each in runs)


def tell(title: str, figures: Sequence[Figure], options: argparse.Namespace, remarks: str = "") -> None:
    """Print what was measured, for people or as JSON.

    Args:
        title: heads the section.
        figures: what was measured.
        options: the parsed arguments; ``json`` decides.
        remarks: what a reader has to know to understand the figures; Markdown.
    """
    if options.json:
        document = {"title": title, "remarks": remarks, "figures": [asdict(figure) for figure in figures]}
        print(json.dumps(document, indent=2))
        return
    print(title)
    for figure in figures:
        goal = f"(goal: {figure.goal}{'' if figure.is_met else ', MISSED'})" if figure.goal else ""
        print(f"  {figure.figure:<66}{figure.measured:8.2f}  {goal:<28}{figure.note}".rstrip())
    if remarks:
        print(f"\n{remarks}", file=sys.stdout)
