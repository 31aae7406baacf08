"""What new users type, and what they are told: the checkpoint in any form, options that are not used, fit advice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.conftest import Run
from tests.conftest import Standin

DLA = "res2net_dla60_w28_s4"


@pytest.fixture
def file(standin: Standin, tmp_path: Path) -> Path:
    """A checkpoint of its own in a folder of its own."""
    (tmp_path / "weights").mkdir()
    return Path(shutil.copy(standin(DLA), tmp_path / "weights" / "dla.pth"))


def test_a_folder_stands_for_its_one_checkpoint(run: Run, file: Path) -> None:
    (file.parent / "notes.txt").write_text("not a checkpoint")
    assert run("inspect", file.parent, "--no-digest", "--json").json["path"] == str(file)


def test_a_folder_of_several_checkpoints_lists_them(run: Run, file: Path) -> None:
    shutil.copy(file, file.with_name("other\n.safetensors"))
    ran = run("verify", file.parent)
    assert ran.code == 2
    assert "this folder holds 2 checkpoints" in ran.err
    assert "dla.pth (" in ran.err
    assert r"other\n.safetensors (" in ran.err
    assert f"give the path of one, such as {file}" in ran.err


@pytest.mark.parametrize("beside", ["pytorch_model.bin", "optimizer.bin"])
def test_a_folder_of_the_hubs_libraries_stands_for_what_they_load(run: Run, file: Path, beside: str) -> None:
    # A repository with both formats, and a folder of accelerate's save_state().
    state = torch.load(file, weights_only=True)
    save_file({name: value.contiguous() for name, value in state.items()}, file.with_name("model.safetensors"))
    file.rename(file.with_name(beside))
    ran = run("inspect", file.parent, "--no-digest", "--json")
    assert ran.json["path"] == str(file.with_name("model.safetensors"))


def test_a_folder_of_shards_is_one_checkpoint(run: Run, file: Path, tmp_path: Path) -> None:
    state = torch.load(file, weights_only=True)
    names = list(state)
    (tmp_path / "shards").mkdir()
    for shard, part in (("one", names[:100]), ("two", names[100:])):
        save_file({name: state[name].contiguous() for name in part}, tmp_path / "shards" / f"{shard}.safetensors")
    where = {name: f"{'one' if index < 100 else 'two'}.safetensors" for index, name in enumerate(names)}
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert run("compare", tmp_path / "shards", file).code == 0


@pytest.mark.parametrize("how", ["pipe", "file"])
def test_a_checkpoint_is_read_from_standard_input(file: Path, tmp_path: Path, how: str) -> None:
    line = f'cat {file} | "$@"' if how == "pipe" else f'"$@" < {file}'
    done = subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", "r2convert", "map", "-", str(tmp_path / "mm.pth"), "--json"],
        capture_output=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path / "weights")},
    )
    document = json.loads(done.stdout)
    assert (document["variant"], Path(document["src"]).name) == (DLA, "standard-input")
    assert os.listdir(tmp_path / "weights") == ["dla.pth"]


def test_standard_input_cannot_be_read_twice(run: Run) -> None:
    ran = run("compare", "-", "-")
    assert (ran.code, "standard input can be read once only" in ran.err) == (2, True)


@pytest.mark.parametrize(
    "command", [("inspect",), ("map", "--dst", "mm.pth", "--src"), ("verify",), ("compare", "res2net50")]
)
def test_a_variant_that_is_not_cached_is_offered_with_its_size(run: Run, command: tuple[str, ...]) -> None:
    ran = run(*command, "res2net50")
    assert ran.code == 4
    assert "`r2convert fetch res2net50_w26_s4`, or --fetch, downloads it (about 103 MB)" in ran.err


@pytest.mark.parametrize("command", [("inspect",), ("map", "--dst", "mm.pth", "--src"), ("verify",)])
def test_weights_are_found_by_their_name_and_not_taken_for_a_file(run: Run, command: tuple[str, ...]) -> None:
    ran = run(*command, "res2net50_w26_s8.timm")
    assert (ran.code, "`r2convert fetch res2net50_w26_s8.timm`, or --fetch" in ran.err) == (4, True)
    assert "there is no such file" in run(*command, "res2net50_w26_s8.pth").err


def test_an_address_on_the_web_is_told_from_a_file(run: Run) -> None:
    ran = run("inspect", "https://example.com/res2net50.pth")
    assert ran.code == 2
    assert "this is an address, not a file" in ran.err
    assert "https://example.com/res2net50.pth" in ran.err


def test_a_name_that_is_neither_a_file_nor_a_variant(run: Run) -> None:
    ran = run("inspect", "checkpoint")
    assert ran.code == 2
    assert "there is no file 'checkpoint', and no variant is called that" in ran.err


def test_the_start_of_a_name_finds_the_whole_one(run: Run) -> None:
    ran = run("fetch", "res2net101")
    assert ran.code == 2
    assert "expected: one of res2net101_w26_s4, res2net101_v1b_w26_s4" in ran.err


def test_an_output_that_cannot_be_reached_is_told_as_an_output(run: Run, file: Path, tmp_path: Path) -> None:
    ran = run("map", file, tmp_path / f"{'x' * 300}.pth")
    assert (ran.code, "the output cannot be written: File name too long" in ran.err) == (4, True)


def test_a_folder_as_output_is_told_a_name(run: Run, file: Path, tmp_path: Path) -> None:
    for where in ((file, tmp_path), ("--src", file, "--dst", tmp_path, "--dry-run")):
        ran = run("map", *where, "--to", "timm")
        assert ran.code == 2
        assert f"add the file's name: {tmp_path / 'dla-timm.pth'}" in ran.err


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_source_is_never_written_to(run: Run, file: Path, overwrite: tuple[str, ...]) -> None:
    before = file.read_bytes()
    (file.parent / "link.pth").symlink_to(file)
    for other in (file, file.parent / "link.pth"):
        ran = run("map", file, other, *overwrite)
        assert ran.code == 2
        assert "the output would replace the source" in ran.err
    assert file.read_bytes() == before


def test_offline_without_a_name_leads_to_the_cache(run: Run) -> None:
    ran = run("fetch", "--offline")
    assert (ran.code, "`r2convert cache` shows what is in the cache" in ran.err) == (2, True)


def test_images_that_are_not_there_are_said_before_anything_else(run: Run) -> None:
    for command in (("verify",), ("verify", "no-such-file.pth"), ("doctor", "no-such-file.pth")):
        ran = run(*command, "--imagenet", "/no/such/path")
        assert (ran.code, ran.out) == (3, "")
        assert "/no/such/path" in ran.err


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        (("--seed", "3"), "--seed is not used without --limit"),
        (("--precision", "fast"), "--precision is not used without --imagenet"),
        (("--pipeline", "opencv"), "--pipeline is not used without --imagenet"),
        (("--device", "cpu"), "--device is not used without --imagenet or --wiring"),
        (("--overwrite",), "--overwrite is not used without --predictions"),
        (("--references",), "--references checks networks without files or images"),
    ],
)
def test_options_that_would_not_be_used_are_refused(run: Run, options: tuple[str, ...], unused: str) -> None:
    ran = run("verify", "a.pth", *options)
    assert (ran.code, ran.out) == (2, "")
    assert unused in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "nowhere.pth", "--json"),
        ("inspect", "--json", "nowhere.pth", "--quiet"),
        ("verify", "nowhere.pth", "--json", "-"),
        ("compare", "nowhere.pth", "nowhere.pth", "--json"),
        ("map", "nowhere.pth", "mm.pth", "--json"),
        ("fetch", "--json", "--import", "nowhere.pth"),
    ],
)
def test_an_error_is_one_json_document_where_json_was_asked_for(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert ran.code == ran.json["error"]["exit_code"] == 4
    assert ran.err.startswith(f"error: {ran.json['error']['what']}\n")


def test_files_that_could_not_be_had_are_in_the_one_document(run: Run) -> None:
    ran = run("fetch", "--json", "res2net50", "res2net50_w14_s8", "--offline")
    assert ran.code == 4
    assert ran.json["files"] == []
    assert [error["kind"] for error in ran.json["errors"]] == ["OfflineError", "OfflineError"]


def test_an_error_is_text_only_where_json_goes_to_a_file(run: Run, tmp_path: Path) -> None:
    ran = run("verify", "nowhere.pth", "--json", tmp_path / "results.json")
    assert (ran.code, ran.out) == (4, "")
    assert os.listdir(tmp_path) == []


def test_map_takes_source_and_output_as_words_too(run: Run, file: Path, tmp_path: Path) -> None:
    plain = run("map", file, tmp_path / "a.pth", "--json").json
    named = run("map", "--src", file, "--dst", tmp_path / "b.pth", "--json").json
    mixed = run("map", file, "--dst", tmp_path / "c.pth", "--json").json
    assert plain["dst_sha256"] == named["dst_sha256"] == mixed["dst_sha256"]
    assert plain["src"] == named["src"] == mixed["src"] == str(file)
