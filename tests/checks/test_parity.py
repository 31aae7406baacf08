"""Parity: a peer that computes the same passes, one that does not is shown where it parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from r2convert.catalog.variant import Variant
from r2convert.checkpoint.open import open_checkpoint
from r2convert.checks.parity import Peer, module_names, parity_check, run_parity
from r2convert.mapping.identity import resolve
from r2convert.mapping.tables import Tables
from r2convert.models.build import build_network, load_network
from r2convert.results.verdicts import Check
from tests.conftest import Standin

V1 = "res2net50_w26_s4"
DLA = "res2net_dla60_w28_s4"

Change = Callable[[Any], None]


class NamedAsOfficial(nn.Module):
    """A network with the module names of the official code: no prefix, the classifier called fc."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        reference = build_network(variant, classes=classes)
        for name, child in reference.backbone.named_children():
            self.add_module(name, child)
        features = reference.head.fc.in_features
        self.is_dla = "_dla" in variant.id
        # In DLA the classifier is a 1x1 convolution.
        self.fc: nn.Module = nn.Conv2d(features, classes, 1) if self.is_dla else nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        for name, child in self.named_children():
            if name != "fc":
                x = child(x)
        x = x.mean((2, 3), keepdim=True)
        result: Tensor = self.fc(x) if self.is_dla else self.fc(x.flatten(1))
        return result


def official_peer(change: Change) -> Peer:
    """A peer whose network differs from ours as a test wants it to."""

    def build(variant: Variant, classes: int) -> nn.Module | None:
        if "_vd_" in variant.id:
            return None
        network = NamedAsOfficial(variant, classes)
        change(network)
        return network

    def load(network: nn.Module, path: Path) -> None:
        network.load_state_dict(torch.load(path, weights_only=True), strict=True)

    return Peer("official", "1.0", "timm", build, load)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def asked(tables: Tables, path: Path, change: Change = lambda network: None) -> Check:
    with open_checkpoint(path) as checkpoint:
        resolution = resolve(tables, checkpoint)
        reference = load_network(checkpoint, resolution)
    return parity_check(run_parity(official_peer(change), resolution, path, reference))


@pytest.mark.parametrize(("variant", "layout"), [(V1, "official"), (DLA, "timm")])
def test_the_same_network_under_other_names_passes(tables: Tables, standin: Standin, variant: str, layout: str) -> None:
    check = asked(tables, standin(variant, layout))
    assert check.verdict == "pass", check.note
    assert check.source == "official 1.0"
    assert check.measured is not None
    assert check.measured > 100


def flip_padding(network: Any) -> None:
    network.layer2[0].pool.count_include_pad = False


def change_eps(network: Any) -> None:
    network.layer3[1].bn1.eps = 1e-3


def add_hierarchically(network: Any) -> None:
    network.layer1[0].kind = "normal"
    network.layer1[0].pool = None


@pytest.mark.parametrize(
    ("change", "layer", "stage"),
    [
        (flip_padding, "backbone.layer2.0.pool", "backbone.layer2"),
        (change_eps, "backbone.layer3.1.bn1", "backbone.layer3"),
        (add_hierarchically, "backbone.layer1.0.convs.1", "backbone.layer1"),
    ],
)
def test_where_a_peer_parts_is_named(tables: Tables, standin: Standin, change: Change, layer: str, stage: str) -> None:
    check = asked(tables, standin(V1), change)
    assert check.verdict == "fail"
    assert f"first layer to differ is {layer}, by " in check.note
    assert f"first stage to differ is {stage}, by " in check.note


def test_a_file_with_other_names_cannot_be_asked_about(tables: Tables, standin: Standin) -> None:
    check = asked(tables, standin(V1, "mm"))
    assert check.verdict == "not-comparable"
    assert "map --to timm" in check.note


def test_the_official_dla_files_have_more_than_timm_reads(tables: Tables, standin: Standin) -> None:
    assert asked(tables, standin(DLA)).verdict == "not-comparable"


def test_a_peer_without_the_network_cannot_be_asked(tables: Tables, standin: Standin) -> None:
    check = asked(tables, standin("res2net200_vd_w26_s4", "paddle"))
    assert (check.verdict, check.note) == ("not-comparable", "official has no res2net200_vd_w26_s4")


def test_a_file_that_a_peer_refuses_fails(tables: Tables, standin: Standin) -> None:
    def remove(network: Any) -> None:
        del network.layer4[2].bn3

    check = asked(tables, standin(V1), remove)
    assert check.verdict == "fail"
    assert "official refuses the file" in check.note
    assert "layer4.2.bn3" in check.note


@pytest.mark.parametrize("variant", ["res2net50_v1b_w26_s4", V1, DLA])
def test_every_layer_of_a_peer_is_matched(tables: Tables, variant: str) -> None:
    found = tables.catalog.find(variant)
    with torch.device("meta"):
        reference = build_network(found)
        peer: nn.Module = reference.backbone
        expected = {
            name for name, module in reference.named_modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
        }
    names = module_names(tables.of(found), "mmdet" if "_v1b_" in variant else "timm", peer)
    assert expected <= set(names.values())
    assert names.get("maxpool", "backbone.maxpool") == "backbone.maxpool"
    assert all(names[theirs] == f"backbone.{theirs}" for theirs in names if theirs.startswith("layer"))
