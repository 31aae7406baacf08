"""A network that a peer drew, in the files the peer saved it to, with the peer's logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.peers.logits import Logits, read_logits
from tests.peers.peer_process import PeerProcess


@dataclass(frozen=True)
class Made:
    """What a peer made.

    Args:
        variant: which network.
        files: container -> the network saved in it.
        logits: the logits of the network that was saved.
    """

    variant: str
    files: dict[str, Path]
    logits: Logits


@contextmanager
def made_by(peer: PeerProcess, variant: str, suffixes: dict[str, str], images: Path) -> Iterator[Made]:
    """Have a peer make its network; the files are gone afterwards, for they are large.

    Args:
        peer: who makes it.
        variant: which network.
        suffixes: container -> what its file's name ends with.
        images: the images for the logits.
    """
    with TemporaryDirectory(prefix="r2convert-peers-") as folder:
        files = {container: Path(folder, container + suffix) for container, suffix in suffixes.items()}
        logits = Path(folder, "logits.npz")
        peer.make(variant, files, images, logits)
        yield Made(variant, files, read_logits(logits))
