"""mmdetection's own backbone: it reads what is converted to its layout, and ours computes its features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from r2convert.checkpoint.open import open_checkpoint
from r2convert.mapping.evidence import recognise
from r2convert.mapping.tables import Tables
from tests.conftest import Standin
from tests.peers.conftest import Ask, Convert, Images
from tests.peers.features import features
from tests.peers.logits import difference
from tests.peers.made import Made, made_by
from tests.peers.peer_process import PeerProcess, PeerRefusedError

VARIANT = "res2net50_mmdet_w26_s4"


@pytest.fixture(scope="module")
def made(mmdet: PeerProcess, images: Images) -> Iterator[Made]:
    with made_by(mmdet, VARIANT, {"zip": ".pth"}, images(VARIANT)) as result:
        yield result


def test_a_file_that_mmdetection_trained_is_its_own_architecture(tables: Tables, made: Made) -> None:
    with open_checkpoint(made.files["zip"]) as checkpoint:
        identity = recognise(tables, checkpoint).identity
    assert (identity.variant.id, identity.layout, identity.proven) == (VARIANT, "mmdet", True)
    assert identity.evidence == f"{VARIANT}, by its metadata: mmdet_version"


def test_our_network_computes_mmdetections_features(
    tables: Tables, made: Made, convert: Convert, images: Images, one_thread: None
) -> None:
    mm = convert(made.files["zip"], "mm", options=["--backbone-only"])
    assert difference(features(tables, VARIANT, mm, images(VARIANT)), made.logits) == 0.0


def test_a_v1b_file_becomes_one_that_mmdetection_reads_and_computes_without_the_pool(
    tables: Tables, standin: Standin, mmdet: PeerProcess, convert: Convert, ask: Ask, images: Images, one_thread: None
) -> None:
    source = standin("res2net50_v1b_w26_s4")
    read = ask(mmdet, VARIANT, convert(source, "mmdet"))
    mm = convert(source, "mm")
    assert difference(features(tables, VARIANT, mm, images(VARIANT)), read) == 0.0
    # The authors' network pools in layer1.0: this is what map warns of.
    assert difference(features(tables, "res2net50_v1b_w26_s4", mm, images(VARIANT)), read) > 1e-3


def test_mmdetection_itself_refuses_what_map_refuses_to_write(
    standin: Standin, mmdet: PeerProcess, images: Images, tmp_path: Path
) -> None:
    state = torch.load(standin("res2net50_w26_s4"), weights_only=True)
    backbone = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    torch.save(backbone, tmp_path / "v1.pth")
    with pytest.raises(PeerRefusedError, match=r"stem\.0\.weight"):
        mmdet.read(VARIANT, tmp_path / "v1.pth", images(VARIANT), tmp_path / "logits.npz")
