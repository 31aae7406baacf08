"""Operation counts: every figure recorded from independent tools, to the last unit."""

from __future__ import annotations

import json
import warnings
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from r2convert.catalog import Catalog
from r2convert.checks.counting import count_module, count_operations
from r2convert.models.build import build_network
from tests.conftest import DATA

MEASURED = json.loads((DATA / "measured.json").read_text())


@pytest.mark.parametrize("name", MEASURED)
def test_every_recorded_figure_is_reproduced(catalog: Catalog, name: str) -> None:
    variant, expected = catalog.find(name), MEASURED[name]
    official = count_operations(variant, unreachable=True)
    reached = count_operations(variant)
    assert official.macs == expected["conv_linear_macs"]
    assert official.mmcv == expected["mmcv_flops"]
    assert reached.fvcore == expected["fvcore_flops"]
    assert reached.activations == expected.get("conv_activations", reached.activations)


@pytest.mark.parametrize("name", ["res2net50_w26_s4", "res2next_dla60_w4_s4_c8"])
@pytest.mark.parametrize("size", [(224, 224), (192, 256)])
def test_macs_agree_with_torchs_own_counter(catalog: Catalog, name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = build_network(catalog.find(name)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, *size))
    # torch counts a multiply-add as two operations.
    assert counter.get_total_flops() == 2 * count_operations(catalog.find(name), input_size=size).macs


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["res2net50_w48_s2", "res2next50_w4_s4_c8", "res2net_dla60_w28_s4", "res2net50_v1b_w26_s4"]
)
def test_operations_and_activations_agree_with_fvcore(catalog: Catalog, name: str) -> None:
    # One network a family: fvcore takes seconds for each; the recorded figures above are its own for all of them.
    size = (96, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore traces with means that torch has deprecated
        fvcore = import_module("fvcore.nn")
        arguments = (build_network(catalog.find(name)).eval(), torch.zeros(1, 3, *size))
        counters = [fvcore.FlopCountAnalysis(*arguments), fvcore.ActivationCountAnalysis(*arguments)]
        for counter in counters:
            counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        totals = [counter.total() for counter in counters]
    count = count_operations(catalog.find(name), input_size=size)
    assert totals == [count.fvcore, count.activations]


def test_layers_add_up_and_come_in_network_order(catalog: Catalog) -> None:
    count = count_operations(catalog.find("res2net50"))
    names = [layer.name for layer in count.layers if layer.macs]
    assert names[0] == "backbone.conv1"
    assert names[-1] == "head.fc"
    assert names.index("backbone.layer1.0.conv1") < names.index("backbone.layer3.5.convs.2")
    assert sum(layer.macs for layer in count.layers) == count.macs


def test_a_layer_without_a_rule_is_refused_not_ignored() -> None:
    with pytest.raises(TypeError, match="no counting rule for GELU"):
        count_module(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU()), torch.zeros(1, 3, 8, 8))


def test_counting_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)).eval()
    count = count_module(network, torch.zeros(1, 3, 5, 7))
    outputs = 4 * 5 * 7
    macs = outputs * 3 * 9
    assert count.macs == macs
    assert count.mmcv == macs + outputs + 2 * outputs + outputs + outputs
    assert count.fvcore == macs + 2 * outputs + outputs
    assert count.activations == outputs
