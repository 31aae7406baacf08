"""Networks with equal names are told apart by what their BatchNorms remember, where that can be seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from r2convert.catalog.variant import StagedArchitecture, Variant
from r2convert.checks.standins import synthetic_image
from r2convert.checks.wiring import LayerStatistics, WiringImages
from r2convert.checks.wiring_evidence import FURTHEST, compare_statistics, weigh_wiring
from r2convert.imagenet.preprocessing import crop_image
from r2convert.mapping.identity import Identity, Resolution, identify
from r2convert.mapping.tables import Tables
from r2convert.models.build import build_network
from r2convert.results.verification import WiringResult
from tests.checks.calibrated import calibrated_network, synthetic_inputs
from tests.conftest import DATA

SIDE = 64
V1, PADDLE_V1 = "res2net50_w4_s4", "res2net50_paddle_w4_s4"
V1B, VD, MMDET = "res2net50_v1b_w4_s4", "res2net50_vd_w4_s4", "res2net50_mmdet_w4_s4"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Layers this small are computed sooner than threads on busy cores have met."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def variants(tables: Tables) -> dict[str, Variant]:
    """A narrow network of every program for each family of names."""
    found = {}
    for name in ("res2net50_w26_s4", "res2net50_v1b_w26_s4"):
        known = tables.catalog.find(name).architecture
        assert isinstance(known, StagedArchitecture)
        for program in tables.catalog.programs.values():
            if program.builds(known):
                architecture = program.as_computed(replace(known, base_width=4))
                variant = tables.catalog.variant_of(architecture, program)
                found[variant.id] = variant
    return found


@pytest.fixture(scope="module")
def trained(variants: dict[str, Variant]) -> dict[str, nn.Module]:
    """Every network with statistics of its own: they are what it computes."""
    seen = synthetic_inputs(32, seed=1, side=SIDE)
    return {name: calibrated_network(variant, seen) for name, variant in variants.items()}


def presumed(tables: Tables, network: nn.Module) -> Resolution:
    """What names and shapes alone say."""
    identity = identify(tables, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    assert identity is not None
    return Resolution(tables.of(identity.variant, identity.classes), identity)


def pictures(source: Path | None) -> WiringImages:
    crops = np.stack([crop_image(synthetic_image(number, 2)) for number in range(16)])
    return WiringImages(np.ascontiguousarray(crops[:, :SIDE, :SIDE]), source)


def settled(
    tables: Tables, network: nn.Module, images: WiringImages, *, proven: bool = False
) -> tuple[Identity, WiringResult]:
    resolution = presumed(tables, network)
    resolution = replace(resolution, identity=replace(resolution.identity, proven=proven))

    def load(taken_for: Resolution) -> nn.Module:
        with torch.device("meta"):
            loaded = build_network(taken_for.identity.variant)
        loaded.load_state_dict(network.state_dict(), assign=True)
        return loaded.eval()

    found, wiring = weigh_wiring(tables, resolution, load, images, torch.device("cpu"))
    assert found.expansion.variant == found.identity.variant
    return found.identity, wiring


def test_a_network_of_paddleclas_in_the_authors_names_is_recognised(
    tables: Tables, trained: dict[str, nn.Module]
) -> None:
    assert presumed(tables, trained[VD]).identity.variant.id == V1B
    identity, wiring = settled(tables, trained[VD], pictures(Path("photos")))
    assert identity.variant.id == VD
    assert [each.id for each in identity.fits] == [VD, V1B, MMDET]
    assert identity.evidence == (
        f"{VD}, measured on 16 images: unlike {V1B} (the authors' network) and {MMDET} (mmdetection's network) it "
        "matches the running statistics of layer1.0.bns.1"
    )
    # The check is that of the network it is: the presumed one adds nothing in layer1.0.
    assert wiring.suspects == ()


def test_a_presumption_is_confirmed(tables: Tables, trained: dict[str, nn.Module]) -> None:
    identity, _ = settled(tables, trained[V1], pictures(Path("photos")))
    assert identity.variant.id == V1
    assert identity.evidence.startswith(f"{V1}, measured on 16 images: unlike {PADDLE_V1} (PaddleClas' network)")
    identity, _ = settled(tables, trained[PADDLE_V1], pictures(Path("photos")))
    assert identity.variant.id == PADDLE_V1


def test_what_images_do_not_tell_apart_stays_a_presumption_and_is_named(
    tables: Tables, trained: dict[str, nn.Module]
) -> None:
    identity, _ = settled(tables, trained[MMDET], pictures(Path("photos")))
    assert identity.variant.id == V1B
    assert [each.id for each in identity.fits] == [V1B, MMDET, VD]
    assert identity.evidence.endswith(f"; {MMDET} (mmdetection's network) cannot be told from it by images")
    assert f"unlike {VD}" in identity.evidence


def test_what_is_proven_is_not_measured_again(tables: Tables, trained: dict[str, nn.Module]) -> None:
    before = presumed(tables, trained[VD]).identity
    identity, wiring = settled(tables, trained[VD], pictures(Path("photos")), proven=True)
    assert (identity.variant.id, identity.evidence) == (V1B, before.evidence)
    assert "backbone.layer1.0.bns.1" in [layer.name for layer in wiring.suspects]


def test_synthetic_images_decide_nothing(tables: Tables, trained: dict[str, nn.Module]) -> None:
    identity, _ = settled(tables, trained[VD], pictures(None))
    assert identity == presumed(tables, trained[VD]).identity


def test_statistics_of_neither_network_decide_nothing(tables: Tables, trained: dict[str, nn.Module]) -> None:
    fresh = build_network(tables.catalog.find("res2net50_v1b_w26_s4")).eval()
    identity, _ = settled(tables, fresh, pictures(Path("photos")))
    assert identity.evidence == f"{presumed(tables, fresh).identity.evidence}; 16 images do not tell them apart"


def layer(
    mean: float, running_mean: float, name: str = "backbone.layer1.0.bns.1", channels: int = 8
) -> LayerStatistics:
    ones = torch.ones(channels, dtype=torch.float64)
    return LayerStatistics(name, mean * ones, ones, running_mean * ones, ones)


@pytest.mark.parametrize(
    ("other", "remembered", "position"), [(1.0, 0.1, 0.1), (1.0, 0.95, 0.95), (1.0, 0.5, None), (0.1, 0.0, None)]
)
def test_remembered_statistics_lie_on_the_way_between_two_networks(
    other: float, remembered: float, position: float | None
) -> None:
    found = compare_statistics([layer(0.0, remembered)], [layer(other, remembered)])
    if position is None and other == 1.0:
        assert found is None or not found.decides_for_first
    elif position is None:
        assert found is None
    else:
        assert found is not None
        assert found.position == pytest.approx(position)
        assert found.decides_for_first == (position <= FURTHEST)


def test_what_follows_the_block_in_which_two_networks_part_has_no_say() -> None:
    """A wide layer far behind it moves with the images as well."""
    last = "backbone.layer4.0.bn3"
    one = [layer(0.0, 0.1), layer(0.0, 0.9, last, channels=2048)]
    other = [layer(1.0, 0.1), layer(1.0, 0.9, last, channels=2048)]
    found = compare_statistics(one, other)
    assert found is not None
    assert found.position == pytest.approx(0.1)
    assert found.layer == "layer1.0.bns.1"


RECORDED: dict[str, dict[str, float | None]] = json.loads((DATA / "wiring.json").read_text())["pairs"]
"""Where the statistics of really trained networks lie, by scripts/wiring_false_alarms.py."""
POOL_ALONE = ("res2net_v1b of authors against mmdet", "res2net_v1b of mmdet against authors")


@pytest.mark.parametrize("pair", RECORDED)
def test_trained_networks_are_told_apart_on_every_folder_or_on_none(pair: str) -> None:
    positions = list(RECORDED[pair].values())
    assert len(positions) == 42
    if pair in POOL_ALONE:
        assert set(positions) == {None}
    else:
        assert all(position is not None and abs(position) <= FURTHEST for position in positions)
