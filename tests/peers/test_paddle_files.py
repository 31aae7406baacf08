"""PaddleClas' networks: files that Paddle saved, converted, and read back by Paddle.

Paddle holds BatchNorm's epsilon as the float32 next to 1e-5, even where it computes in float64. Over 200 layers that
moves the logits by some 2e-9; with the same epsilon they are within 1e-11. A wrong pool or block moves them by 2 %.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.conftest import Ask, Convert, Images, OwnLogits
from tests.peers.logits import difference
from tests.peers.made import Made, made_by
from tests.peers.paddle_peer import NETWORKS
from tests.peers.peer_process import PeerProcess

CONTAINERS = {"pdparams": ".pdparams", "static": ".tar"}
EPSILON_OF_PADDLE = 1e-8


@pytest.fixture(scope="module", params=NETWORKS)
def made(request: pytest.FixtureRequest, paddle: PeerProcess, images: Images) -> Iterator[Made]:
    with made_by(paddle, request.param, CONTAINERS, images(request.param)) as result:
        yield result


@pytest.mark.parametrize("container", CONTAINERS)
def test_converted_to_mm_it_gives_paddles_logits(
    made: Made, convert: Convert, own_logits: OwnLogits, container: str
) -> None:
    converted = convert(made.files[container], "mm")
    assert difference(own_logits(made.variant, converted), made.logits) <= EPSILON_OF_PADDLE


@pytest.mark.parametrize("container", CONTAINERS)
def test_paddle_reads_it_back_from_mm(
    made: Made, paddle: PeerProcess, convert: Convert, ask: Ask, container: str
) -> None:
    back = convert(convert(made.files[container], "mm"), "paddle", ".pdparams")
    assert difference(ask(paddle, made.variant, back), made.logits) == 0.0
