"""`compare`: equal networks are equal in every dress; planted differences are found, named and sized."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from r2convert.mapping.receipt import receipt_path
from tests.cli.conftest import Run
from tests.conftest import Standin
from tests.schemas import problems

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


def test_a_receipt_tells_networks_with_equal_names_apart(run: Run, standin: Standin, tmp_path: Path) -> None:
    source, paddle = standin("res2net50_w14_s8"), tmp_path / "mapped.pdparams"
    run("map", source, paddle, "--to", "paddle")
    variants = [each["variant"] for each in run("compare", source, paddle, "--json").json["identities"]]
    assert variants == ["res2net50_w14_s8", "res2net50_w14_s8"]
    receipt_path(paddle).unlink()
    ran = run("compare", source, paddle)
    assert ran.code == 0
    assert "B: res2net50_paddle_w14_s8, paddle layout" in ran.out
    assert "fit res2net50_paddle_w14_s8 and res2net50_w14_s8, which compute different things" in ran.out


def test_what_else_a_file_holds_and_why_it_is_unknown_is_said(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    torch.save({"model": state, "model_ema": state}, tmp_path / "averaged.pth")
    torch.save({f"net.{name}": value for name, value in state.items()} | {"aux": torch.ones(1)}, tmp_path / "net.pth")
    ran = run("compare", tmp_path / "averaged.pth", tmp_path / "net.pth", "--json")
    first, second = ran.json["warnings"]
    assert first == "A: the file also holds a moving average of the network under model_ema: --key ema takes it"
    assert second.endswith("under 'net.': res2net_dla60_w28_s4 in the official layout; --prefix net. takes it out")
    assert ran.err.splitlines() == [f"warning: {first}", f"warning: {second}"]


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
    torch.save({"a": torch.tensor([1.0, 1 / 3]).half().float()}, tmp_path / "back.pth")
    ran = run("compare", tmp_path / "back.pth", tmp_path / "two.pth")
    assert (ran.code, "1 of 1 common tensors, in nothing but their element types" in ran.out) == (1, True)
    assert "element types" not in run("compare", tmp_path / "one.pth", tmp_path / "two.pth").out


def test_values_that_cannot_be_subtracted_are_said_to_be_that(run: Run, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "one.pth")
    torch.save({"a": torch.tensor([1.0, torch.nan]), "b": torch.zeros(2)}, tmp_path / "two.pth")
    ran = run("compare", tmp_path / "one.pth", tmp_path / "two.pth")
    assert ran.out.splitlines()[1:] == ["  a: values, some of them NaN or infinite", "  b: values, max 1, mean 1"]


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


def test_which_of_several_architectures_both_are_can_be_said(run: Run, standin: Standin) -> None:
    file, said = standin("res2net50_w14_s8"), "res2net50_paddle_w14_s8"
    for more in ((), ("--activations",)):
        ran = run("compare", file, file, "--architecture", said, *more)
        assert ran.code == 0
        assert f"A: {said}, official layout\nB: {said}, official layout" in ran.out


@pytest.mark.parametrize("more", [(), ("--activations",)])
def test_an_architecture_that_one_of_them_cannot_be_is_refused(
    run: Run, standin: Standin, more: tuple[str, ...]
) -> None:
    ran = run("compare", standin("res2net50_w14_s8"), standin(DLA), "--architecture", "res2net50_w14_s8", *more)
    assert ran.code == 3
    assert "this file is not res2net50_w14_s8: it is res2net_dla60_w28_s4" in ran.err


class ByShade(torch.nn.Module):
    """Answers with a class that depends on how bright a picture is."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(float(shift)))

    def forward(self, images: Tensor) -> Tensor:
        shade = images.mean((1, 2, 3))[:, None] * 500 + self.shift
        return -(torch.arange(1000)[None] - shade % 1000).abs()


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the predictions of two networks, each alone and both together, on twelve images."""
    from r2convert.checks.standins import synthetic_image
    from r2convert.evaluation.engine import measure_accuracy
    from r2convert.evaluation.prediction_store import PredictionFile
    from r2convert.imagenet.datasets import open_validation_set
    from r2convert.imagenet.labels import synsets

    folder = tmp_path_factory.mktemp("predictions")
    for number in range(12):
        file = folder / "val" / synsets()[number] / f"{number}.JPEG"
        file.parent.mkdir(parents=True)
        file.write_bytes(synthetic_image(number))
    images = open_validation_set(folder / "val")
    files = {"a": {"0 it": 0}, "b": {"0 it": 0}, "c": {"0 it": 30}, "both": {"0 it": 0, "1 other": 30}}
    for name, networks in files.items():
        measured = {each: ByShade(shift) for each, shift in networks.items()}
        measure_accuracy(measured, images, predictions=PredictionFile(folder / name))
    return folder


def test_equal_predictions_are_equal(run: Run, predictions: Path) -> None:
    ran = run("compare", predictions / "a", predictions / "b")
    assert ran.code == 0
    assert "equal predictions on 12 images" in ran.out


def test_changed_predictions_are_counted_tested_and_listed(run: Run, predictions: Path) -> None:
    document = run("compare", predictions / "a", predictions / "c", "--json").json
    assert problems("predictions", document) == []
    (found,) = document["comparisons"]
    assert document["equal"] is False
    assert (found["images"], found["changed_top1"], len(found["changed"])) == (12, 12, 12)
    assert sum(found["top1"][name] for name in ("both", "only_a", "only_b", "neither")) == 12
    assert 0 < found["top1"]["mcnemar_p"] <= 1
    ran = run("compare", predictions / "a", predictions / "c")
    assert ran.code == 1
    assert "different predictions on 12 images: top-1 of 12" in ran.out
    lines = ran.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum(each["image"] in line for each in found["changed"] for line in lines) == 12


def test_one_of_several_networks_is_chosen_by_name(run: Run, predictions: Path) -> None:
    both = predictions / "both"
    ran = run("compare", both, both)
    assert ran.code == 2
    assert "'0 it', '1 other'" in ran.err
    chosen = run("compare", both, both, "--network-a", "it", "--network-b", "other", "--json").json
    alone = run("compare", predictions / "a", predictions / "c", "--json").json
    assert chosen["comparisons"][0]["changed"] == alone["comparisons"][0]["changed"]


def test_predictions_and_a_checkpoint_are_not_compared(run: Run, predictions: Path, standin: Standin) -> None:
    ran = run("compare", predictions / "a", standin(DLA))
    assert ran.code == 2
    assert "only be compared with predictions" in ran.err


def test_comparing_files_loads_no_torch(predictions: Path, standin: Standin, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['r2convert', *sys.argv[1:]]\n"
        "from r2convert.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    for pair in ((standin(DLA), standin(DLA)), (predictions / "a", predictions / "c")):
        assert subprocess.run([sys.executable, "-c", code, "compare", *pair], check=False).returncode == 0
