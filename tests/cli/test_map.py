"""`map`: the conversion from the outside."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from pathlib import Path

import pytest
import torch

from r2convert.mapping.tables import Tables
from tests.cli.conftest import Run
from tests.conftest import Standin

DLA = "res2net_dla60_w28_s4"


@pytest.mark.parametrize("legacy", [False, True])
def test_a_101_layer_file_is_converted(run: Run, standin: Standin, tmp_path: Path, legacy: bool) -> None:
    source = standin("res2net101_w26_s4", legacy=legacy)
    ran = run("map", "--src", source, "--dst", tmp_path / "mm.pth", "--json")
    assert ran.code == 0
    assert ran.json["variant"] == "res2net101_w26_s4"
    assert (ran.json["from"], ran.json["to"], ran.json["renamed"]) == ("official", "mm", 1022)
    assert (ran.json["dropped"], ran.json["filled"]) == ([], [])
    before = torch.load(source, weights_only=True)
    after = torch.load(tmp_path / "mm.pth", weights_only=True, mmap=True)
    assert torch.equal(before["layer3.22.convs.2.weight"], after["backbone.layer3.22.convs.2.weight"])
    assert sorted(os.listdir(tmp_path)) == ["mm.pth", "mm.pth.receipt.json"]


def test_reasons_are_given_for_what_is_dropped(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("map", "--src", standin(DLA), "--dst", tmp_path / "mm.pth", "--no-receipt")
    assert "18 x unreachable" in ran.out
    assert os.listdir(tmp_path) == ["mm.pth"]


def test_a_dry_run_writes_nothing(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("map", "--src", standin(DLA), "--dst", tmp_path / "mm.pth", "--dry-run", "--json")
    assert ran.code == 0
    assert ran.json["renamed"] == 572
    assert ran.json["dst"] is None
    assert os.listdir(tmp_path) == []


def test_a_dry_run_knows_what_the_conversion_knows(run: Run, standin: Standin, tmp_path: Path) -> None:
    run("map", standin("res2net50_w14_s8"), tmp_path / "p.pdparams", "--to", "paddle")
    asked = ("map", tmp_path / "p.pdparams", tmp_path / "back.pth", "--json")
    planned, done = run(*asked, "--dry-run").json, run(*asked).json
    assert planned["evidence"] == done["evidence"]
    assert planned["evidence"].startswith("res2net50_w14_s8, by its receipt")
    assert planned["warnings"] == done["warnings"]


@pytest.mark.parametrize(
    ("name", "code", "message"), [("mm.bin", 2, "unsupported extension"), ("mm.pdparams", 2, "cannot be written to"),
    ("taken.pth", 4, "already exists"),
     ("missing/mm.pth", 4, "next:     create the folder ")],
)  # fmt: skip
def test_a_dry_run_tells_what_would_stand_against_writing(
    run: Run, standin: Standin, tmp_path: Path, name: str, code: int, message: str
) -> None:
    (tmp_path / "taken.pth").write_text("precious")
    ran = run("map", "--src", standin(DLA), "--dst", tmp_path / name, "--dry-run")
    assert ran.code == code
    assert message in ran.err
    assert os.listdir(tmp_path) == ["taken.pth"]


def test_without_receipt_and_check_nothing_is_hashed_and_that_is_said(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    source = standin(DLA)
    ran = run("map", "--src", source, "--dst", tmp_path / "quick.pth", "--no-receipt", "--no-check")
    assert ran.code == 0
    assert "not computed" in ran.out
    assert run("map", "--src", source, "--dst", tmp_path / "mm.pth").code == 0
    assert (tmp_path / "quick.pth").read_bytes() == (tmp_path / "mm.pth").read_bytes()


def test_a_script_gets_its_digests_without_receipt_and_check_too(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("map", "--src", standin(DLA), "--dst", tmp_path / "a.pth", "--no-receipt", "--no-check", "--json")
    assert ran.json["dst_sha256"] == hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    assert all(len(ran.json[key]) == 64 for key in ("src_sha256", "content_hash"))


def test_a_suffix_in_capitals_is_the_same_suffix(run: Run, standin: Standin, tmp_path: Path) -> None:
    assert run("map", "--src", standin(DLA), "--dst", tmp_path / "MM.PTH").code == 0
    assert len(torch.load(tmp_path / "MM.PTH", weights_only=True)) == 572


def test_a_backbone_that_should_get_a_classifier_is_told_the_option(run: Run, standin: Standin, tmp_path: Path) -> None:
    backbone = tmp_path / "backbone.pth"
    assert run("map", "--src", standin("res2net50_w14_s8"), "--dst", backbone, "--backbone-only").code == 0
    ran = run("map", "--src", backbone, "--dst", tmp_path / "official.pth", "--to", "official")
    assert ran.code == 3
    assert "--backbone-only" in ran.err
    again = ("map", "--src", backbone, "--dst", tmp_path / "official.pth", "--to", "official", "--backbone-only")
    assert run(*again).code == 0


def test_a_damaged_file_in_the_cache_is_not_said_to_be_missing(
    run: Run, tables: Tables, cache: Path, tmp_path: Path
) -> None:
    cache.mkdir()
    (cache / tables.catalog.find("res2net50_w14_s8").sources[0].file_name).write_bytes(b"not what it should be")
    ran = run("map", "--src", "res2net50_w14_s8", "--dst", tmp_path / "mm.pth")
    assert ran.code == 4
    assert "damaged" in ran.err
    assert "r2convert fetch res2net50_w14_s8" in ran.err


def test_an_existing_output_needs_overwrite(run: Run, standin: Standin, tmp_path: Path) -> None:
    output = tmp_path / "mm.pth"
    output.write_text("precious")
    assert run("map", "--src", standin(DLA), "--dst", output).code == 4
    assert output.read_text() == "precious"
    assert run("map", "--src", standin(DLA), "--dst", output, "--overwrite").code == 0
    assert output.stat().st_size > 80_000_000


def test_mmdet_comes_with_its_warning(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("map", "--src", standin("res2net50_v1b_w26_s4"), "--dst", tmp_path / "d.pth", "--to", "mmdet", "--json")
    assert ran.code == 0
    assert "average pool" in " ".join(ran.err.split())
    state = torch.load(tmp_path / "d.pth", weights_only=True)
    assert {"stem.0.weight", "stem.7.running_var", "layer1.0.conv1.weight"} <= state.keys()
    assert not any(name.startswith(("fc", "head")) for name in state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--variant", "res2next_dla60"), "this file is not res2next_dla60_w4_s4_c8: it is res2net_dla60_w28_s4"),
        (("--from", "timm"), "this file is not in the timm layout"),
        (("--variant", DLA, "--from", "mm"), "it is res2net_dla60_w28_s4 in the official layout"),
    ],
)
def test_input_that_is_not_what_was_said_is_refused(
    run: Run, standin: Standin, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    ran = run("map", "--src", standin(DLA), "--dst", tmp_path / "mm.pth", *options)
    assert ran.code == 3
    assert message in ran.err
    assert os.listdir(tmp_path) == []


def test_an_unknown_network_is_refused(run: Run, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "x.pth")
    ran = run("map", "--src", tmp_path / "x.pth", "--dst", tmp_path / "mm.pth")
    assert ran.code == 3
    assert "holds no Res2Net that the catalogue knows" in ran.err
    assert os.listdir(tmp_path) == ["x.pth"]


@pytest.mark.parametrize("keep", [0, 1, 1000, -1])
def test_a_truncated_file_is_refused(run: Run, standin: Standin, tmp_path: Path, keep: int) -> None:
    (tmp_path / "cut.pth").write_bytes(standin(DLA, legacy=True).read_bytes()[:keep])
    ran = run("map", "--src", tmp_path / "cut.pth", "--dst", tmp_path / "mm.pth")
    assert ran.code == 3
    assert "Traceback" not in ran.err
    assert os.listdir(tmp_path) == ["cut.pth"]


def test_a_variant_that_is_not_cached_is_not_guessed(run: Run, tmp_path: Path) -> None:
    ran = run("map", "--src", "res2net50", "--dst", tmp_path / "mm.pth")
    assert ran.code == 4
    assert "r2convert fetch res2net50_w26_s4" in ran.err


def test_other_containers_by_suffix(run: Run, standin: Standin, tmp_path: Path) -> None:
    assert run("map", "--src", standin(DLA), "--dst", tmp_path / "t.safetensors", "--to", "timm").code == 0
    facts = run("inspect", tmp_path / "t.safetensors", "--json").json
    assert (facts["container"], facts["layout"], facts["variant"]) == ("safetensors", "timm", DLA)
    assert facts["content_hash"] == run("inspect", standin(DLA), "--json").json["content_hash"]


def test_a_users_own_network_needs_a_file_and_no_code(run: Run, tables: object, tmp_path: Path) -> None:
    from r2convert.catalog import load_catalog
    from r2convert.catalog.loading import builtin_folder
    from r2convert.checks.standins import write_random_checkpoint
    from r2convert.mapping.tables import Tables

    text = (builtin_folder() / "architectures" / "res2net50_w26_s4.toml").read_text()
    text = (
        text.replace("res2net50_w26_s4", "lab")
        .replace("Res2Net-50-26w-4s", "Lab")
        .replace("base_width = 26", "base_width = 20")
    )
    (tmp_path / "mappings" / "architectures").mkdir(parents=True)
    (tmp_path / "mappings" / "architectures" / "lab.toml").write_text(
        text.replace('["res2net50_26w_4s", "res2net50"]', "[]")
    )
    laid = {"R2CONVERT_MAPPINGS": str(tmp_path / "mappings")}
    own = Tables(load_catalog(laid))
    write_random_checkpoint(own, own.catalog.find("lab"), tmp_path / "ours.pth")
    assert run("inspect", tmp_path / "ours.pth", "--json").json["variant"] == "res2net50_w20_s4"
    ran = run("map", "--src", tmp_path / "ours.pth", "--dst", tmp_path / "mm.pth", "--json", **laid)
    assert ran.json["variant"] == "lab"


def test_weights_are_cast_as_torch_casts_them(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("map", "--src", standin(DLA), "--dst", tmp_path / "half.pth", "--to", "timm", "--dtype", "float16")
    assert "to float16, rounded to nearest, ties to even" in ran.out
    before = torch.load(standin(DLA), weights_only=True)
    after = torch.load(tmp_path / "half.pth", weights_only=True)
    for name, tensor in after.items():
        expected = before[name].half() if before[name].is_floating_point() else before[name]
        assert torch.equal(tensor, expected)
        assert tensor.dtype == expected.dtype


def test_values_that_are_not_finite_are_collected_and_nothing_is_written(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    state["level2.root.bn.bias"][7] = float("nan")
    state["level5.root.conv.weight"][0, :3] = float("inf")
    torch.save(state, tmp_path / "bad.pth")
    ran = run("map", "--src", tmp_path / "bad.pth", "--dst", tmp_path / "mm.pth")
    assert ran.code == 3
    assert "backbone.level2.root.bn.bias: 1 value is NaN or infinite" in ran.err
    assert "backbone.level5.root.conv.weight: 3 values are NaN or infinite" in ran.err
    assert os.listdir(tmp_path) == ["bad.pth"]


def test_a_value_too_large_for_the_type_is_refused(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    state["level2.root.bn.running_var"][0] = 1e6
    torch.save(state, tmp_path / "large.pth")
    ran = run("map", "--src", tmp_path / "large.pth", "--dst", tmp_path / "mm.pth", "--dtype", "float16")
    assert ran.code == 3
    assert "1 value is too large for float16" in ran.err


def test_a_backbone_inside_a_larger_network_is_found_and_taken_out(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin("res2net50_v1b_w26_s4"), weights_only=True)
    detector = {f"resnet.{name}": tensor for name, tensor in state.items() if not name.startswith("fc")}
    detector["rfb2_1.branch0.0.conv.weight"] = torch.zeros(32, 512, 1, 1)
    torch.save(detector, tmp_path / "pranet.pth")
    refused = run("map", "--src", tmp_path / "pranet.pth", "--dst", tmp_path / "mm.pth", "--backbone-only")
    assert refused.code == 3
    assert refused.err.count("--backbone-only") == 1  # said already
    refused = run("map", "--src", tmp_path / "pranet.pth", "--dst", tmp_path / "mm.pth")
    assert refused.code == 3
    assert "under 'resnet.': res2net50_v1b_w26_s4 in the official layout, a backbone" in refused.err
    command = re.search(r"next: +`r2convert (.*)` takes it out", refused.err)
    assert command is not None
    ran = run(*shlex.split(command[1]), "--json")
    assert ran.code == 0
    assert "1 tensor outside 'resnet.' is left out" in ran.err
    torch.save(
        {f"{side}.{name}": value for side in ("depth", "rgb") for name, value in state.items()}, tmp_path / "two.pth"
    )
    refused = run("map", tmp_path / "two.pth", tmp_path / "rgb.pth")
    assert "--prefix depth.` takes the first one out" in refused.err
    (tmp_path / "two.pth").unlink()
    # Of the command as it was given, the prefix that was too short or too long is replaced.
    for given in (("--prefix", "res"), ("--prefix=resnet",)):
        refused = run("map", *given, "--overwrite", "--", tmp_path / "pranet.pth", tmp_path / "mm.pth")
        said = " ".join(
            ["map --overwrite --prefix resnet. --backbone-only --", *map(str, sorted(tmp_path.glob("*.pth"))[::-1])]
        )
        assert f"`r2convert {said}` takes it out" in refused.err
    after = torch.load(tmp_path / "mm.pth", weights_only=True)
    assert torch.equal(after["backbone.stem.1.conv.weight"], state["conv1.3.weight"])
    assert len(after) == len(state) - 2


def test_a_prefix_that_is_not_there_is_wrong_usage(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("inspect", standin(DLA), "--prefix", "encoder.")
    assert ran.code == 2
    assert "base_layer." in ran.err


def test_the_moving_average_is_taken_when_asked_for(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin("res2net50_w48_s2"), weights_only=True)
    average = torch.load(standin("res2net50_w48_s2", seed=1), weights_only=True)
    training = {"state_dict": state, "state_dict_ema": average, "epoch": 3}
    torch.save(training, tmp_path / "training.pth")
    run("map", "--src", tmp_path / "training.pth", "--dst", tmp_path / "ema.pth", "--key", "ema")
    after = torch.load(tmp_path / "ema.pth", weights_only=True)
    assert torch.equal(after["head.fc.bias"], average["fc.bias"])


def test_what_is_left_out_stands_in_the_receipt_with_its_reason(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = dict(torch.load(standin("res2net50_w48_s2"), weights_only=True))
    beside = {"aux_head.weight": torch.zeros(3), "layer1.total_ops": torch.zeros(1), "mask": torch.zeros(2) * 1j}
    torch.save({**state, **beside}, tmp_path / "more.pth")
    refused = run("map", tmp_path / "more.pth", tmp_path / "mm.pth")
    assert refused.code == 3
    ran = run("map", tmp_path / "more.pth", tmp_path / "mm.pth", "--leave-out", "aux_head.*", "--json")
    reasons = {
        "layer1.total_ops": "counter of thop",
        "aux_head.weight": "left out by --leave-out aux_head.*",
        "mask": "complex64, which is not read",
    }
    assert {each["name"]: each["reason"] for each in ran.json["dropped"]} == reasons
    receipt = json.loads(Path(ran.json["receipt"]).read_text())
    assert {each["name"]: each["reason"] for each in receipt["predicate"]["dropped"]} == reasons
    compared = run("compare", tmp_path / "more.pth", tmp_path / "mm.pth", "--leave-out", "aux_head.*")
    assert compared.code == 0, compared.out + compared.err
    assert run("verify", tmp_path / "more.pth", "--leave-out", "aux_head.*").code == 0


def test_a_network_in_a_kind_that_is_not_read_is_said_to_be_that(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = dict(torch.load(standin("res2net50_w48_s2"), weights_only=True))
    torch.save({**state, "conv1.weight": state["conv1.weight"].to(torch.float8_e4m3fn)}, tmp_path / "small.pth")
    ran = run("map", tmp_path / "small.pth", tmp_path / "mm.pth")
    assert ran.code == 3
    assert "of a kind that is not read" in ran.err
    assert "conv1.weight: float8_e4m3fn" in ran.err
    assert run("inspect", tmp_path / "small.pth").code == 0


def test_publishing_names_the_file_by_its_digest(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("map", "--src", standin("res2net50_w14_s8"), "--publish", tmp_path / "zoo", "--json")
    assert ran.code == 0
    name = f"res2net50-w14-s8_3rdparty_8xb32_in1k-{ran.json['dst_sha256'][:8]}"
    assert sorted(os.listdir(tmp_path / "zoo")) == [f"{name}.pth", f"{name}.pth.receipt.json"]
    verified = run("verify", tmp_path / "zoo" / f"{name}.pth", "--json", "-").json["results"][0]
    assert (verified["checks"][0]["metric"], verified["verdict"]) == ("receipt", "pass")
    again = run("map", "--src", standin("res2net50_w14_s8"), "--publish", tmp_path / "zoo")
    assert again.code == 4
    assert len(os.listdir(tmp_path / "zoo")) == 2


def test_a_folder_where_the_receipt_belongs_is_seen_before_anything_is_written(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    (tmp_path / "mm.pth.receipt.json").mkdir()
    ran = run("map", "--src", standin("res2net50_w14_s8"), "--dst", tmp_path / "mm.pth")
    assert ran.code == 4
    assert "receipt" in ran.err
    assert os.listdir(tmp_path) == ["mm.pth.receipt.json"]
