"""Files that timm made, converted: mmpretrain and timm itself read the results, and compute timm's logits exactly.

Equal to the last bit, because all three implementations do the same arithmetic in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from r2convert import load_model
from r2convert.models.blocks import FeatureExtractor
from tests.peers.conftest import Ask, Convert, Images, OwnLogits
from tests.peers.logits import difference, read_logits
from tests.peers.made import Made, made_by
from tests.peers.mmpretrain_peer import CONFIGURATIONS
from tests.peers.peer_process import PeerProcess
from tests.peers.timm_peer import NAMES

STAGED = [variant for variant in NAMES if "_dla" not in variant]
CONTAINERS = {"legacy": ".pth", "zip": ".pth", "safetensors": ".safetensors"}


@pytest.fixture(scope="module", params=STAGED)
def made(request: pytest.FixtureRequest, timm: PeerProcess, images: Images) -> Iterator[Made]:
    with made_by(timm, request.param, CONTAINERS, images(request.param)) as result:
        yield result


def test_our_network_computes_timms_logits(made: Made, own_logits: OwnLogits) -> None:
    assert difference(own_logits(made.variant, made.files["legacy"]), made.logits) == 0.0


@pytest.mark.parametrize("made", CONFIGURATIONS, indirect=True)
@pytest.mark.parametrize("container", ["legacy", "zip"])
def test_mmpretrain_reads_it_as_mm(
    made: Made, mmpretrain: PeerProcess, convert: Convert, ask: Ask, container: str
) -> None:
    converted = convert(made.files[container], "mm")
    assert difference(ask(mmpretrain, made.variant, converted), made.logits) == 0.0


def test_timm_reads_it_back_from_mm(
    made: Made, timm: PeerProcess, convert: Convert, ask: Ask, own_logits: OwnLogits
) -> None:
    converted = convert(made.files["safetensors"], "mm")
    assert difference(own_logits(made.variant, converted), made.logits) == 0.0
    back = convert(converted, "timm", ".safetensors")
    assert difference(ask(timm, made.variant, back), made.logits) == 0.0


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("made", ["res2net50_w14_s8", "res2net50_v1b_w26_s4"], indirect=True)
def test_our_stages_are_those_of_timm_and_mmpretrain(
    made: Made, timm: PeerProcess, mmpretrain: PeerProcess, convert: Convert, images: Images, tmp_path: Path
) -> None:
    features = load_model(made.files["zip"], variant=made.variant, features_only=True).double()
    assert isinstance(features, FeatureExtractor)
    with np.load(images(made.variant)) as batches, torch.inference_mode():
        own = {
            f"{size}, stage {number}": output.numpy()
            for size in batches.files
            for number, output in enumerate(features(torch.from_numpy(batches[size])), 1)
        }
    for peer, file in ((timm, made.files["zip"]), (mmpretrain, convert(made.files["zip"], "mm"))):
        peer.read_stages(made.variant, file, images(made.variant), tmp_path / f"{peer.name}.npz")
        assert difference(own, read_logits(tmp_path / f"{peer.name}.npz")) == 0.0
    channels = [own[f"224x224, stage {number}"].shape[1] for number in range(1, 5)]
    assert tuple(channels) == features.channels


def test_timm_reads_it_as_official(made: Made, timm: PeerProcess, convert: Convert, ask: Ask) -> None:
    converted = convert(made.files["zip"], "official")
    assert difference(ask(timm, made.variant, converted), made.logits) == 0.0


@pytest.mark.parametrize("made", list(CONFIGURATIONS)[:1], indirect=True)
def test_an_old_file_without_batch_counters_is_filled(
    made: Made, mmpretrain: PeerProcess, convert: Convert, ask: Ask, tmp_path: Path
) -> None:
    state = torch.load(made.files["legacy"], weights_only=True)
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    converted = convert(tmp_path / "old.pth", "mm")
    assert difference(ask(mmpretrain, made.variant, converted), made.logits) == 0.0
