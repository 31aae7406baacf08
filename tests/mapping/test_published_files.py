"""Every file that the catalogue names, made from names and shapes: recognised, its sizes reproduced, carried into every
layout that can hold it and back.

The names themselves are held against the publishers' own code elsewhere: recorded lists, and the peers' real classes.
"""

from __future__ import annotations

from math import prod

import pytest

from r2convert.catalog import load_catalog
from r2convert.catalog.variant import Variant
from r2convert.checks.claims import PublishedNumbers
from r2convert.mapping.identity import identify
from r2convert.mapping.plan import make_plan
from r2convert.mapping.refusal import networks_inside
from r2convert.mapping.tables import CANONICAL, Expansion, Tables
from tests.mapping.test_plan import tensors_of

FILES = {
    source.file_name: (variant, weights, source)
    for variant in load_catalog({}).variants.values()
    for weights in variant.weights
    for source in weights.sources
}
SIZES = ("parameters", "flops", "activations")
# What detectors have besides, and what takes their backbones out: layout -> prefix, names, options.
AROUND = {
    "mmdet": ("backbone.", ("neck.lateral_convs.0.conv.weight", "rpn_head.rpn_conv.weight"), "--prefix backbone."),
    "paddledet": ("backbone.", ("neck.fpn_res5_sum.weight", "rpn_head.rpn_feat.rpn_conv.weight"), "--prefix backbone."),
    # PaddleDetection 06f22754^, static/ppdet/modeling: the names of PaddlePaddle 1.x have no prefixes.
    "paddle-static": (
        "",
        ("fpn_inner_res5_sum_w", "fpn_res5_sum_b", "conv_rpn_fpn2_w", "rpn_cls_logits_fpn2_w", "fc6_w", "fc7_b",
         "cls_score_w", "bbox_pred_b", "mask_inter_feat_1_w", "conv5_mask_b", "mask_fcn_logits_w"),
        " ".join(f"--leave-out '{each}_*'"
                 for each in ("fpn", "conv", "rpn", "fc6", "fc7", "cls", "bbox", "mask", "conv5")),
    ),
}  # fmt: skip


def stored(expansion: Expansion, layout: str, *, backbone: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network in a file, or of its backbone."""
    return {
        name: expansion.shape_in(layout, slot)
        for name, slot in expansion.names(layout).items()
        if not (backbone and slot.role.startswith("linear."))
    }


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_published_file_is_recognised(tables: Tables, name: str) -> None:
    variant, weights, source = FILES[name]
    shapes = stored(tables.of(variant, weights.classes), source.layout, backbone=weights.detector)
    identity = identify(tables, shapes)
    if weights.detector:
        prefix, beside, options = AROUND[source.layout]
        whole = {f"{prefix}{each}": shape for each, shape in shapes.items()} | dict.fromkeys(beside, (256, 256, 3, 3))
        assert identify(tables, whole) is None
        (inside,) = networks_inside(tables, whole)
        assert (inside.options, inside.identity.has_classifier) == (options, False)
        identity = inside.identity
    assert identity is not None
    # timm took over the official names of all but the DLA networks: there is nothing to tell the two apart by.
    as_official = source.layout == "timm" and variant.architecture.family != "res2net_dla"
    assert identity.layout == ("official" if as_official else source.layout)
    assert not identity.has_classifier or identity.classes == weights.classes
    assert variant.id in [each.id for each in identity.fits]
    program = tables.catalog.programs[tables.catalog.layouts[source.layout].program]
    if program.as_computed(variant.architecture) == variant.architecture:
        assert identity.variant.id == variant.id


@pytest.mark.parametrize("name", sorted(FILES))
def test_sizes_are_those_printed_or_deviate_as_recorded(tables: Tables, name: str) -> None:
    variant, weights, source = FILES[name]
    expansion = tables.of(variant, weights.classes)
    slots, shapes = expansion.names(source.layout), stored(expansion, source.layout, backbone=weights.detector)
    elements = {slots[each].key: prod(shape) for each, shape in shapes.items()}
    numbers = PublishedNumbers(tables, expansion, elements, weights=weights)
    for claim in (each for each in weights.claims if each.metric in SIZES):
        assert numbers.check(claim).verdict == ("known-deviation" if claim.deviation else "pass"), claim


def layouts_for(tables: Tables, variant: Variant) -> list[str]:
    """Layouts whose reader can build a network."""
    layouts, programs = tables.catalog.layouts, tables.catalog.programs
    return [
        each
        for each in tables.table(variant.architecture.family).layouts
        if each == CANONICAL or programs[layouts[each].program].builds(variant.architecture)
    ]


def renamed(expansion: Expansion, source: str, target: str, *, backbone: bool) -> dict[str | None, str | None]:
    """What each tensor of a file becomes in another layout; none may be lost."""
    names = stored(expansion, source, backbone=backbone)
    tensors = {name: tensor for name, tensor in tensors_of(expansion, source).items() if name in names}
    plan = make_plan(expansion, source, target, tensors, backbone_only=backbone)
    assert plan.problems == (), (source, target)
    assert {row.source for row in plan.rows if row.source} == names.keys()
    return {row.source: row.target for row in plan.rows_of("rename")}


KINDS = {
    (variant.id, source.layout, weights.detector): (variant, weights, source)
    for variant, weights, source in FILES.values()
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_published_file_goes_into_every_layout_that_can_hold_it_and_back(
    tables: Tables, kind: tuple[str, str, bool]
) -> None:
    variant, weights, source = KINDS[kind]
    expansion = tables.of(variant, weights.classes)
    targets = [each for each in layouts_for(tables, variant) if each != source.layout]
    assert CANONICAL in targets or source.layout == CANONICAL
    for target in targets:
        roles = [{slot.role for slot in expansion.names(each).values()} for each in (source.layout, target)]
        backbone = weights.detector or not all("linear.weight" in each for each in roles)
        there = renamed(expansion, source.layout, target, backbone=backbone)
        back = renamed(expansion, target, source.layout, backbone=backbone)
        assert back == {after: before for before, after in there.items()}, target
        assert len(there) > 200
