"""`compare`: equal networks are equal in every dress; planted differences are found, named and sized."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.cli.conftest import Run
from tests.conftest import Standin

DLA = "res2net_dla60_w28_s4"


def planted(standin: Standin, folder: Path, **changes: Tensor) -> Path:
    state = torch.load(standin(DLA), weights_only=True)
    state.update({name.replace("__", "."): tensor for name, tensor in changes.items()})
    torch.save(state, folder / "changed.pth")
    return folder / "changed.pth"


def test_one_network_in_other_dress_is_equal(run: Run, standin: Standin, tmp_path: Path) -> None:
    run("map", "--src", standin(DLA), "--dst", tmp_path / "timm.safetensors", "--to", "timm")
    ran = run("compare", standin(DLA, legacy=True), tmp_path / "timm.safetensors", "--json")
    assert ran.code == 0
    assert ran.json["equal"] is True
    assert ran.json["content_hash"]["a"] == ran.json["content_hash"]["b"]
    assert ran.json["differing"] == ran.json["only_in_a"] == ran.json["only_in_b"] == []


def test_a_scaled_tensor_is_found_and_sized(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    name = "level4.tree1.tree1.root.conv.weight"
    other = planted(standin, tmp_path, **{name.replace(".", "__"): state[name] * 1.01})
    ran = run("compare", standin(DLA), other, "--json")
    assert ran.code == 1
    (found,) = ran.json["differing"]
    assert (found["name"], found["reason"]) == (f"backbone.{name}", "values")
    difference = (state[name].double() - (state[name] * 1.01).double()).abs()
    assert found["max_abs_diff"] == pytest.approx(difference.max().item(), rel=1e-12)
    assert found["mean_abs_diff"] == pytest.approx(difference.mean().item(), rel=1e-9)


def test_swapped_tensors_are_recognised(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    one, other = "level4.tree2.tree1.tree1.bns.0.running_mean", "level4.tree2.tree1.tree1.bns.1.running_mean"
    changed = planted(standin, tmp_path, **{one.replace(".", "__"): state[other], other.replace(".", "__"): state[one]})
    found = {each["name"]: each["reason"] for each in run("compare", standin(DLA), changed, "--json").json["differing"]}
    assert found == {
        f"backbone.{one}": f"equals the other's backbone.{other}: swapped",
        f"backbone.{other}": f"equals the other's backbone.{one}: swapped",
    }


def test_a_transposed_square_convolution_is_recognised(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    name = "level3.tree1.tree1.convs.0.weight"
    changed = planted(standin, tmp_path, **{name.replace(".", "__"): state[name].transpose(0, 1).contiguous()})
    (found,) = run("compare", standin(DLA), changed, "--json").json["differing"]
    assert found["reason"] == "transposed"


def test_the_largest_difference_comes_first(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    changes = {f"level{level}.root.bn.bias": state[f"level{level}.root.bn.bias"] + 10.0**-level for level in (2, 5)}
    changed = planted(standin, tmp_path, **{name.replace(".", "__"): tensor for name, tensor in changes.items()})
    ran = run("compare", standin(DLA), changed)
    assert ran.code == 1
    assert "different: 2 of 477 common tensors" in ran.out
    assert ran.out.index("level2.root.bn.bias") < ran.out.index("level5.root.bn.bias")


def test_unknown_files_are_compared_by_their_own_names(run: Run, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": torch.ones(3)}, tmp_path / "one.pth")
    torch.save({"a": torch.ones(2), "c": torch.ones(3), "d": torch.zeros(1)}, tmp_path / "two.pth")
    ran = run("compare", tmp_path / "one.pth", tmp_path / "two.pth", "--json")
    assert ran.code == 1
    assert (ran.json["only_in_a"], ran.json["only_in_b"], ran.json["differing"]) == (["b"], ["c", "d"], [])


def test_a_file_against_itself_in_half_precision_differs_by_dtype(run: Run, tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1.0, 1 / 3])}, tmp_path / "one.pth")
    torch.save({"a": torch.tensor([1.0, 1 / 3]).half()}, tmp_path / "two.pth")
    (found,) = run("compare", tmp_path / "one.pth", tmp_path / "two.pth", "--json").json["differing"]
    assert found["reason"] == "float32 against float16"
    assert 0 < found["max_abs_diff"] < 1e-4


def test_activations_tell_where_two_networks_part(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    name = "level4.tree1.tree1.root.conv.weight"
    other = planted(standin, tmp_path, **{name.replace(".", "__"): state[name] * 1.01})
    ran = run("compare", standin(DLA), other, "--activations", "--json")
    assert ran.code == 1
    found = ran.json["activations"]
    assert found["first_layer"]["name"] == "backbone.level4.tree1.tree1.root.conv"
    assert found["first_layer"]["relative"] == pytest.approx(0.01, rel=1e-3)
    parted = {stage["name"].removeprefix("backbone."): stage["relative"] > 0 for stage in found["stages"]}
    assert parted == {
        **dict.fromkeys(("base_layer", "level0", "level1", "level2", "level3"), False),
        **dict.fromkeys(("level4", "level5", "head.fc"), True),
    }


def test_activations_across_layouts_are_equal(run: Run, standin: Standin, tmp_path: Path) -> None:
    run("map", "--src", standin(DLA), "--dst", tmp_path / "timm.safetensors", "--to", "timm")
    ran = run("compare", standin(DLA), tmp_path / "timm.safetensors", "--activations")
    assert ran.code == 0
    assert "equal activations" in ran.out


def test_a_swapped_pair_is_placed_by_its_activations(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    one, other = "level4.tree2.tree1.tree1.bns.0.running_mean", "level4.tree2.tree1.tree1.bns.1.running_mean"
    changed = planted(standin, tmp_path, **{one.replace(".", "__"): state[other], other.replace(".", "__"): state[one]})
    ran = run("compare", standin(DLA), changed, "--activations")
    assert ran.code == 1
    assert "first layer to differ is backbone.level4.tree2.tree1.tree1.bns.0, by" in ran.out
    assert "backbone.level3: equal" in ran.out


def test_activations_of_other_networks_are_wrong_usage(run: Run, standin: Standin, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "one.pth")
    ran = run("compare", standin(DLA), tmp_path / "one.pth", "--activations")
    assert ran.code == 2
    assert "two files of the same variant" in ran.err
