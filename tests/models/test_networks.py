"""The reference networks: golden logits, mm names, and nothing allocated when they are only counted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from r2convert.catalog import Catalog, load_catalog
from r2convert.catalog.loading import builtin_folder
from r2convert.checks.standins import random_state_dict
from r2convert.errors import CatalogError
from r2convert.mapping.tables import Expansion, Tables
from r2convert.models.blocks import Classifier, FeatureExtractor
from r2convert.models.build import build_network, require_agreement
from tests.conftest import DATA
from tests.mapping.manifests import read_manifest

VARIANTS = sorted(path.stem for path in (DATA / "golden").glob("*.npz"))


def golden_network(expansion: Expansion) -> Classifier:
    """The variant with the golden fill of its publisher's names, in float64, mapped by hand to mm names."""
    layout = "paddle" if "_vd_" in expansion.variant.id else "official"
    drawn = random_state_dict(expansion, layout, dtype=torch.float64)
    state: dict[str, Tensor] = {}
    for slot in expansion.slots:
        if slot.canonical is None:
            continue
        tensor = drawn.get(slot.names.get(layout, ""), torch.tensor(0))
        if expansion.form_in(layout, slot) == "transposed":
            tensor = tensor.T.contiguous()
        state[slot.canonical] = tensor.reshape(slot.shape)
    with torch.device("meta"):
        network = build_network(expansion.variant)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_agree_with_the_independent_implementation(tables: Tables, data: Path, name: str) -> None:
    network = golden_network(tables.of(tables.catalog.find(name)))
    images = torch.from_numpy(np.random.RandomState(0).standard_normal((2, 3, 224, 224)))
    with torch.inference_mode():
        logits = network(images).numpy()
    golden = np.load(data / "golden" / f"{name}.npz")["logits"]
    assert np.abs(logits - golden).max() <= 1e-10 * np.abs(golden).max()


def test_there_is_a_golden_file_for_every_network_of_the_official_table(catalog: Catalog) -> None:
    listed = [
        name for name, each in catalog.variants.items() if any(c.source == "official README" for c in each.claims)
    ]
    assert sorted(listed) == sorted(catalog.find(name).id for name in VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_state_dict_has_the_mm_names_and_shapes(tables: Tables, name: str) -> None:
    expansion = tables.of(tables.catalog.find(name))
    with torch.device("meta"):
        state = build_network(expansion.variant).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    assert shapes == {key: slot.shape for key, slot in expansion.names("mm").items()}
    recorded = DATA / "manifests" / f"{name}.mm.txt"
    if recorded.exists():
        assert shapes == read_manifest(recorded)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_meta_device_holds_no_weights(catalog: Catalog, name: str) -> None:
    with torch.device("meta"):
        network = build_network(catalog.find(name))
    tensors: Iterable[Tensor] = [*network.parameters(), *network.buffers()]
    assert all(tensor.is_meta for tensor in tensors)


@pytest.mark.parametrize("size", [(64, 96), (225, 193), (256, 256)])
@pytest.mark.parametrize("name", ["res2net50_w48_s2", "res2net50_v1b_w26_s4"])
def test_other_input_sizes_work(catalog: Catalog, name: str, size: tuple[int, int]) -> None:
    network = build_network(catalog.find(name), classes=7).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, *size)).shape == (1, 7)


@pytest.mark.parametrize("name", ["res2net50_v1b_w26_s4", "res2next50_w4_s4_c8", "res2net_dla60_w28_s4"])
def test_the_outputs_of_the_stages_are_as_large_as_is_said(catalog: Catalog, name: str) -> None:
    network = build_network(catalog.find(name)).eval()
    features = FeatureExtractor(network.backbone)
    images = torch.randn(1, 3, 96, 64)
    with torch.inference_mode():
        outputs = features(images)
        assert torch.equal(outputs[-1], network.backbone(images))
    assert [tuple(output.shape) for output in outputs] == [
        (1, channels, 96 // reduction, 64 // reduction)
        for channels, reduction in zip(features.channels, features.reductions, strict=True)
    ]


def test_unreachable_layers_change_no_logit(catalog: Catalog) -> None:
    variant = catalog.find("res2net_dla60_w28_s4")
    torch.manual_seed(0)
    network = build_network(variant).eval()
    official = build_network(variant, unreachable=True).eval()
    missing, unexpected = official.load_state_dict(network.state_dict(), strict=False)
    assert unexpected == []
    # Three projections of a weight, four BatchNorm tensors each; torch never counts the fifth, the counter, as missing.
    assert len(missing) == 15
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(images), official(images))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"{out} {split} 1 1", ', '"{out} {split} 3 3", ', "(256, 104, 3, 3), in the network (256, 104, 1, 1)"),
        ('"backbone.layer{stage}.{block}.conv3",', '"backbone.layer{stage}.{block}.conv4",', "network has no backbone"),
    ],
)
def test_a_table_that_contradicts_the_network_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    lines = (builtin_folder() / "families" / "res2net.toml").read_text().splitlines()
    number = next(index for index, line in enumerate(lines) if old in line)
    lines[number] = lines[number].replace(old, new)
    path = tmp_path / "families" / "res2net.toml"
    path.parent.mkdir()
    path.write_text("\n".join(lines))
    tables = Tables(load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)}))
    expansion = tables.of(tables.catalog.find("res2net50"))
    with torch.device("meta"):
        network = build_network(expansion.variant)
    with pytest.raises(CatalogError) as caught:
        require_agreement(expansion, network)
    assert f"{path}:{number + 1}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "res2net152_v1b_w26_s4",
        "res2net50_w18_s6",
        "res2net50_vd_w26_s4",
        "res2net50_mmdet_w26_s4",
        "res2net50_paddle_w14_s8",
    ],
)
def test_tables_describe_networks_that_no_file_lists(tables: Tables, name: str) -> None:
    expansion = tables.of(tables.catalog.find_architecture(name))
    with torch.device("meta"):
        require_agreement(expansion, build_network(expansion.variant))


def test_programs_with_equal_names_compute_different_things(tables: Tables) -> None:
    """The same weights as the authors, PaddleClas and mmdetection compute them: shapes fit, logits differ."""
    expansion = tables.of(tables.catalog.find("res2net50_v1b_w26_s4"))
    state = random_state_dict(expansion, "mm")
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits = []
    for name in ("res2net50_v1b_w26_s4", "res2net50_vd_w26_s4", "res2net50_mmdet_w26_s4"):
        network = build_network(tables.catalog.find_architecture(name)).eval()
        network.load_state_dict(state, strict=True)
        with torch.inference_mode():
            logits.append(network(image))
    spread = logits[0].abs().max()
    for index, other in ((0, 1), (0, 2), (1, 2)):
        assert (logits[index] - logits[other]).abs().max() > 1e-3 * spread
