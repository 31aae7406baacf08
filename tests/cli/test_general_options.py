"""What holds for every command: --quiet, completion in a shell, bars on a terminal only."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from r2convert.cli.app import COMMANDS
from tests.cli.conftest import Run
from tests.conftest import Standin


def on_a_terminal(cache: Path, *arguments: object, stdin: int | None = None) -> str:
    """Run r2convert with a terminal of 80 columns as its stderr; return what is drawn there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "R2CONVERT_CACHE": str(cache), "COLUMNS": "80", "TERM": "xterm"}
    command = [sys.executable, "-m", "r2convert", *map(str, arguments)]
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        try:
            while piece := os.read(ours, 65536):
                drawn += piece
        except OSError:
            pass  # Linux says so when the other end is closed
        os.close(ours)
        assert process.wait() in (0, 1)
    return drawn.decode()


def test_checking_files_draws_a_bar_on_a_terminal_only(run: Run, standin: Standin, cache: Path) -> None:
    file = standin("res2net50_w14_s8")
    drawn = on_a_terminal(cache, "verify", file, file)
    assert "checking files" in drawn
    assert "MB/s" in drawn  # known once the first file is done
    assert on_a_terminal(cache, "--quiet", "verify", file) == ""
    assert run("verify", file).err == ""


def test_reading_standard_input_draws_a_bar(run: Run, standin: Standin, cache: Path) -> None:
    with standin("res2net_dla60_w28_s4").open("rb") as file:
        drawn = on_a_terminal(cache, "inspect", "-", "--no-digest", stdin=file.fileno())
    assert "standard input" in drawn
    assert "85.0/85.0 MB" in drawn


def test_hashing_the_cache_draws_a_bar(standin: Standin, cache: Path) -> None:
    cache.mkdir()
    shutil.copy(standin("res2net50_w14_s8"), cache / "mine.pth")
    assert "hashing files" in on_a_terminal(cache, "cache", "--verify")


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_leaves_out_notes_and_keeps_results(run: Run, place: str) -> None:
    command = ("cache", "--clean")
    ran = run("--quiet", *command) if place == "before" else run(*command, "--quiet")
    assert ran.code == 0
    assert ran.err == ""
    spoken = run(*command)
    assert "0 files removed" in spoken.err
    assert ran.out == spoken.out


def test_quiet_keeps_warnings_and_errors(run: Run, standin: Standin, tmp_path: Path) -> None:
    source = standin("res2net50_v1b_w26_s4")
    ran = run("map", "--src", source, "--dst", tmp_path / "mmdet.pth", "--to", "mmdet", "--quiet")
    assert ran.code == 0
    assert "warning:" in ran.err
    assert run("--quiet", "inspect", "nowhere.pth").err.startswith("error: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_script(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert "_R2CONVERT_COMPLETE" in ran.out


def completions(run: Run, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    typed = {"COMP_WORDS": " ".join(("r2convert", *words)), "COMP_CWORD": str(len(words))}
    ran = run(_R2CONVERT_COMPLETE="bash_complete", **typed)
    assert ran.code == 0
    return [line.partition(",")[2] for line in ran.out.splitlines()]


def test_commands_options_and_variants_are_completed(run: Run) -> None:
    assert completions(run, "ma") == ["map"]
    assert set(completions(run, "")) >= set(COMMANDS)
    assert completions(run, "map", "--ds") == ["--dst"]
    assert "res2net50_v1b_w26_s4" in completions(run, "fetch", "res2net50_v1b")
    assert "res2next50_w4_s4_c8" in completions(run, "map", "--src", "res2next")


@pytest.mark.parametrize(
    "words",
    ["inspect", "compare a.pth", "map --dst", "verify --json", "verify --crop-cache", "doctor --imagenet", "report"],
)
def test_files_are_completed_by_the_shell(run: Run, words: str) -> None:
    typed = f"r2convert {words} ./r"
    environment = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert run(_R2CONVERT_COMPLETE="bash_complete", **environment).out.splitlines()[-1] == "file,./r"


def test_bash_accepts_its_script(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(run("completion", "bash").out)
    done = subprocess.run(["bash", "-c", f"source {script} && complete -p r2convert"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
