"""Files that mmpretrain made, converted: timm and mmpretrain itself read the results, and compute the same logits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.conftest import Ask, Convert, Images, OwnLogits
from tests.peers.logits import difference
from tests.peers.made import Made, made_by
from tests.peers.mmpretrain_peer import CONFIGURATIONS
from tests.peers.peer_process import PeerProcess

CONTAINERS = {"legacy": ".pth", "zip": ".pth"}


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def made(request: pytest.FixtureRequest, mmpretrain: PeerProcess, images: Images) -> Iterator[Made]:
    with made_by(mmpretrain, request.param, CONTAINERS, images(request.param)) as result:
        yield result


def test_our_network_computes_mmpretrains_logits(made: Made, own_logits: OwnLogits) -> None:
    assert difference(own_logits(made.variant, made.files["zip"]), made.logits) == 0.0


@pytest.mark.parametrize(("container", "suffix"), [("legacy", ".pth"), ("zip", ".safetensors")])
def test_timm_reads_it_as_timm(
    made: Made, timm: PeerProcess, convert: Convert, ask: Ask, container: str, suffix: str
) -> None:
    converted = convert(made.files[container], "timm", suffix)
    assert difference(ask(timm, made.variant, converted), made.logits) == 0.0


def test_by_way_of_the_official_layout_and_back(
    made: Made, timm: PeerProcess, mmpretrain: PeerProcess, convert: Convert, ask: Ask
) -> None:
    official = convert(made.files["zip"], "official")
    assert difference(ask(timm, made.variant, official), made.logits) == 0.0
    back = convert(official, "mm")
    assert difference(ask(mmpretrain, made.variant, back), made.logits) == 0.0
