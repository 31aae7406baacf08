"""The judges, the real command line, and our reference network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2convert.checkpoint.open import open_checkpoint
from r2convert.mapping.evidence import recognise
from r2convert.mapping.tables import Tables
from tests.peers.logits import DLA_SIZES, SIZES, Logits, read_logits, write_images
from tests.peers.peer_process import ROOT, PeerProcess

Images = Callable[[str], Path]
Convert = Callable[..., Path]
Ask = Callable[[PeerProcess, str, Path], Logits]
OwnLogits = Callable[[str, Path], Logits]


def interpreter(variable: str, environment: str) -> Path:
    """The Python that holds a peer; a missing one is a failure, never a reason to skip."""
    path = Path(os.environ.get(variable, ROOT / environment / "bin" / "python"))
    if not path.exists():
        pytest.fail(f"no peers at {path}: `make test-peers` installs them, or {variable} names another Python")
    return path


@pytest.fixture(scope="session")
def timm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerProcess]:
    """timm, for the eleven PyTorch variants."""
    python = interpreter("R2CONVERT_PEERS_PYTHON", ".venv-peers")
    with PeerProcess(python, "tests.peers.timm_peer", tmp_path_factory.mktemp("timm") / "log") as peer:
        yield peer


@pytest.fixture(scope="session")
def mmpretrain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerProcess]:
    """mmpretrain, for Res2Net v1 and v1b."""
    python = interpreter("R2CONVERT_PEERS_PYTHON", ".venv-peers")
    with PeerProcess(python, "tests.peers.mmpretrain_peer", tmp_path_factory.mktemp("mmpretrain") / "log") as peer:
        yield peer


@pytest.fixture(scope="session")
def mmdet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerProcess]:
    """mmdetection's backbone, for v1b's names."""
    python = interpreter("R2CONVERT_PEERS_PYTHON", ".venv-peers")
    with PeerProcess(python, "tests.peers.mmdet_peer", tmp_path_factory.mktemp("mmdet") / "log") as peer:
        yield peer


@pytest.fixture(scope="session")
def holocron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerProcess]:
    """Holocron, for its own names."""
    python = interpreter("R2CONVERT_PEERS_PYTHON", ".venv-peers")
    with PeerProcess(python, "tests.peers.holocron_peer", tmp_path_factory.mktemp("holocron") / "log") as peer:
        yield peer


@pytest.fixture(scope="session")
def paddle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerProcess]:
    """PaddleClas, for its own networks."""
    python = interpreter("R2CONVERT_PADDLE_PYTHON", ".venv-paddle")
    with PeerProcess(python, "tests.peers.paddle_peer", tmp_path_factory.mktemp("paddle") / "log") as peer:
        yield peer


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The images a variant is compared on."""
    folder = tmp_path_factory.mktemp("images")
    staged = write_images(folder / "staged.npz", SIZES)
    dla = write_images(folder / "dla.npz", DLA_SIZES)
    return lambda variant: dla if "_dla" in variant else staged


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """Convert with the real command line, in a process of its own, and return the output."""

    def call(source: Path, target: str, suffix: str = ".pth", options: Sequence[str] = ()) -> Path:
        output = tmp_path / f"{source.stem}-{target}{suffix}"
        program: list[str | Path] = [sys.executable, "-m", "r2convert", "map"]
        arguments: list[str | Path] = ["--src", source, "--dst", output, "--to", target, "--json", *options]
        done = subprocess.run(
            [*program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["to"] == target
        return output

    return call


@pytest.fixture
def ask(images: Images, tmp_path: Path) -> Ask:
    """The logits of a peer that loads a file strictly."""

    def call(peer: PeerProcess, variant: str, path: Path) -> Logits:
        logits = tmp_path / f"{path.stem}-{peer.name}-logits.npz"
        peer.read(variant, path, images(variant), logits)
        return read_logits(logits)

    return call


@pytest.fixture
def own_logits(tables: Tables, images: Images, one_thread: None) -> OwnLogits:
    """The float64 logits of our reference network, which has to tell by itself what the file is."""
    from r2convert.models.build import load_network

    def call(variant: str, path: Path) -> Logits:
        with open_checkpoint(path) as checkpoint:
            resolution = recognise(tables, checkpoint)
            assert resolution.identity.variant.id == variant
            network = load_network(checkpoint, resolution).double()
        with np.load(images(variant)) as batches, torch.inference_mode():
            return {size: network(torch.from_numpy(batches[size])).numpy() for size in batches.files}

    return call


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the peers compute: see :class:`~tests.peers.peer_process.PeerProcess`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
