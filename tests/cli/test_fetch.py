"""`r2convert fetch` as users and scripts see it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from r2convert.catalog import load_catalog
from r2convert.mapping.tables import Tables
from tests.cli.loopback_lab import Lab
from tests.download import server as faults
from tests.download.server import wait_until
from tests.download.support import sample, sha256

DATA = sample()


def test_the_final_path_is_all_there_is_on_stdout(lab: Lab) -> None:
    path = lab.publish("lab-net", DATA)
    result = lab.run("fetch", "lab-net")
    assert (result.returncode, result.stdout) == (0, f"{path}\n")
    assert path.read_bytes() == DATA


def test_any_spelling_of_the_name_will_do(lab: Lab) -> None:
    path = lab.publish("lab-net", DATA)
    assert lab.run("fetch", "Lab_Net", "LABNET").stdout == f"{path}\n"


def test_several_files_are_printed_one_a_line_in_the_order_asked(lab: Lab) -> None:
    first = lab.publish("lab-one", DATA, faults.slowly(0.2))
    second = lab.publish("lab-two", sample(seed=1))
    assert lab.run("fetch", "lab-one", "lab-two").stdout == f"{first}\n{second}\n"


def test_the_json_document_says_what_was_fetched(lab: Lab) -> None:
    path = lab.publish("lab-net", DATA)
    result = lab.run("fetch", "lab-net", "--json")
    assert json.loads(result.stdout) == {
        "files": [
            {
                "variant": "lab-net",
                "path": str(path),
                "sha256": sha256(DATA),
                "size": len(DATA),
                "trust": "seen",
                "origin": lab.server.url(path.name),
            }
        ],
        "errors": [],
    }


def test_the_licence_is_shown_once(lab: Lab) -> None:
    lab.publish("lab-one", DATA)
    lab.publish("lab-two", sample(seed=1))
    assert "CC BY-NC-SA 4.0" in lab.run("fetch", "lab-one").stderr
    assert "CC BY-NC-SA" not in lab.run("fetch", "lab-two").stderr


def test_a_file_that_cannot_be_had_is_exit_4_and_the_others_are_still_fetched(lab: Lab) -> None:
    lab.publish("lab-gone", DATA, *[faults.status(404)] * 9)
    path = lab.publish("lab-net", sample(seed=1))
    result = lab.run("fetch", "lab-gone", "lab-net")
    assert (result.returncode, result.stdout) == (4, f"{path}\n")
    assert "404 Not Found" in result.stderr
    assert "Traceback" not in result.stderr


def test_every_failure_is_told(lab: Lab) -> None:
    for name in ("lab-one", "lab-two"):
        lab.publish(name, sample(seed=len(name)), *[faults.status(410)] * 9)
    result = lab.run("fetch", "lab-one", "lab-two")
    assert result.returncode == 4
    assert result.stderr.count("410 Gone") == 2


def test_all_means_every_variant_that_the_publisher_has(lab: Lab) -> None:
    """Offline, each of them is one complaint; the advice is the one that fits."""
    lab.publish("lab-net", DATA)
    result = lab.run("fetch", "--all", "--from", "timm", "--offline")
    assert (result.returncode, result.stdout) == (4, "")
    assert "11 files could not be downloaded" in result.stderr
    assert result.stderr.count("is not in the cache") == 11
    assert "without --offline" in result.stderr


def test_a_publisher_that_does_not_exist_is_wrong_usage(lab: Lab) -> None:
    result = lab.run("fetch", "--all", "--from", "nobody")
    assert (result.returncode, result.stdout) == (2, "")
    assert "official" in result.stderr


def test_all_leaves_out_detectors_and_what_nobody_publishes(lab: Lab) -> None:
    lab.publish("lab-net", DATA)
    text = (lab.mappings / "lab-net.toml").read_text().replace("lab-net", "own-net")
    (lab.mappings / "own-net.toml").write_text(text.split("[[sources]]")[0])
    assert "own-net" in lab.run("list").stdout
    result = lab.run("fetch", "--all", "--offline")
    assert result.returncode == 4
    wanted = [
        next(weights.sources[0].file_name for weights in variant.weights if weights.sources and not weights.detector)
        for variant in load_catalog({}).variants.values()
        if any(weights.sources and not weights.detector for weights in variant.weights)
    ]
    assert f"{len(wanted) + 1} files could not be downloaded" in result.stderr
    assert all(name in result.stderr for name in wanted)
    assert "rcnn" not in result.stderr
    assert "no file of" not in result.stderr


@pytest.mark.parametrize(("publisher", "files"), [("mmdetection", 5), ("paddle", 8), ("paddledet", 6)])
def test_all_of_a_publisher_are_all_its_weights_detectors_too(lab: Lab, publisher: str, files: int) -> None:
    result = lab.run("fetch", "--all", "--from", publisher, "--offline")
    assert f"{files} files could not be downloaded" in result.stderr


def test_what_cannot_be_fetched_is_told_with_its_page(lab: Lab) -> None:
    for arguments in (["InSPyReNet_Res2Net50"], ["res2net50_v1b", "--from", "inspyrenet"]):
        result = lab.run("fetch", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert "get it by hand from https://drive.google.com/file/d/12moRuU8F0" in result.stderr


def test_of_several_files_every_address_is_told(lab: Lab) -> None:
    for name in ("lab-one", "lab-two"):
        lab.publish(name, sample(seed=len(name)), *[faults.status(410)] * 9)
    lab.environment["R2CONVERT_MIRROR"] = "/no/such/folder"
    errors = lab.run("fetch", "lab-one", "lab-two").stderr.split("error:", 1)[1]
    assert errors.count("410 Gone") == 2
    assert errors.count("/no/such/folder/") == 2


def test_a_wrong_file_is_exit_4_with_both_hashes(lab: Lab) -> None:
    path = lab.publish("lab-net", DATA)
    lab.server.shelves[path.name].data = sample(seed=1)
    result = lab.run("fetch", "lab-net")
    assert (result.returncode, result.stdout) == (4, "")
    assert sha256(DATA)[:8] in result.stderr
    assert sha256(sample(seed=1)) in result.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["--all", "lab-net"], ["no-such-net"], ["lab-net", "--from", "paddle"], ["--all", "--import", "x"]],
)
def test_what_does_not_fit_together_is_a_usage_error(arguments: list[str], lab: Lab) -> None:
    lab.publish("lab-net", DATA)
    result = lab.run("fetch", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert not lab.cache.exists()


def test_offline_uses_the_cache_and_nothing_else(lab: Lab) -> None:
    path = lab.publish("lab-net", DATA)
    result = lab.run("fetch", "lab-net", "--offline")
    assert result.returncode == 4
    assert "--import" in result.stderr
    assert lab.server.requests == []
    lab.run("fetch", "lab-net")
    assert lab.run("fetch", "lab-net", "--offline").stdout == f"{path}\n"


def test_dest_gets_a_copy_and_its_path_is_printed(lab: Lab, tmp_path: Path) -> None:
    path = lab.publish("lab-net", DATA)
    copy = tmp_path / "out" / path.name
    assert lab.run("fetch", "lab-net", "--dest", tmp_path / "out").stdout == f"{copy}\n"
    assert copy.read_bytes() == path.read_bytes() == DATA


def test_the_path_is_printed_as_a_script_can_open_it(lab: Lab, tmp_path: Path) -> None:
    path = lab.publish("lab-net", DATA)
    folder = tmp_path / "café"
    lab.environment |= {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = [sys.executable, "-m", "r2convert", "fetch", "lab-net", "--dest", str(folder)]
    shown = subprocess.run(run, env=lab.variables(), capture_output=True, check=True, cwd=lab.folder).stdout
    assert shown == os.fsencode(folder / path.name) + b"\n"


def test_the_mirror_folder_is_asked_first(lab: Lab, tmp_path: Path) -> None:
    path = lab.publish("lab-net", DATA)
    (tmp_path / path.name).write_bytes(DATA)
    lab.environment["R2CONVERT_MIRROR"] = str(tmp_path)
    assert lab.run("fetch", "lab-net", "--offline").stdout == f"{path}\n"
    assert lab.server.requests == []


def test_a_file_brought_by_hand_is_recognised_by_its_hash(lab: Lab, tmp_path: Path) -> None:
    path = lab.publish("lab-net", DATA)
    (tmp_path / "download").write_bytes(DATA)
    result = lab.run("fetch", "--import", tmp_path / "download")
    assert (result.returncode, result.stdout) == (0, f"{path}\n")
    assert "recognised by its hash" in result.stderr
    assert lab.server.requests == []


def test_a_file_brought_by_hand_is_recognised_by_its_content(lab: Lab, tmp_path: Path, tables: Tables) -> None:
    """Of timm's file no hash is published: names and shapes tell which one it is, and a note says how sure that is."""
    slots = tables.of(tables.catalog.find("res2net50_14w_8s")).names("timm")
    tensors = {name: np.zeros(slot.shape, np.uint8) for name, slot in slots.items()}
    safetensors.numpy.save_file(tensors, tmp_path / "model (1)")
    result = lab.run("fetch", "--import", tmp_path / "model (1)")
    assert (result.returncode, result.stdout) == (0, f"{lab.cache / 'res2net50_14w_8s.in1k.safetensors'}\n")
    assert "nobody publishes a hash" in result.stderr


@pytest.mark.parametrize("classes", [10, None])
def test_a_file_with_other_classes_is_not_the_published_one(
    classes: int | None, lab: Lab, tmp_path: Path, tables: Tables
) -> None:
    """Somebody's own training must not pass for timm's weights, whose hash nobody publishes."""
    slots = tables.of(tables.catalog.find("res2net50_14w_8s"), classes or 1000).names("timm")
    tensors = {name: np.zeros(slot.shape, np.uint8) for name, slot in slots.items() if classes or name[:3] != "fc."}
    safetensors.numpy.save_file(tensors, tmp_path / "model (1)")
    result = lab.run("fetch", "--import", tmp_path / "model (1)")
    assert (result.returncode, result.stdout) == (3, "")
    assert "this is none of the published files" in result.stderr
    assert "a file of your own needs no import" in result.stderr


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_read_for_ever(kind: str, lab: Lab, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    result = lab.run("fetch", "--import", path)
    assert (result.returncode, result.stdout) == (3, "")
    assert "not a regular file" in result.stderr


def test_a_file_that_nobody_published_is_exit_3(lab: Lab, tmp_path: Path) -> None:
    lab.publish("lab-net", DATA)
    (tmp_path / "other").write_bytes(sample(seed=1))
    result = lab.run("fetch", "--import", tmp_path / "other")
    assert (result.returncode, result.stdout) == (3, "")
    assert sha256(sample(seed=1)) in result.stderr


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_fetch_is_continued(stop: signal.Signals, code: int, lab: Lab) -> None:
    data = sample(8 << 20)
    path = lab.publish("lab-net", data, bytes_per_second=4e6)
    process = lab.start("fetch", "lab-net")
    partial = lab.cache / "partial" / f"{path.name}.part"
    wait_until(lambda: partial.exists() and partial.stat().st_size > 1 << 20, 30)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert not path.exists()
    there = partial.stat().st_size
    assert data.startswith(partial.read_bytes())
    lab.server.shelves[path.name].bytes_per_second = None
    assert lab.run("fetch", "lab-net").stdout == f"{path}\n"
    assert lab.server.ranges(path.name) == [None, f"bytes={there}-"]
    assert path.read_bytes() == data


def test_a_run_that_waits_for_a_silent_server_can_be_interrupted_at_once(lab: Lab) -> None:
    lab.publish("lab-net", DATA, faults.stall_after(1000))
    process = lab.start("fetch", "lab-net")
    wait_until(lambda: len(lab.server.requests) > 0, 30)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=15)
    assert process.returncode == 130


def test_a_terminal_shows_a_line_a_file_and_a_total(lab: Lab) -> None:
    for index in range(2):
        lab.publish(f"lab-{index}", sample(2 << 20, seed=index), bytes_per_second=4e6)
    ours, theirs = pty.openpty()
    environment = {**lab.variables(), "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "r2convert", "fetch", "lab-0", "lab-1"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, cwd=lab.folder)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 1 << 16):
            shown += block
    except OSError:  # the terminal's other end is closed: the command is done
        pass
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 0
    assert out.count(b"\n") == 2
    for word in (b"lab-0-", b"lab-1-", b"all 2 files", b"MB/s"):
        assert word in shown


def test_messages_without_a_terminal_are_plain_lines(lab: Lab) -> None:
    lab.publish("lab-net", DATA, faults.status(503, retry_after="0"))
    result = lab.run("fetch", "lab-net")
    assert result.returncode == 0
    assert "trying again" in result.stderr
    assert "\x1b" not in result.stderr
