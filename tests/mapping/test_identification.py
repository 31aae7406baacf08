"""Telling what a file is: from names and shapes alone, and never by a guess."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from r2convert.catalog.variant import StagedArchitecture
from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import MappingError
from r2convert.mapping.identity import Identity, identify, resolve
from r2convert.mapping.refusal import lookalike, nearest, networks_inside
from r2convert.mapping.tables import Tables
from tests.conftest import DATA
from tests.mapping.manifests import recorded

MANIFESTS = {(variant, layout): shapes for variant, layout, shapes in recorded(DATA)}


def identified(tables: Tables, shapes: dict[str, tuple[int, ...]]) -> Identity:
    """What a file is that is known."""
    found = identify(tables, shapes)
    assert found is not None
    return found


@pytest.mark.parametrize(("variant", "layout"), MANIFESTS)
def test_every_recorded_file_is_identified(tables: Tables, variant: str, layout: str) -> None:
    found = identified(tables, MANIFESTS[variant, layout])
    # timm took over the official names of all but the DLA networks: there is nothing to tell the two apart by.
    expected = "official" if layout == "timm" and "dla" not in variant else layout
    assert (found.variant.id, found.layout) == (tables.catalog.find(variant).id, expected)
    assert found.classes == 1000
    assert found.has_classifier


@pytest.mark.parametrize(("variant", "layout"), MANIFESTS)
def test_counters_of_batches_may_be_missing(tables: Tables, variant: str, layout: str) -> None:
    shapes = {name: shape for name, shape in MANIFESTS[variant, layout].items() if "num_batches" not in name}
    assert identified(tables, shapes).variant.id == tables.catalog.find(variant).id


@pytest.mark.parametrize(("variant", "layout"), [("res2net50_w26_s4", "official"), ("res2net_dla60_w28_s4", "timm")])
def test_another_number_of_classes_is_told(tables: Tables, variant: str, layout: str) -> None:
    shapes = dict(MANIFESTS[variant, layout])
    shapes["fc.weight"] = (37, *shapes["fc.weight"][1:])
    shapes["fc.bias"] = (37,)
    identity = identified(tables, shapes)
    assert (identity.variant.id, identity.classes) == (variant, 37)


def test_a_transposed_classifier_has_its_classes_in_the_second_place(tables: Tables) -> None:
    shapes = dict(MANIFESTS["res2net200_vd_w26_s4_ssld", "paddle"])
    shapes["out.weight"], shapes["out.bias"] = (2048, 5), (5,)
    assert identified(tables, shapes).classes == 5


def test_a_classifier_whose_parts_disagree_is_no_known_file(tables: Tables) -> None:
    shapes = dict(MANIFESTS["res2net50_w26_s4", "official"])
    shapes["fc.bias"] = (37,)
    assert identify(tables, shapes) is None


def test_a_backbone_is_told_as_such(tables: Tables) -> None:
    shapes = {name: shape for name, shape in MANIFESTS["res2net50_v1b_w26_s4", "official"].items() if "fc" not in name}
    identity = identified(tables, shapes)
    assert (identity.layout, identity.has_classifier) == ("official", False)


@pytest.mark.parametrize("change", ["rename", "drop", "add", "reshape"])
def test_one_tensor_that_does_not_fit_makes_a_file_unknown(tables: Tables, change: str) -> None:
    shapes = dict(MANIFESTS["res2net50_w26_s4", "official"])
    name = "layer3.2.convs.1.weight"
    shape = shapes[name]
    if change in ("rename", "drop"):
        del shapes[name]
    if change in ("rename", "add"):
        shapes["layer3.2.convs.7.weight"] = shape
    if change == "reshape":
        shapes[name] = (*shape[:2], 1, 9)
    assert identify(tables, shapes) is None
    near = nearest(tables, shapes)
    assert near is not None
    expansion, layout, difference = near
    assert (expansion.variant.id, layout, difference.size) == (
        "res2net50_w26_s4", "official", 2 if change == "rename" else 1
    )  # fmt: skip
    assert any("layer3.2.convs" in line for line in difference.lines())


def test_nothing_shared_has_no_nearest(tables: Tables) -> None:
    assert nearest(tables, {"encoder.weight": (3, 3)}) is None


def expanded(tables: Tables, name: str, layout: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an architecture, listed or not."""
    expansion = tables.of(tables.catalog.find_architecture(name))
    return {each: expansion.shape_in(layout, slot) for each, slot in expansion.names(layout).items()}


@pytest.mark.parametrize("layout", ["official", "mm", "paddle"])
@pytest.mark.parametrize(
    ("name", "stage_blocks"),
    [
        ("res2net152_v1b_w26_s4", (3, 8, 36, 3)),
        ("res2net50_w18_s6", (3, 4, 6, 3)),
        ("res2net200_w26_s4", (3, 12, 48, 3)),
        ("res2net101_vd_w14_s8", (3, 4, 23, 3)),
    ],
)
def test_an_architecture_that_no_file_lists_is_read_off_names_and_shapes(
    tables: Tables, name: str, stage_blocks: tuple[int, ...], layout: str
) -> None:
    architecture = identified(tables, expanded(tables, name, layout)).variant.architecture
    said = tables.catalog.find_architecture(name).architecture
    assert isinstance(architecture, StagedArchitecture)
    assert isinstance(said, StagedArchitecture)
    assert architecture.stage_blocks == stage_blocks
    assert (architecture.base_width, architecture.scales, architecture.stem) == (
        said.base_width, said.scales, said.stem
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"stage_blocks": (3, 4, 6, 4)}, "res2net53_w26_s4_b3-4-6-4"),
        ({"stage_blocks": (2, 2, 2, 2), "depth": 26}, "res2net26_w26_s4"),
        ({"in_channels": 1}, "res2net50_w26_s4_in1"),
        ({"in_channels": 4}, "res2net50_w26_s4_in4"),
        ({"cardinality": 4}, "res2next50_w26_s4_c4"),
    ],
)
def test_blocks_channels_and_cardinality_are_read(tables: Tables, change: dict[str, object], expected: str) -> None:
    variant = tables.catalog.find("res2net50")
    expansion = tables.of(replace(variant, architecture=replace(variant.architecture, **change)))
    found = identified(tables, {name: slot.shape for name, slot in expansion.names("official").items()})
    assert found.variant.id == expected
    assert tables.of(found.variant).slots == expansion.slots


@pytest.mark.parametrize(
    ("name", "layout", "fits"),
    [
        ("res2net50_v1b_w26_s4", "official", ["res2net50_v1b_w26_s4", "res2net50_vd_w26_s4", "res2net50_mmdet_w26_s4"]),
        ("res2net50_v1b_w26_s4", "mm", ["res2net50_v1b_w26_s4", "res2net50_vd_w26_s4", "res2net50_mmdet_w26_s4"]),
        ("res2net50_v1b_w26_s4", "paddle", ["res2net50_vd_w26_s4", "res2net50_v1b_w26_s4", "res2net50_mmdet_w26_s4"]),
        ("res2net50_v1b_w26_s4", "mmdet", ["res2net50_mmdet_w26_s4", "res2net50_v1b_w26_s4", "res2net50_vd_w26_s4"]),
        ("res2net50_w26_s4", "official", ["res2net50_w26_s4", "res2net50_paddle_w26_s4"]),
        ("res2net50_w26_s4", "paddle", ["res2net50_paddle_w26_s4", "res2net50_w26_s4"]),
        ("res2next50_w4_s4_c8", "official", ["res2next50_w4_s4_c8"]),
        ("res2net_dla60_w28_s4", "official", ["res2net_dla60_w28_s4"]),
    ],
)
def test_a_file_is_presumed_to_be_what_its_layouts_program_computes(
    tables: Tables, name: str, layout: str, fits: list[str]
) -> None:
    found = identified(tables, expanded(tables, name, layout))
    assert [each.id for each in found.fits] == fits
    assert found.variant.id == fits[0]
    assert found.proven == (len(fits) == 1)
    assert all(each in found.evidence for each in fits)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["layer1.0.conv2.weight", "layer1.0.bn2.weight"], "torchvision, timm and mmpretrain read it"),
        (["backbone.layer1.0.conv2.weight"], "a plain ResNet"),
        (["backbone.bottom_up.res2.0.conv2.weight"], "detectron2 reads it"),
        (["layer1.0.convs.0.weight", "layer1.0.shortcut.0.weight"], "wespeaker and 3D-Speaker read it"),
        (["speaker.layer1.0.shortcut.0.weight"], "speech recognition"),
        (["layer3.0.convs.1.conv_offset.weight"], "mmdetection reads it, with its `dcn`"),
        (["layer1.0.conv1.weight_orig", "layer1.0.conv1.weight_mask"], "`prune.remove` every module"),
        (["_fsdp_wrapped_module._flat_param"], "parameters that FSDP has flattened"),
        (["flat_param_0"], "FULL_STATE_DICT"),
        (["layer1.0.conv1.weight", "layer1.0.conv1.bias"], "BatchNorms were folded into its convolutions"),
        (["model.layer1.0.conv1.parametrizations.weight.original0"], "parametrized weights"),
        (["backbone.res4.blocks.1.branch2b.0.conv_offset.weight"], "PaddleDetection reads it"),
    ],
)
def test_other_networks_are_named(tables: Tables, names: list[str], expected: str) -> None:
    found = lookalike(tables.catalog, dict.fromkeys(names, (1,)))
    assert found is not None
    assert expected in found


def test_a_plain_resnet_is_named_with_its_depth(tables: Tables) -> None:
    for depth, stages, convolutions in ((18, (2, 2, 2, 2), 2), (50, (3, 4, 6, 3), 3), (101, (3, 4, 23, 3), 3)):
        blocks = [(stage, block) for stage, count in enumerate(stages, start=1) for block in range(count)]
        numbers = range(1, convolutions + 1)
        names = [f"layer{stage}.{block}.conv{number}.weight" for stage, block in blocks for number in numbers]
        told = lookalike(tables.catalog, dict.fromkeys(["conv1.weight", *names], (64, 64, 3, 3)))
        assert told is not None
        assert told.startswith(f"a plain ResNet-{depth}: it has conv2/bn2 where Res2Net has convs/bns")


def test_a_backbone_inside_a_detector_is_found_under_its_prefix(tables: Tables) -> None:
    inside = expanded(tables, "res2net101_v1b_w26_s4", "mmdet")
    shapes = {f"backbone.{name}": shape for name, shape in inside.items()} | {"neck.conv.weight": (256, 256, 1, 1)}
    (found,) = networks_inside(tables, shapes)
    assert (found.prefix, found.identity.variant.id) == ("backbone.", "res2net101_mmdet_w26_s4")
    assert (found.beside, found.options) == ((), "--prefix backbone.")


@pytest.mark.parametrize(
    ("prefix", "extra", "options"),
    [
        # PraNet's derivatives add modules to the backbone's own class.
        ("resnet.", ["resnet.se1.fc.0.weight", "rfb2_1.branch0.0.conv.weight"], "--prefix resnet. --leave-out 'se1.*'"),
        ("", ["classifier_aux.weight", "gate"], "--leave-out 'classifier_aux.*' --leave-out gate"),
        ("backbone.", ["backbone.ca.fc.weight", "neck.weight"], "--prefix backbone. --leave-out 'ca.*'"),
    ],
)
def test_a_network_with_modules_beside_it_is_found_with_what_takes_it_out(
    tables: Tables, prefix: str, extra: list[str], options: str
) -> None:
    inside = expanded(tables, "res2net50_v1b_w26_s4", "official")
    shapes = {f"{prefix}{name}": shape for name, shape in inside.items()} | dict.fromkeys(extra, (8, 8))
    (found,) = networks_inside(tables, shapes)
    assert found.options == options
    assert found.identity.has_classifier
    assert found.identity.variant.id == "res2net50_v1b_w26_s4"


@pytest.mark.parametrize("head", [["fc.1.weight", "fc.1.bias"], ["fc.0.weight", "fc.3.weight"], ["fc.weight"]])
def test_another_classifier_leaves_the_backbone_to_be_taken_out(tables: Tables, head: list[str]) -> None:
    whole = expanded(tables, "res2net50_w26_s4", "official")
    shapes = {name: shape for name, shape in whole.items() if not name.startswith("fc.")} | dict.fromkeys(head, (10, 9))
    (found,) = networks_inside(tables, shapes)
    assert (found.options, found.identity.has_classifier) == ("--leave-out 'fc.*'", False)


def test_modules_within_the_stages_make_another_network(tables: Tables) -> None:
    shapes = expanded(tables, "res2net50_w26_s4", "official") | {"layer1.0.se.conv.weight": (16, 256, 1, 1)}
    assert networks_inside(tables, shapes) == ()


def test_a_file_whose_values_are_kept_elsewhere_is_said_to_be_that(tables: Tables, tmp_path: Path) -> None:
    shapes = MANIFESTS["res2net50_w26_s4", "official"]
    partitioned = {name: torch.zeros(shape if "running" in name else 0) for name, shape in shapes.items()}
    torch.save({"module": partitioned, "ds_version": "0.14.0"}, tmp_path / "zero_pp_rank_0_model_states.pt")
    said = pytest.raises(MappingError, match=r"most tensors of this file are empty(.|\n)*zero_to_fp32\.py")
    with open_checkpoint(tmp_path / "zero_pp_rank_0_model_states.pt") as checkpoint, said:
        resolve(tables, checkpoint)
