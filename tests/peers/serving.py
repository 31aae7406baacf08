"""The peers' side of the conversation: requests as JSON lines on standard input, answers on standard output.

Runs in the peers' own interpreters; :mod:`tests.peers.peer_process` is the other side.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Protocol


class Peer(Protocol):
    """An implementation of the networks that is not ours."""

    def versions(self) -> dict[str, str]:
        """Package -> its installed version."""

    def make(self, variant: str, files: Mapping[str, str], images: str, logits: str) -> None:
        """Draw a network and save it.

        Args:
            variant: which network, by the catalogue's name.
            files: container -> where to save the network in it.
            images: an ``.npz`` of float64 images (N, 3, H, W), one entry a size.
            logits: where to write the network's float64 logits (N, 1000), under the same names.
        """

    def read(self, variant: str, path: str, images: str, logits: str) -> None:
        """Load a file strictly into the peer's own network and write its logits; raises if it does not fit."""


def serve(peer: Peer) -> None:
    """Answer requests until standard input ends; the versions go out first, unasked.

    Libraries print to standard output too, so it is kept for the answers and theirs goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    actions: dict[str, Callable[..., None]] = {"make": peer.make, "read": peer.read}
    print(json.dumps({"versions": peer.versions()}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        action = actions[request.pop("action")]
        try:
            action(**request)
        except Exception as error:  # whatever a peer says about a file is an answer
            answer = {"refused": f"{type(error).__name__}: {error}"}
        else:
            answer = {}
        print(json.dumps(answer), file=answers, flush=True)
