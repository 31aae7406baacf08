"""Plans: every tensor of both sides accounted for, every problem found at once."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.tensor import TensorInfo, contiguous_strides
from r2convert.errors import MappingError, UsageError
from r2convert.mapping.plan import computed_differently, make_plan
from r2convert.mapping.tables import Expansion, Tables

ROUTES = [
    ("res2net50_w14_s8", "official", "mm"),
    ("res2net101_v1b_w26_s4", "mm", "timm"),
    ("res2net_dla60_w28_s4", "official", "mm"),
    ("res2net_dla60_w28_s4", "mm", "official"),
    ("res2net200_vd_w26_s4_ssld", "paddle", "mm"),
    ("res2net200_vd_w26_s4_ssld", "mm", "paddle"),
    ("res2net50_v1b_w26_s4", "official", "mmdet"),
]


def tensors_of(expansion: Expansion, layout: str) -> dict[str, TensorInfo]:
    found = {}
    for name, slot in expansion.names(layout).items():
        shape = expansion.shape_in(layout, slot)
        dtype = DType.INT64 if slot.is_counter else DType.FLOAT32
        found[name] = TensorInfo(name, dtype, shape, contiguous_strides(shape), 0, 0)
    return found


@pytest.mark.parametrize(("name", "source", "target"), ROUTES)
def test_every_tensor_of_both_sides_is_accounted_for(tables: Tables, name: str, source: str, target: str) -> None:
    expansion = tables.of(tables.catalog.find(name))
    tensors = tensors_of(expansion, source)
    plan = make_plan(expansion, source, target, tensors)
    assert plan.problems == ()
    assert sorted(row.source for row in plan.rows if row.source) == sorted(tensors)
    assert sorted(row.target for row in plan.rows if row.target) == sorted(expansion.names(target))
    assert all(row.reason for row in plan.rows if row.action != "rename")


def test_the_unreachable_layers_of_dla_are_dropped_by_name_and_filled_on_the_way_back(tables: Tables) -> None:
    expansion = tables.of(tables.catalog.find("res2net_dla60_w28_s4"))
    there = make_plan(expansion, "official", "mm", tensors_of(expansion, "official"))
    back = make_plan(expansion, "mm", "official", tensors_of(expansion, "mm"))
    dropped = {row.source for row in there.rows_of("drop")}
    assert len(dropped) == 18
    assert {name.split(".project")[0] for name in dropped if name} == {"level3", "level4", "level4.tree1"}
    assert {row.target for row in back.rows_of("fill")} == dropped
    assert {row.reason for row in there.rows_of("drop")} == {
        "unreachable: the official code computes this projection and throws the result away"
    }


def test_mmdet_gets_a_backbone_a_renamed_stem_and_a_warning(tables: Tables) -> None:
    expansion = tables.of(tables.catalog.find("res2net50_v1b_w26_s4"))
    plan = make_plan(expansion, "official", "mmdet", tensors_of(expansion, "official"))
    renamed = {row.source: row.target for row in plan.rows_of("rename")}
    assert {row.source for row in plan.rows_of("drop")} == {"fc.weight", "fc.bias"}
    assert renamed["conv1.0.weight"] == "stem.0.weight"
    assert renamed["conv1.6.weight"] == "stem.6.weight"
    assert renamed["bn1.running_mean"] == "stem.7.running_mean"
    (warning,) = computed_differently(tables, expansion.variant, "mmdet")
    assert "leaves out the stride-1 3x3 average pool that this network has in layer1.0" in warning


def test_missing_counters_are_filled_with_a_reason(tables: Tables) -> None:
    expansion = tables.of(tables.catalog.find("res2net50"))
    tensors = {name: tensor for name, tensor in tensors_of(expansion, "official").items() if "num_batches" not in name}
    plan = make_plan(expansion, "official", "mm", tensors)
    assert plan.problems == ()
    assert len(plan.rows_of("fill")) == 85
    assert {row.reason[:2] for row in plan.rows_of("fill")} == {"0:"}


def test_a_backbone_gets_no_invented_classifier(tables: Tables) -> None:
    expansion = tables.of(tables.catalog.find("res2net50d"))
    tensors = tensors_of(expansion, "mmdet")
    plan = make_plan(expansion, "mmdet", "mm", tensors)
    assert [problem for problem in plan.problems if "head.fc.weight has no source" in problem]
    with pytest.raises(MappingError, match=r"head\.fc\.weight has no source"):
        plan.require_clean("file.pth")
    asked = make_plan(expansion, "mmdet", "mm", tensors, backbone_only=True)
    assert asked.problems == ()
    assert all("head" not in (row.target or "") for row in asked.rows)


def test_backbone_only_drops_the_classifier_because_it_was_asked_for(tables: Tables) -> None:
    expansion = tables.of(tables.catalog.find("res2net50"))
    plan = make_plan(expansion, "official", "timm", tensors_of(expansion, "official"), backbone_only=True)
    assert {row.source: row.reason for row in plan.rows_of("drop")} == {
        "fc.weight": "only the backbone was requested",
        "fc.bias": "only the backbone was requested",
    }


def test_all_problems_are_found_at_once(tables: Tables) -> None:
    expansion = tables.of(tables.catalog.find("res2net50"))
    tensors = tensors_of(expansion, "official")
    del tensors["layer2.1.bn1.bias"]
    tensors["extra.weight"] = tensors["fc.bias"].renamed("extra.weight")
    tensors["layer1.0.conv1.weight"] = replace(tensors["layer1.0.conv1.weight"], shape=(104, 64, 3, 3))
    tensors["bn1.weight"] = replace(tensors["bn1.weight"], dtype=DType.INT32)
    tensors["bn1.num_batches_tracked"] = replace(tensors["bn1.num_batches_tracked"], dtype=DType.FLOAT32)
    problems = "\n".join(make_plan(expansion, "official", "mm", tensors).problems)
    assert "missing: layer2.1.bn1.bias" in problems
    assert "not expected: extra.weight" in problems
    assert "layer1.0.conv1.weight has shape 104x64x3x3, expected 104x64x1x1" in problems
    assert "bn1.weight is int32, expected a floating-point dtype" in problems
    assert "bn1.num_batches_tracked is float32, expected int64" in problems


def test_tensors_of_a_wrong_dtype_share_a_line_and_the_advice_is_about_them(tables: Tables) -> None:
    expansion = tables.of(tables.catalog.find("res2net50"))
    tensors = tensors_of(expansion, "official")
    # `{name: value.half() for ...}` casts the counters too.
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    tensors |= {name: replace(tensors[name], dtype=DType.FLOAT16) for name in counters}
    plan = make_plan(expansion, "official", "mm", tensors)
    names = ", ".join(counters[:5])
    assert plan.problems == (f"{names} and {len(counters) - 5} more are float16, expected int64",)
    assert plan.advice is not None
    assert plan.advice.startswith("--leave-out '*num_batches_tracked'")
    tensors |= {"conv1.weight": replace(tensors["conv1.weight"], dtype=DType.INT8)}
    plan = make_plan(expansion, "official", "mm", tensors)
    assert plan.problems[0] == "conv1.weight is int8, expected a floating-point dtype"
    assert plan.advice == "save the weights as floating-point numbers from the program that made the file"


OTHERWISE = {
    ("res2net50_v1b_w26_s4", "mmdet"): ["leaves out the stride-1 3x3 average pool"],
    ("res2net50_mmdet_w26_s4", "official"): ["average pool in layer1.0, which was not there when this network was"],
    ("res2net50_mmdet_w26_s4", "mmdet"): [],
    ("res2net50_v1b_w26_s4", "timm"): [],
    ("res2net50_vd_w26_s4", "paddle"): [],
    ("res2net50_vd_w26_s4", "mm"): ["does not add hierarchically", "count the padding"],
    ("res2net50_w26_s4", "paddle"): ["adds hierarchically", "leave out the padding"],
    ("res2net50_paddle_w26_s4", "official"): ["does not add hierarchically"],
    ("res2net_dla60_w28_s4", "timm"): [],
}


@pytest.mark.parametrize(("name", "layout"), OTHERWISE)
def test_what_a_reader_computes_otherwise_is_said_in_both_directions(tables: Tables, name: str, layout: str) -> None:
    said = computed_differently(tables, tables.catalog.find_architecture(name), layout)
    assert bool(said) == bool(OTHERWISE[name, layout])
    assert all(part in said[0] for part in OTHERWISE[name, layout])


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("res2net50_w26_s4", "mmdet"),
        ("res2net200_vd_w26_s4", "mmdet"),
        ("res2next50_w4_s4_c8", "paddle"),
        ("res2net_dla60_w28_s4", "paddle"),
        ("res2net26_v1b_w26_s4", "paddle"),
        ("res2net50_w26_s4", "detectron2"),
        ("res2net50_v1b_w26_s4", "maskrcnn-benchmark"),
        ("res2net50_v1b_w26_s4", "paddledet"),
        ("res2next50_w4_s4_c8", "mindcv"),
        ("res2net_dla60_w28_s4", "holocron"),
        ("res2net50_paddledet_w26_s4", "official"),
    ],
)
def test_what_a_reader_cannot_build_is_refused(tables: Tables, name: str, layout: str) -> None:
    with pytest.raises(UsageError, match="cannot build it") as caught:
        tables.require_layout(tables.catalog.find_architecture(name), layout)
    assert "builds" in str(caught.value.got)
    assert "paddle-static" not in str(caught.value.expected)  # it is only read
