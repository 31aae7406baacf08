"""Our side of the conversation with a peer: a process of the peer's own interpreter."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 300.0  # seconds for one answer; the slowest takes a few


class PeerRefusedError(Exception):
    """The peer could not do what it was asked: usually, a file that does not fit its network."""


class PeerProcess:
    """A peer that stays up, since importing its packages takes longer than most answers.

    It computes on one thread: sums are then always added in one order, and threads that wait for each other on
    busy cores make it ten times slower.

    Args:
        interpreter: the Python of the environment that holds the peer.
        module: the module of this folder that serves it.
        log: where its standard error goes.
    """

    def __init__(self, interpreter: Path, module: str, log: Path) -> None:
        self.name = module.rpartition(".")[2]
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [interpreter, "-m", module],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.versions: dict[str, str] = self._answer()["versions"]

    def make(self, variant: str, files: dict[str, Path], images: Path, logits: Path) -> None:
        """Have the peer draw a network, save it in every container, and write its logits."""
        named = {container: str(path) for container, path in files.items()}
        self._ask(action="make", variant=variant, files=named, images=str(images), logits=str(logits))

    def read(self, variant: str, path: Path, images: Path, logits: Path) -> None:
        """Have the peer load a file strictly, and write its logits.

        Raises:
            PeerRefusedError: the file does not fit the peer's network.
        """
        self._ask(action="read", variant=variant, path=str(path), images=str(images), logits=str(logits))

    def read_stages(self, variant: str, path: Path, images: Path, outputs: Path) -> None:
        """Have a peer on PyTorch load a file strictly, and write the outputs of its stages."""
        request = {"variant": variant, "path": str(path), "images": str(images), "logits": str(outputs)}
        self._ask(action="read", stages=True, **request)

    def _ask(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        if "refused" in answer:
            raise PeerRefusedError(answer["refused"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        watchdog = Timer(PATIENCE, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise AssertionError(f"{self.name} died:\n{self.log.read_text()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self.process:  # closes both pipes, which ends the peer's loop, and waits
            pass
