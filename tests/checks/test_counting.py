"""Operation counts: every figure recorded from independent tools, to the last unit."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from r2convert.catalog import Catalog, load_catalog
from r2convert.catalog.variant import DlaArchitecture, StagedArchitecture, Variant
from r2convert.checks.counting import count_as_fluid, count_operations
from r2convert.checks.standins import write_random_checkpoint
from r2convert.errors import UsageError
from r2convert.mapping.tables import Tables
from r2convert.models.build import build_network
from r2convert.results.verification import IMAGENET_INPUT, LayerOperations
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
    names = [layer.name for layer in count.layers or () if layer.macs]
    assert names[0] == "backbone.conv1"
    assert names[-1] == "head.fc"
    assert names.index("backbone.layer1.0.conv1") < names.index("backbone.layer3.5.convs.2")
    assert sum(layer.macs for layer in count.layers or ()) == count.macs


def run_layers(network: nn.Module, image: torch.Tensor) -> tuple[list[LayerOperations], int]:
    """What the network itself runs, layer by layer, counted from the tensors that pass through it; the fluid total."""
    layers: list[LayerOperations] = []
    fluid = 0

    def record(name: str) -> Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            kind, read, written = type(module).__name__, inputs[0].numel(), output.numel()
            macs, bias, made = 0, 0, 0
            if kind in ("Conv2d", "Linear"):
                macs, made = written * module.weight[0].numel(), written
                bias = written if module.bias is not None else 0
            normalised = 2 * read if kind == "BatchNorm2d" else 0
            pooled = read if kind in ("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d") else 0
            activated = written if kind == "ReLU" else 0
            globally = read if kind == "AdaptiveAvgPool2d" else 0
            assert macs or normalised or pooled or activated or kind == "Identity", kind
            mmcv, fvcore = macs + bias + normalised + pooled + activated, macs + normalised + globally
            layers.append(LayerOperations(name, kind, macs, mmcv, fvcore, made))
            windows = 0 if globally or not pooled else written * module.kernel_size**2
            nonlocal fluid
            fluid += macs * (2 if kind == "Conv2d" else 1) + normalised + windows + globally - activated

        return hook

    for name, module in network.named_modules():
        if next(module.children(), None) is None:
            module.register_forward_hook(record(name))
    with torch.no_grad():
        network(image)
    return layers, fluid


def assert_counted(variant: Variant, size: tuple[int, int], *, channels: int = 3, **options: Any) -> None:
    """Hold the count against the network under torch's own counter, and layer by layer."""
    variant = replace(variant, architecture=replace(variant.architecture, in_channels=channels))
    count = count_operations(variant, input_size=size, **options)
    with torch.device("meta"):
        network = build_network(variant, **options).eval()
        with FlopCounterMode(display=False) as counter:
            layers, fluid = run_layers(network, torch.empty(1, channels, *size))
    assert list(count.layers or ()) == layers
    if not options.pop("unreachable", False):
        assert count_as_fluid(variant, input_size=size, **options) == fluid
    # torch counts a multiply-add as two operations.
    assert counter.get_total_flops() == 2 * count.macs


@pytest.mark.parametrize("name", MEASURED)
def test_layers_are_those_that_the_network_runs(catalog: Catalog, name: str) -> None:
    assert_counted(catalog.find(name), (96, 64))
    assert_counted(catalog.find(name), IMAGENET_INPUT, unreachable=True)


@settings(deadline=None, max_examples=15)
@given(
    architecture=st.builds(
        StagedArchitecture,
        family=st.just("res2net"),
        depth=st.just(50),
        stage_blocks=st.tuples(*4 * [st.integers(1, 3)]),
        base_width=st.integers(1, 30),
        scales=st.integers(2, 8),
        cardinality=st.sampled_from([1, 2, 8]),
        stem=st.sampled_from(["conv7x7", "deep"]),
        shortcut=st.sampled_from(["strided-conv", "pooled", "pooled-if-strided"]),
        first_block=st.sampled_from(["stage", "normal"]),
        pool_counts_padding=st.booleans(),
    ),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    classes=st.integers(1, 2000),
    channels=st.integers(1, 6),
)
def test_any_geometry_is_counted(
    catalog: Catalog, architecture: StagedArchitecture, size: tuple[int, int], classes: int, channels: int
) -> None:
    variant = replace(catalog.find("res2net50_w26_s4"), architecture=architecture)
    assert_counted(variant, size, channels=channels, classes=classes)


@settings(deadline=None, max_examples=8)
@given(
    levels=st.tuples(*2 * [st.just(1)], *4 * [st.integers(1, 3)]),
    channels=st.tuples(*6 * [st.integers(1, 8)]),
    scales=st.integers(2, 5),
    cardinality=st.sampled_from([1, 4]),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    unreachable=st.booleans(),
)
def test_any_aggregation_trees_are_counted(
    catalog: Catalog,
    levels: tuple[int, ...],
    channels: tuple[int, ...],
    scales: int,
    cardinality: int,
    size: tuple[int, int],
    unreachable: bool,
) -> None:
    known = catalog.find("res2net_dla60_w28_s4")
    wide = tuple(32 * number for number in channels)
    architecture = DlaArchitecture("res2net_dla", levels, wide, 8, scales, cardinality, 2)  # type: ignore[arg-type]
    height, width = size
    assert_counted(replace(known, architecture=architecture), (32 * height, 32 * width), unreachable=unreachable)


def test_a_size_that_dla_cannot_be_shown_is_refused(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="divisible by 32"):
        count_operations(catalog.find("res2net_dla60_w28_s4"), input_size=(230, 224))


def test_counting_by_hand(catalog: Catalog) -> None:
    layers = count_operations(catalog.find("res2net50_w26_s4"), input_size=(5, 7)).layers or ()
    stem, norm, relu, pool = layers[:4]
    outputs = 64 * 3 * 4
    assert (stem.macs, stem.mmcv, stem.fvcore, stem.activations) == (*3 * [outputs * 3 * 49], outputs)
    assert (norm.macs, norm.mmcv, norm.fvcore, norm.activations) == (0, 2 * outputs, 2 * outputs, 0)
    assert (relu.mmcv, relu.fvcore, pool.mmcv, pool.fvcore) == (outputs, 0, outputs, 0)


@pytest.mark.parametrize("arguments", [["sound.pth", "--by-layer", "--json", "results.json"], ["--references"]])
def test_verifying_without_images_imports_no_torch(tmp_path: Path, arguments: list[str]) -> None:
    """The whole command, from its first word to its results: torch takes longer to import than all of it."""
    tables = Tables(load_catalog())
    write_random_checkpoint(tables, tables.catalog.find("res2net_dla60_w28_s4"), tmp_path / "sound.pth")
    program = (
        "import sys\n"
        "from r2convert.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code, ended.code\n"
        "    sys.exit('torch was imported' if 'torch' in sys.modules else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program, "verify", *arguments], cwd=tmp_path, check=True)
