"""DLA files that timm made, converted; and official ones, which have layers that timm's network lacks.

Between timm and timm the logits are equal. timm's classifier is a 1x1 convolution and ours a linear layer: another
kernel, which may add in another order and so be a rounding or two away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.mapping.manifests import read_manifest
from tests.peers.conftest import Ask, Convert, Images, OwnLogits
from tests.peers.logits import difference
from tests.peers.made import Made, made_by
from tests.peers.peer_process import PeerProcess
from tests.peers.timm_peer import NAMES

DLA = [variant for variant in NAMES if "_dla" in variant]
CONTAINERS = {"legacy": ".pth", "zip": ".pth", "safetensors": ".safetensors"}
ROUNDING = 1e-12


@pytest.fixture(scope="module", params=DLA)
def made(request: pytest.FixtureRequest, timm: PeerProcess, images: Images) -> Iterator[Made]:
    with made_by(timm, request.param, CONTAINERS, images(request.param)) as result:
        yield result


def with_unreachable_layers(made: Made, data: Path, path: Path) -> Path:
    """The network as the official code would save it: with projections that it computes and throws away."""
    state = torch.load(made.files["zip"], weights_only=True)
    for name, shape in read_manifest(data / "manifests" / f"{made.variant}.official.txt").items():
        if name not in state:
            state[name] = torch.rand(shape) if shape else torch.tensor(7)
    assert len(state) == len(torch.load(made.files["zip"], weights_only=True)) + 18
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("container", CONTAINERS)
def test_our_network_reads_it_as_mm(made: Made, convert: Convert, own_logits: OwnLogits, container: str) -> None:
    converted = convert(made.files[container], "mm")
    assert difference(own_logits(made.variant, converted), made.logits) <= ROUNDING


@pytest.mark.parametrize(("container", "suffix"), [("legacy", ".pth"), ("zip", ".safetensors")])
def test_timm_reads_it_back_from_mm(
    made: Made, timm: PeerProcess, convert: Convert, ask: Ask, container: str, suffix: str
) -> None:
    back = convert(convert(made.files[container], "mm"), "timm", suffix)
    assert difference(ask(timm, made.variant, back), made.logits) == 0.0


def test_timm_reads_it_back_from_official(made: Made, timm: PeerProcess, convert: Convert, ask: Ask) -> None:
    back = convert(convert(made.files["safetensors"], "official"), "timm")
    assert difference(ask(timm, made.variant, back), made.logits) == 0.0


def test_layers_without_effect_change_nothing(
    made: Made, timm: PeerProcess, convert: Convert, ask: Ask, own_logits: OwnLogits, data: Path, tmp_path: Path
) -> None:
    official = with_unreachable_layers(made, data, tmp_path / "official.pth")
    assert difference(ask(timm, made.variant, convert(official, "timm")), made.logits) == 0.0
    assert difference(own_logits(made.variant, convert(official, "mm")), made.logits) <= ROUNDING
