"""Files that Holocron made, and files converted to its names: three networks of its options, the same logits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.conftest import Ask, Convert, Images, OwnLogits
from tests.peers.holocron_peer import OPTIONS
from tests.peers.logits import difference
from tests.peers.made import Made, made_by
from tests.peers.peer_process import PeerProcess


@pytest.fixture(scope="module", params=OPTIONS)
def made(request: pytest.FixtureRequest, holocron: PeerProcess, images: Images) -> Iterator[Made]:
    with made_by(holocron, request.param, {"zip": ".pth"}, images(request.param)) as result:
        yield result


@pytest.mark.parametrize("made", ["res2net50_v1c_w26_s4"], indirect=True)
def test_mmpretrain_reads_a_deep_stem_with_strided_shortcuts(
    made: Made, mmpretrain: PeerProcess, convert: Convert, ask: Ask
) -> None:
    assert difference(ask(mmpretrain, made.variant, convert(made.files["zip"], "mm")), made.logits) == 0.0


def test_holocron_reads_back_what_was_converted_and_computes_as_our_network(
    made: Made, holocron: PeerProcess, convert: Convert, ask: Ask, own_logits: OwnLogits
) -> None:
    assert difference(own_logits(made.variant, made.files["zip"]), made.logits) == 0.0
    back = convert(convert(made.files["zip"], "mm"), "holocron")
    assert difference(ask(holocron, made.variant, back), made.logits) == 0.0
