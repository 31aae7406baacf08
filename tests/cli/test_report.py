"""`report`: what it writes where, and what it refuses."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from r2convert.checks.standins import write_images_for
from r2convert.mapping.tables import Tables
from tests.cli.conftest import Run
from tests.conftest import Standin
from tests.report.made import made_document

VARIANT = "res2net50_w14_s8"
QUICK = "res2next_dla60_w4_s4_c8"


@pytest.fixture(scope="module")
def document(tables: Tables) -> Any:
    return made_document(tables, VARIANT)


@pytest.fixture
def results(document: Any, tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    return path


def test_results_without_a_network_name_the_files_that_could_not_be_checked(
    run: Run, document: Any, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    unchecked = [{"checkpoint": "/data/cut.pth", "kind": "TruncatedCheckpointError", "what": "this file is cut short"}]
    unchecked[0] |= {"expected": "9 bytes", "got": "7"}
    path.write_text(json.dumps({**document, "results": [], "unchecked": unchecked}))
    assert run("report", path).out == "/data/cut.pth: not checked: this file is cut short, expected 9 bytes, got 7\n"
    path.write_text(json.dumps({**document, "results": []}))
    assert run("report", path).out == "no network was verified\n"


@pytest.mark.slow
def test_what_verify_found_becomes_a_page_a_table_and_a_metafile(
    run: Run, standin: Standin, tables: Tables, tmp_path: Path
) -> None:
    """The real thing: a file is verified on images and without labels, and the results are reported."""
    source = standin(QUICK)
    write_images_for(tables, source, tmp_path / "val", images=6, top1_correct=2, top5_correct=4)
    run("verify", source, "--imagenet", tmp_path / "val", "--json", tmp_path / "results.json")
    page, table, metafile = (tmp_path / name for name in ("page.html", "table.md", "metafile.yml"))
    where = ("--html", page, "--markdown", table, "--metafile", metafile, "--imagenet", tmp_path / "val")
    ran = run("report", tmp_path / "results.json", *where)
    assert ran.code == 0, ran.err
    assert ran.out == ""
    text = page.read_text(encoding="utf-8")
    assert "2 of 6 images are right at top-1" in text
    kept = tmp_path / "kept.jsonl"
    run("verify", source, "--imagenet", tmp_path / "val", "--json", tmp_path / "again.json", "--predictions", kept)
    both = (tmp_path / "results.json", tmp_path / "again.json")
    ran = run("report", *both, "--html", tmp_path / "both.html", "--predictions", kept, kept)
    assert ran.code == 0, ran.err
    assert "Of 6 images, the first class of 0 and the first five of 0 changed." in (tmp_path / "both.html").read_text()
    assert f"r2convert verify {source} --imagenet {tmp_path}/val --json" in text
    assert text.count("data:image/jpeg;base64,") == 4  # all that were confused
    assert "33.33" in table.read_text(encoding="utf-8")
    assert yaml.safe_load(metafile.read_text(encoding="utf-8"))["Models"][0]["Weights"] == source.name


def test_without_an_option_the_verdict_table_is_printed(run: Run, results: Path) -> None:
    ran = run("report", results)
    assert ran.code == 0
    assert "78.14/78.14" in ran.out
    assert "published for res2net50_w14_s8.timm" in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines()[:6])


def test_several_files_are_one_report(run: Run, results: Path) -> None:
    ran = run("report", results, results, "--markdown", "-")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.out.count("Res2Net-50-14w-8s") == 2


def test_a_results_file_can_come_through_a_pipe(results: Path) -> None:
    command = [sys.executable, "-m", "r2convert", "report", "-", "--markdown", "-"]
    with results.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("| Model")


def test_an_empty_pipe_is_bad_input(run: Run) -> None:
    ran = run("report", "-", "--markdown", "-")
    assert ran.code == 3
    assert "an empty file" in ran.err


def test_a_report_replaces_an_older_one(run: Run, results: Path, tmp_path: Path) -> None:
    target = tmp_path / "table.md"
    target.write_text("old")
    assert run("report", results, "--markdown", target).code == 0
    assert target.read_text().startswith("| Model")
    assert sorted(os.listdir(tmp_path)) == ["results.json", "table.md"]


@pytest.mark.parametrize("text", ["", "{", '{"schema": "other/1"}', '{"schema": "r2convert.verify/1"}', "\x00\xff"])
def test_bad_results_are_exit_code_3_and_nothing_is_written(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text, encoding="latin-1")
    ran = run("report", tmp_path / "results.json", "--html", tmp_path / "a.html", "--metafile", tmp_path / "a.yml")
    assert ran.code == 3
    assert "Traceback" not in ran.err
    assert "next:" in ran.err
    assert os.listdir(tmp_path) == ["results.json"]


def test_one_bad_file_among_good_ones_writes_nothing(run: Run, results: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    assert run("report", results, tmp_path / "bad.json", "--markdown", tmp_path / "a.md").code == 3
    assert not (tmp_path / "a.md").exists()


def test_places_that_cannot_be_read_or_written_are_exit_code_4(run: Run, results: Path, tmp_path: Path) -> None:
    assert run("report", tmp_path / "none.json").code == 4
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "folder", tmp_path / "nowhere" / "a.md", "/proc/a.md"):
        ran = run("report", results, "--markdown", target)
        assert ran.code == 4
        assert "error:" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("results.json", "--markdown", "-", "--metafile", "-"),
        ("results.json", "--markdown", "a", "--metafile", "./a"),
        ("results.json", "--markdown", ""),
        ("results.json", "--imagenet", "val"),
        ("results.json", "--html", "a", "--predictions", "a.jsonl", "b.jsonl"),
        ("results.json", "results.json", "--predictions", "a.jsonl", "b.jsonl"),
        ("-", "-"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(run: Run, results: Path, arguments: tuple[str, ...]) -> None:
    ran = run("report", *arguments, cwd=results.parent)
    assert ran.code == 2
    assert os.listdir(results.parent) == ["results.json"]


def test_without_the_extra_only_the_page_is_refused(run: Run, results: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules.update(jinja2=None)\n")
    before = os.environ.get("PYTHONPATH", "")
    environment = {"PYTHONPATH": f"{hidden}{os.pathsep}{before}" if before else str(hidden)}
    ran = run("report", results, "--html", tmp_path / "a.html", **environment)
    assert ran.code == 2
    assert "no jinja2" in ran.err
    assert "pip install jinja2" in ran.err
    where = ("--markdown", tmp_path / "a.md", "--metafile", tmp_path / "a.yml")
    assert run("report", results, *where, **environment).code == 0
    assert sorted(os.listdir(tmp_path)) == ["a.md", "a.yml", "hidden", "results.json"]


def test_tables_are_written_without_torch(run: Run, results: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules.update(torch=None)\n")
    before = os.environ.get("PYTHONPATH", "")
    environment = {"PYTHONPATH": f"{hidden}{os.pathsep}{before}" if before else str(hidden)}
    for options in ((), ("--markdown", "-"), ("--metafile", "-")):
        assert run("report", results, *options, **environment).code == 0


def test_a_new_report_has_the_permissions_of_a_new_file(run: Run, results: Path, tmp_path: Path) -> None:
    run("report", results, "--markdown", tmp_path / "a.md")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a.md").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("kind", ["html", "markdown", "metafile"])
def test_results_are_never_written_over(run: Run, results: Path, kind: str) -> None:
    before = results.read_bytes()
    ran = run("report", results, f"--{kind}", results)
    assert ran.code == 2
    assert f"--{kind} would replace a file that the command reads" in ran.err
    assert results.read_bytes() == before
