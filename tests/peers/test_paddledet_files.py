"""PaddleDetection's own backbones: a deep stem with a strided shortcut, and PaddleClas' v1 under other names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from r2convert.checkpoint.open import open_checkpoint
from r2convert.mapping.evidence import recognise
from r2convert.mapping.tables import Tables
from tests.peers.conftest import Ask, Convert, Images
from tests.peers.features import features
from tests.peers.logits import difference
from tests.peers.made import Made, made_by
from tests.peers.paddle_peer import BACKBONES
from tests.peers.peer_process import PeerProcess

EPSILON_OF_PADDLE = 1e-8


@pytest.fixture(scope="module", params=BACKBONES)
def made(request: pytest.FixtureRequest, paddle: PeerProcess, images: Images) -> Iterator[Made]:
    with made_by(paddle, request.param, {"pdparams": ".pdparams"}, images(request.param)) as result:
        yield result


def test_paddledetection_reads_back_what_was_converted_and_computes_as_our_network(
    tables: Tables, made: Made, paddle: PeerProcess, convert: Convert, ask: Ask, images: Images, one_thread: None
) -> None:
    variant = made.variant.rpartition(" ")[2]
    with open_checkpoint(made.files["pdparams"]) as checkpoint:
        identity = recognise(tables, checkpoint).identity
    assert (identity.variant.id, identity.layout) == (variant, "paddledet")
    mm = convert(made.files["pdparams"], "mm", options=["--backbone-only"])
    assert difference(features(tables, variant, mm, images(variant)), made.logits) <= EPSILON_OF_PADDLE
    back = convert(mm, "paddledet", ".pdparams", ["--backbone-only"])
    assert difference(ask(paddle, made.variant, back), made.logits) == 0.0
