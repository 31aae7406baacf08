"""The judges are the pinned ones, and would say no."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.peers.conftest import Ask, Convert, Images
from tests.peers.logits import difference
from tests.peers.made import Made, made_by
from tests.peers.peer_process import ROOT, PeerProcess, PeerRefusedError

VARIANT = "res2net50_v1b_w26_s4"


@pytest.fixture(scope="module")
def made(timm: PeerProcess, images: Images) -> Iterator[Made]:
    with made_by(timm, VARIANT, {"zip": ".pth", "safetensors": ".safetensors"}, images(VARIANT)) as result:
        yield result


def pins(name: str) -> dict[str, str]:
    """Package -> the version that a constraints file asks for."""
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("peer", ["timm", "mmpretrain", "holocron"])
def test_the_peers_are_the_pinned_ones(request: pytest.FixtureRequest, peer: str) -> None:
    process: PeerProcess = request.getfixturevalue(peer)
    pinned = pins("constraints-peers.txt")
    versions = {package: version.partition("+")[0] for package, version in process.versions.items()}
    assert versions == {package: pinned[package] for package in versions}


def test_paddle_is_the_pinned_one(paddle: PeerProcess) -> None:
    pinned = pins("constraints-paddle.txt")
    assert paddle.versions == {package: pinned[package] for package in paddle.versions}


def test_the_peers_compute_with_our_torch(timm: PeerProcess) -> None:
    # Logits are compared to the last bit, which another torch may compute differently.
    assert timm.versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]


def test_mmpretrain_refuses_a_file_that_was_not_converted(made: Made, mmpretrain: PeerProcess, ask: Ask) -> None:
    with pytest.raises(PeerRefusedError, match="unexpected key in source state_dict"):
        ask(mmpretrain, VARIANT, made.files["zip"])


def test_timm_refuses_a_file_that_was_converted_to_mm(
    made: Made, timm: PeerProcess, convert: Convert, ask: Ask
) -> None:
    with pytest.raises(PeerRefusedError, match="Missing key"):
        ask(timm, VARIANT, convert(made.files["zip"], "mm"))


def test_a_swapped_pair_shows_in_the_logits(made: Made, timm: PeerProcess, ask: Ask, tmp_path: Path) -> None:
    state = load_file(made.files["safetensors"])
    pair = ("layer3.4.bns.1.weight", "layer3.4.bns.2.weight")
    state[pair[0]], state[pair[1]] = state[pair[1]], state[pair[0]]
    save_file(state, tmp_path / "swapped.safetensors")
    assert difference(ask(timm, VARIANT, tmp_path / "swapped.safetensors"), made.logits) > 1e-3


def test_paddle_refuses_a_file_of_its_classifier_alone(paddle: PeerProcess, ask: Ask, tmp_path: Path) -> None:
    with (tmp_path / "bare.pdparams").open("wb") as file:
        pickle.dump({"out.bias": np.zeros(1000, np.float32)}, file, protocol=2)
    with pytest.raises(PeerRefusedError, match="missing"):
        ask(paddle, "res2net200_vd_w26_s4", tmp_path / "bare.pdparams")
