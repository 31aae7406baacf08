"""The command line as a whole: fast to start, honest about errors, quiet when its reader goes."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from r2convert.cli.app import COMMANDS, application
from r2convert.version import __version__
from tests.cli.conftest import Run
from tests.conftest import Standin

HEAVY = ("torch", "numpy", "requests", "PIL")


def test_every_command_exists_and_its_short_help_is_the_one_listed() -> None:
    context = click.Context(application)
    for name, short_help in COMMANDS.items():
        command = application.get_command(context, name)
        assert command is not None
        assert command.short_help == short_help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(run: Run, name: str) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    assert "Example" in ran.out
    assert f"r2convert {name}" in ran.out
    assert all(len(line) <= 100 for line in ran.out.splitlines())


def test_no_arguments_show_the_three_steps(run: Run) -> None:
    ran = run()
    assert ran.code == 0
    steps = [ran.out.index(f"r2convert {step}") for step in ("fetch", "map", "verify")]
    assert steps == sorted(steps)


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").out.split()[-1] == __version__


def imported(*arguments: str) -> set[str]:
    """The top-level packages that a command loads."""
    code = (
        "import sys; sys.argv = ['r2convert', *sys.argv[1:]]\n"
        "from r2convert.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(' '.join({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [("--help",), ("list",), ("list", "--json"), ("map", "--help")])
def test_what_only_looks_things_up_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert imported(*arguments).isdisjoint(HEAVY)


def test_reading_and_mapping_load_no_torch(standin: Standin, tmp_path: Path) -> None:
    source = str(standin("res2net_dla60_w28_s4"))
    assert imported("inspect", source).isdisjoint({"torch", "filelock", "requests"})
    # A conversion takes half a second: NumPy and rich would add a quarter of that.
    mapped = imported("map", "--src", source, "--dst", str(tmp_path / "timm.pth"), "--to", "timm")
    assert mapped.isdisjoint({"torch", "numpy", "rich", "filelock", "requests"})
    assert "numpy" not in imported("list", "--tensors", "res2net50")


@pytest.mark.slow
def test_list_and_help_start_fast(tmp_path: Path) -> None:
    """No slower than about twice the import of the libraries they are printed with (median of 9, in turn)."""
    # An installed package has its bytecode: compiling the sources is no part of starting.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)

    def seconds(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True)
        return time.perf_counter() - start

    seconds("-m", "r2convert", "list")

    baseline, listed, helped = [], [], []
    for _ in range(9):
        baseline.append(seconds("-c", "import click, rich.console"))
        listed.append(seconds("-m", "r2convert", "list"))
        helped.append(seconds("-m", "r2convert", "--help"))
    assert statistics.median(helped) < 2 * statistics.median(baseline)
    assert statistics.median(listed) < 2.2 * statistics.median(baseline)


def test_an_error_is_one_message_and_debug_shows_the_traceback(run: Run) -> None:
    ran = run("inspect", "nowhere.pth")
    assert ran.code == 4
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err
    assert "next:" in ran.err
    assert "Traceback" in run("--debug", "inspect", "nowhere.pth").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("frobnicate",), "there is no command 'frobnicate'\n"),
        (("verfy", "mm.pth"), "there is no command 'verfy'. Did you mean 'verify'?"),
        (("convert", "a.pth", "b.pth"), "Did you mean 'map'?"),
        (("list", "--frobnicate"), "error: no such option"),
        (("completion",), "error: missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish\n"),
        (("list", "--to", "mm"), "--tensors VARIANT"),
        (("list", "--tensors", "res2next50", "--claims"), "are different lists"),
        (("list", "--to", "timm"), "--tensors VARIANT"),
        (("map", "a.pth", "b.pth", "c.pth"), "one checkpoint into one file"),
        (("map",), "--src FILE with --dst FILE"),
        (("map", "--src", "res2net50x"), "--src FILE with --dst FILE"),
        (("verify", "no-such-variant"), "no variant is called"),
        (("list", "--tensors", "res2next50", "--to", "mmdet"), "does not exist in the layout 'mmdet'"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.out == ""


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m r2convert list --tensors res2net101_w26_s4 | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["official", "mm", "shape"]
    assert done.stderr == ""


def test_ctrl_c_while_the_program_is_still_imported_prints_no_traceback() -> None:
    interrupted = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, path, target=None):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "from r2convert.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\ninterrupted\n")


@pytest.mark.parametrize(
    ("end", "code", "said"), [("KeyboardInterrupt", 130, "\ninterrupted\n"), ("SystemExit(143)", 143, "")]
)
def test_an_interrupt_that_other_code_turns_into_an_error_of_its_own_is_one(end: str, code: int, said: str) -> None:
    interrupted = (
        "from r2convert.cli import app, main\n"
        "def fail(**_):\n"
        f"    try: raise {end}\n"
        "    except BaseException as error: raise SystemError('a result with an exception set') from error\n"
        "app.application.main = fail\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_cleans_up(standin: Standin, tmp_path: Path, sent: signal.Signals, code: int) -> None:
    source = standin("res2net50_w26_s8")
    output = tmp_path / "out"
    output.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "r2convert", "map", "--src", str(source), "--dst", str(output / "mm.pth")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not os.listdir(output) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode == code
    assert os.listdir(output) == []


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``r2convert`` is the command line under test."""
    line = f"r2convert() {{ '{sys.executable}' -m r2convert \"$@\"; }}; {command}"
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "R2CONVERT_CACHE": str(folder / "cache"), **environment},
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_of_an_example_is_a_command_to_paste(run: Run, name: str) -> None:
    after = run(name, "--help").out.split("Example")[1].split("\n\n")[0].splitlines()[1:]
    assert after
    assert all(line.strip().startswith(f"r2convert {name}") for line in after)


@pytest.mark.parametrize(
    "command", ["list", "list --json", "list --tensors res2net101_w26_s4", "fetch --help", "selftest --json"]
)
def test_a_reader_that_goes_away_is_not_a_check_that_said_no(command: str, tmp_path: Path) -> None:
    # The reader has gone before the first line: nothing depends on how much fits into the pipe.
    done = shell(f"{{ sleep 0.2; r2convert {command}; echo $? >&2; }} | true", tmp_path)
    assert done.stderr == "141\n"


@pytest.mark.parametrize("command", ["list", "list --json", "list --tensors res2net101_w26_s4", "list --help"])
def test_a_full_disk_under_stdout_is_exit_code_4(command: str, tmp_path: Path) -> None:
    done = shell(f"r2convert {command} > /dev/full", tmp_path)
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_streams_are_no_error_and_do_not_change_the_answer(tmp_path: Path) -> None:
    assert shell("r2convert list >&-", tmp_path).returncode == 0
    assert shell("r2convert list <&- >&- 2>&-", tmp_path).returncode == 0
    assert shell("r2convert inspect no_such_variant 2>&-", tmp_path).returncode == 2
    assert shell("r2convert inspect no_such_variant 2>/dev/full", tmp_path).returncode == 2
    nothing = shell("r2convert inspect - <&-", tmp_path)
    assert (nothing.returncode, "an empty file" in nothing.stderr) == (3, True)


def test_debug_may_stand_at_the_end(run: Run) -> None:
    ran = run("inspect", "nowhere.pth", "--debug")
    assert ran.code == 4
    assert "Traceback" in ran.err


@pytest.mark.parametrize("name", ["x" * 300 + ".pth", "~nobody-of-this-name/x.pth", "a/" * 3000 + "b"])
def test_paths_that_cannot_be_are_exit_code_4(run: Run, name: str) -> None:
    for arguments in (
        ("inspect", name),
        ("verify", name),
        ("compare", name, name),
        ("map", "--src", name, "--dst", "o.pth"),
    ):
        ran = run(*arguments)
        assert ran.code == 4
        assert ran.err.startswith("error: ")


def test_an_empty_name_is_wrong_usage_and_not_the_folder_one_is_in(run: Run) -> None:
    assert run("inspect", "").code == 2


def test_a_file_name_that_is_not_utf8_is_shown(run: Run, standin: Standin, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"r\xe9s.pth")
    path.symlink_to(standin("res2net50_w14_s8"))
    plain = run("inspect", path, "--no-digest")
    assert plain.code == 0
    assert "r\\udce9s.pth" in plain.out
    document = run("inspect", path, "--no-digest", "--json").json
    assert document["path"] == str(path)


def test_a_name_is_written_as_given_where_the_locale_knows_no_such_letter(standin: Standin, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "r2convert", "map", standin("res2net_dla60_w28_s4"), os.fsencode(tmp_path / "é😀.pth")],
        env={**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["é😀.pth", "é😀.pth.receipt.json"]


def test_a_terminal_without_a_size_shows_everything(run: Run) -> None:
    assert run("list", COLUMNS="0").out == run("list", COLUMNS="80").out


def test_a_folder_that_the_demo_cannot_work_in_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    assert run("demo", "--keep", tmp_path).code == 2
    assert run("demo", "--keep", tmp_path / "file").code == 4
    assert run("demo", "--keep", tmp_path / "file" / "below").code == 4
    assert (tmp_path / "file").read_text() == "kept"


def test_a_plain_checkout_works_without_being_installed(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "elsewhere").mkdir()
    for name in ("r2convert", "mappings"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shown = "import r2convert, runpy, sys; sys.stderr.write(r2convert.__file__); sys.argv = ['r2convert', 'list'];"
    done = subprocess.run(
        [sys.executable, "-c", f"{shown} runpy.run_module('r2convert', run_name='__main__')"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "R2CONVERT_CACHE": str(tmp_path / "cache")},
        cwd=tmp_path / "elsewhere",
        check=True,
    )
    assert done.stderr == str(tmp_path / "r2convert" / "__init__.py")
    assert "res2net50_w14_s8" in done.stdout
