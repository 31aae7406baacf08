"""Telling what a file is: from names and shapes alone, and never by a guess."""

from __future__ import annotations

import pytest

from r2convert.mapping.identity import identify, nearest
from r2convert.mapping.tables import Tables
from tests.conftest import DATA
from tests.mapping.manifests import recorded

MANIFESTS = {(variant, layout): shapes for variant, layout, shapes in recorded(DATA)}


@pytest.mark.parametrize(("variant", "layout"), MANIFESTS)
def test_every_recorded_file_is_identified(tables: Tables, variant: str, layout: str) -> None:
    found = identify(tables, MANIFESTS[variant, layout])
    # timm took over the official names of all but the DLA networks: there is nothing to tell the two apart by.
    expected = "official" if layout == "timm" and "dla" not in variant else layout
    assert [(identity.variant.id, identity.layout) for identity in found] == [(variant, expected)]
    assert found[0].classes == 1000
    assert found[0].has_classifier


@pytest.mark.parametrize(("variant", "layout"), MANIFESTS)
def test_counters_of_batches_may_be_missing(tables: Tables, variant: str, layout: str) -> None:
    shapes = {name: shape for name, shape in MANIFESTS[variant, layout].items() if "num_batches" not in name}
    assert [identity.variant.id for identity in identify(tables, shapes)] == [variant]


@pytest.mark.parametrize(("variant", "layout"), [("res2net50_w26_s4", "official"), ("res2net_dla60_w28_s4", "timm")])
def test_another_number_of_classes_is_told(tables: Tables, variant: str, layout: str) -> None:
    shapes = dict(MANIFESTS[variant, layout])
    shapes["fc.weight"] = (37, *shapes["fc.weight"][1:])
    shapes["fc.bias"] = (37,)
    (identity,) = identify(tables, shapes)
    assert (identity.variant.id, identity.classes) == (variant, 37)


def test_a_transposed_classifier_has_its_classes_in_the_second_place(tables: Tables) -> None:
    shapes = dict(MANIFESTS["res2net200_vd_w26_s4_ssld", "paddle"])
    shapes["out.weight"], shapes["out.bias"] = (2048, 5), (5,)
    assert identify(tables, shapes)[0].classes == 5


def test_a_classifier_whose_parts_disagree_is_no_known_file(tables: Tables) -> None:
    shapes = dict(MANIFESTS["res2net50_w26_s4", "official"])
    shapes["fc.bias"] = (37,)
    assert identify(tables, shapes) == ()


def test_a_backbone_is_told_as_such(tables: Tables) -> None:
    shapes = {name: shape for name, shape in MANIFESTS["res2net50_v1b_w26_s4", "official"].items() if "fc" not in name}
    (identity,) = identify(tables, shapes)
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
    assert identify(tables, shapes) == ()
    near = nearest(tables, shapes)
    assert near is not None
    expansion, layout, difference = near
    assert (expansion.variant.id, layout, difference.size) == (
        "res2net50_w26_s4", "official", 2 if change == "rename" else 1
    )  # fmt: skip
    assert any("layer3.2.convs" in line for line in difference.lines())


def test_nothing_shared_has_no_nearest(tables: Tables) -> None:
    assert nearest(tables, {"encoder.weight": (3, 3)}) is None
