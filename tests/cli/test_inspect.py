"""`inspect`: what a file really is."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Run
from tests.conftest import Standin


@pytest.mark.parametrize(("legacy", "container"), [(False, "torch-zip"), (True, "torch-legacy")])
def test_a_known_file_as_json(run: Run, standin: Standin, legacy: bool, container: str) -> None:
    facts = run("inspect", standin("res2net_dla60_w28_s4", legacy=legacy), "--json").json
    assert facts["container"] == container
    assert (facts["layout"], facts["variant"]) == ("official", "res2net_dla60_w28_s4")
    assert (facts["tensors"], facts["parameters"]) == (590, 21_145_544)
    assert facts["dtypes"] == {"float32": 492, "int64": 98}
    assert len(facts["sha256"]) == len(facts["content_hash"]) == 64
    assert facts["warnings"] == []


def test_a_training_checkpoint_says_what_is_kept_unread(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin("res2net_dla60_w28_s4"), weights_only=True)
    saved = {"state_dict": state, "args": argparse.Namespace(lr=0.1), "state_dict_ema": state, "epoch": 3}
    torch.save(saved, tmp_path / "last.pth.tar")
    facts = run("inspect", tmp_path / "last.pth.tar", "--no-digest", "--json").json
    assert facts["opaque"] == ["argparse.Namespace"]
    assert facts["variant"] == "res2net_dla60_w28_s4"
    assert "moving average" in facts["warnings"][0]
    assert "opaque        argparse.Namespace" in run("inspect", tmp_path / "last.pth.tar", "--no-digest").out


def test_the_content_hash_does_not_depend_on_container(run: Run, standin: Standin) -> None:
    hashes = {
        run("inspect", standin("res2net_dla60_w28_s4", legacy=legacy), "--json").json["content_hash"]
        for legacy in (False, True)
    }
    assert len(hashes) == 1


def test_an_unknown_file_is_described_and_the_nearest_named(run: Run, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "odd": torch.ones(3)}, tmp_path / "x.pth")
    ran = run("inspect", tmp_path / "x.pth", "--json")
    assert ran.code == 0
    assert ran.json["variant"] is None
    assert ran.json["layout"] is None
    assert "holds no Res2Net that the catalogue knows" in ran.json["warnings"][0]
    assert "if its names are another program's, `r2convert layout" in ran.json["warnings"][0]
    torch.save({"odd": torch.ones(3)}, tmp_path / "y.pth")
    (warning,) = run("inspect", tmp_path / "y.pth", "--json").json["warnings"]
    assert "not one name is shared; 1 tensor: odd; " in warning


def test_a_backbone_inside_a_detector_is_told_in_one_sentence_with_what_to_do(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    network = torch.load(standin("res2net50_w14_s8"))
    tensors = {f"backbone.{name}": value for name, value in network.items() if not name.startswith("fc.")}
    torch.save({"state_dict": {**tensors, "rpn_head.rpn_conv.weight": torch.zeros(8)}}, tmp_path / "detector.pth")
    (warning,) = run("inspect", tmp_path / "detector.pth", "--no-digest", "--json").json["warnings"]
    assert warning == (
        "this file holds a Res2Net inside a larger network; "
        "under 'backbone.': res2net50_w14_s8 in the official layout, a backbone; "
        "--prefix backbone. takes it out; map needs --backbone-only too"
    )


def test_which_of_several_architectures_it_is_can_be_said(run: Run, standin: Standin) -> None:
    file, said = standin("res2net50_w14_s8"), "res2net50_paddle_w14_s8"
    presumed = run("inspect", file, "--no-digest", "--json").json
    assert (presumed["variant"], presumed["architectures"]) == ("res2net50_w14_s8", ["res2net50_w14_s8", said])
    ran = run("inspect", file, "--architecture", said, "--no-digest", "--json").json
    assert (ran["variant"], ran["architectures"]) == (said, [said, "res2net50_w14_s8"])
    assert ran["evidence"] == f"{said}, as specified"


def test_an_architecture_that_a_file_cannot_be_is_refused(run: Run, standin: Standin) -> None:
    ran = run("inspect", standin("res2net_dla60_w28_s4"), "--architecture", "res2net50_w14_s8")
    assert ran.code == 3
    assert "this file is not res2net50_w14_s8: it is res2net_dla60_w28_s4" in ran.err


def test_values_that_are_wrong_are_warned_of(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin("res2net_dla60_w28_s4"), weights_only=True)
    state["level2.tree1.bn1.running_var"][3] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    (warning,) = run("inspect", tmp_path / "nan.pth", "--json").json["warnings"]
    assert "level2.tree1.bn1.running_var: 1 value is NaN or infinite" in warning


def test_the_name_of_another_networks_file_is_warned_of(run: Run, standin: Standin, tmp_path: Path) -> None:
    file = tmp_path / "res2net101_26w_4s-02a759a1.pth"
    shutil.copy(standin("res2net50_w14_s8"), file)
    said = f"{file.name} is the name of res2net101_w26_s4.official; this is another network"
    assert run("inspect", file, "--no-digest", "--json").json["warnings"] == [said]
    assert f"warning: {file}: {said}" in run("verify", file).err


def test_counters_that_nothing_reads_may_have_overflowed_in_half_precision(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    # `{name: value.half() for ...}` makes 450,450 training steps infinite.
    state = torch.load(standin("res2net_dla60_w28_s4"), weights_only=True)
    halved = {
        name: torch.tensor(450450.0).half() if name.endswith("num_batches_tracked") else value.half()
        for name, value in state.items()
    }
    torch.save(halved, tmp_path / "half.pth")
    assert run("inspect", tmp_path / "half.pth", "--json").json["warnings"] == []


def test_ten_warnings_are_printed_and_all_are_in_json(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin("res2net_dla60_w28_s4"), weights_only=True)
    broken = [name for name, value in state.items() if value.is_floating_point()]
    torch.save(
        {name: value * float("nan") if name in broken else value for name, value in state.items()}, tmp_path / "x.pth"
    )
    assert len(run("inspect", tmp_path / "x.pth", "--json").json["warnings"]) == len(broken)
    lines = [line for line in run("inspect", tmp_path / "x.pth").out.splitlines() if line.startswith("warning")]
    assert lines[-1] == f"warning       and {len(broken) - 10} more: --json lists all"
    assert len(lines) == 11


def test_tensors_are_listed_on_request_and_digests_left_out(run: Run, standin: Standin) -> None:
    ran = run("inspect", standin("res2net_dla60_w28_s4"), "--tensors", "--no-digest")
    assert "level5.tree1.conv1.weight  float32  896x512x1x1" in ran.out
    assert "sha256" not in ran.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "Git LFS"),
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + 100 * b"\0", "PNG"),
    ],
)
def test_what_is_no_checkpoint_is_said_to_be_what_it_is(run: Run, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    ran = run("inspect", tmp_path / "file.pth")
    assert ran.code == 3
    assert message.lower() in ran.err.lower()


def test_what_a_file_holds_does_not_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"state_dict": {"a": torch.ones(1)}, "note": "\x1b[31mred\x07"}, path)
    ran = run("inspect", path)
    assert ran.code == 0
    assert "\\x1b[31mred\\x07" in ran.out
    refused = run("inspect", path, "--key", "\x1b[31m")
    assert refused.code == 2
    assert "\x1b" not in ran.out + refused.err
