"""Layouts whose readers cannot be installed: names as their code makes them, files as their programs write and read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from r2convert import map_checkpoint
from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import UsageError
from r2convert.mapping.evidence import recognise
from r2convert.mapping.identity import shapes_of
from r2convert.mapping.plan import make_plan
from r2convert.mapping.receipt import receipt_path
from r2convert.mapping.refusal import networks_inside
from r2convert.mapping.tables import CANONICAL, Tables
from tests.conftest import Standin
from tests.mapping.test_plan import tensors_of

NEW = ("detectron2", "maskrcnn-benchmark", "paddledet", "holocron", "mindcv")
HELD = ["res2net152_v1b_w26_s4", "res2net50_v1c_w26_s4", "res2net50_paddledet_w26_s4", "res2net50_paddle_w26_s4"]
"""Architectures that no file of the catalogue lists."""


def for_detectron2(name: str) -> str:
    """What Res2Net-detectron2's tools/convert-torchvision-to-d2.py (commit 3677895) makes of an official name."""
    if not name.startswith("layer"):
        return f"stem.{name}"
    for number in (1, 2, 3, 4):
        name = name.replace(f"layer{number}", f"res{number + 1}")
    for number in (1, 3):
        name = name.replace(f"bn{number}", f"conv{number}.norm")
    return name.replace("downsample.1", "shortcut.1").replace("downsample.2", "shortcut.1.norm")


def for_maskrcnn_benchmark(name: str) -> str | None:
    """Res2Net-maskrcnn's maskrcnn_benchmark/modeling/backbone/res2net.py (commit dd50e0f)."""
    if name.startswith("fc."):
        return None
    return name if name.startswith("layer") else f"stem.{name}"


@pytest.mark.parametrize(
    ("layout", "rename", "like"),
    [
        ("detectron2", for_detectron2, "res2net50_v1b_w26_s4"),
        ("detectron2", for_detectron2, "res2net101_v1b_w26_s4"),
        ("maskrcnn-benchmark", for_maskrcnn_benchmark, "res2net50_w26_s4"),
        ("maskrcnn-benchmark", for_maskrcnn_benchmark, "res2net101_w26_s4"),
    ],
)
def test_names_are_those_of_the_readers_own_code(
    tables: Tables, layout: str, rename: Callable[[str], str | None], like: str
) -> None:
    expansion = tables.of(tables.catalog.find(like))
    theirs = {slot.names["official"]: slot.names.get(layout) for slot in expansion.slots}
    assert theirs == {name: rename(name) for name in theirs}


@pytest.mark.parametrize("layout", NEW)
def test_every_network_a_layout_can_hold_comes_back_with_every_tensor(tables: Tables, layout: str) -> None:
    held = 0
    for name in [*tables.catalog.variants, *HELD]:
        variant = tables.catalog.find_architecture(name)
        expansion = tables.of(variant)
        if layout not in expansion.table.layouts:
            continue
        if not tables.catalog.programs[tables.catalog.layouts[layout].program].builds(variant.architecture):
            with pytest.raises(UsageError, match="cannot build it"):
                tables.require_layout(variant, layout)
            continue
        held += 1
        backbone = not any(slot.role == "linear.weight" and layout in slot.names for slot in expansion.slots)
        tensors = tensors_of(expansion, CANONICAL)
        there = make_plan(expansion, CANONICAL, layout, tensors, backbone_only=backbone)
        back = make_plan(expansion, layout, CANONICAL, tensors_of(expansion, layout), backbone_only=backbone)
        assert (there.problems, back.problems) == ((), ())
        renamed = {row.source: row.target for row in there.rows_of("rename")}
        assert {row.target: row.source for row in back.rows_of("rename")} == renamed
        assert {row.source for row in there.rows_of("drop")} <= {
            name for name in tensors if name.startswith("head.") or name.endswith("num_batches_tracked")
        }
    assert held >= 3


def test_r2_101_pkl_as_its_converter_writes_it_and_back(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    source = torch.load(standin("res2net50_v1b_w26_s4"), weights_only=True)
    model = {for_detectron2(name): tensor.numpy() for name, tensor in source.items()}
    given = {"model": model, "__author__": "torchvision", "matching_heuristics": True}
    (tmp_path / "r2.pkl").write_bytes(pickle.dumps(given))
    map_checkpoint(tmp_path / "r2.pkl", tmp_path / "official.pth", to="official")
    back = torch.load(tmp_path / "official.pth", weights_only=True)
    assert list(back) == list(source)
    assert all(torch.equal(back[name], source[name]) for name in source)
    conversion = map_checkpoint(tmp_path / "official.pth", tmp_path / "again.pkl", to="detectron2")
    with (tmp_path / "again.pkl").open("rb") as file:
        written = pickle.load(file, encoding="latin1")  # as DetectionCheckpointer reads it
    assert (written["__author__"], written["matching_heuristics"]) == ("r2convert", True)
    assert written["model"].keys() == model.keys()
    for name, array in model.items():
        assert written["model"][name].dtype == array.dtype
        assert np.array_equal(written["model"][name], array)
    assert "stride in the 1x1 convolution (STRIDE_IN_1X1" in " ".join(conversion.plan.warnings)
    assert "STRIDE_IN_1X1" in receipt_path(tmp_path / "again.pkl").read_text()
    with open_checkpoint(tmp_path / "again.pkl") as checkpoint:
        assert recognise(tables, checkpoint).identity.layout == "detectron2"


def test_a_detector_of_maskrcnn_benchmark(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    source = torch.load(standin("res2net50_w26_s4"), weights_only=True)
    names = {name: for_maskrcnn_benchmark(name) for name in source}
    frozen = {name: new for name, new in names.items() if new and not name.endswith("num_batches_tracked")}
    model = {f"module.backbone.body.{new}": source[name] for name, new in frozen.items()}
    model["module.rpn.head.conv.weight"] = torch.zeros(256, 256, 3, 3)
    torch.save({"model": model, "optimizer": {"state": {}}, "iteration": 90000}, tmp_path / "model_final.pth")
    with open_checkpoint(tmp_path / "model_final.pth") as checkpoint:
        (inside,) = networks_inside(tables, shapes_of(checkpoint))
    assert str(inside) == "under 'backbone.body.': res2net50_w26_s4 in the maskrcnn-benchmark layout, a backbone"
    options: dict[str, Any] = {"prefix": "backbone.body.", "backbone_only": True}
    conversion = map_checkpoint(tmp_path / "model_final.pth", tmp_path / "mm.pth", **options)
    mm = torch.load(tmp_path / "mm.pth", weights_only=True)
    assert torch.equal(mm["backbone.layer4.2.bns.1.running_var"], source["layer4.2.bns.1.running_var"])
    (warning,) = conversion.plan.warnings[-1:]
    assert "another network if Res2Net-maskrcnn" in warning
    assert "STRIDE_IN_1X1: False" in warning


def test_jittor_reads_official_names_in_a_plain_pickle(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    source = torch.load(standin("res2net50_w48_s2"), weights_only=True)
    map_checkpoint(standin("res2net50_w48_s2"), tmp_path / "jittor.pkl", to="official")
    written = pickle.loads((tmp_path / "jittor.pkl").read_bytes())
    assert list(written) == list(source)
    assert all(np.array_equal(written[name], source[name].numpy()) for name in source)
    map_checkpoint(tmp_path / "jittor.pkl", tmp_path / "mm.pth")
    assert len(torch.load(tmp_path / "mm.pth", weights_only=True)) == len(source)


def test_a_pickle_of_arrays_has_no_bfloat16(standin: Standin, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NumPy has no bfloat16"):
        map_checkpoint(standin("res2net50_w48_s2"), tmp_path / "out.pkl", to="official", dtype="bfloat16")
    assert not list(tmp_path.iterdir())


def test_mindcvs_names_go_into_safetensors_and_come_back(standin: Standin, tmp_path: Path) -> None:
    source = torch.load(standin("res2net50_v1b_w26_s4"), weights_only=True)
    map_checkpoint(standin("res2net50_v1b_w26_s4"), tmp_path / "mindcv.safetensors", to="mindcv")
    written = load_file(tmp_path / "mindcv.safetensors")
    assert torch.equal(written["layer1.0.down_sample.0.weight"], source["layer1.0.downsample.1.weight"])
    assert torch.equal(written["layer2.0.down_sample.2.moving_variance"], source["layer2.0.downsample.2.running_var"])
    map_checkpoint(tmp_path / "mindcv.safetensors", tmp_path / "official.pth", to="official")
    back = torch.load(tmp_path / "official.pth", weights_only=True)
    counters = {name for name in source if name.endswith("num_batches_tracked")}
    assert all(torch.equal(back[name], source[name]) for name in source.keys() - counters)


def test_what_mmpretrain_cannot_build_is_written_and_said(standin: Standin, tmp_path: Path) -> None:
    for variant in ("res2next50_w4_s4_c8", "res2net_dla60_w28_s4"):
        output = tmp_path / f"{variant}.pth"
        warnings = map_checkpoint(standin(variant), output).plan.warnings
        assert [each for each in warnings if each.startswith(f"mmpretrain cannot build {variant}: ")]
        assert "mmpretrain cannot build" in receipt_path(output).read_text()
    assert map_checkpoint(standin("res2net50_w48_s2"), tmp_path / "v1.pth").plan.warnings == ()
