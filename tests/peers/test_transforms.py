"""Images become to the last bit what timm's and torchvision's own transforms make of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from r2convert.catalog.protocol import Protocol, ProtocolOptions
from r2convert.checks.standins import synthetic_image
from r2convert.evaluation.backends import normalise
from r2convert.imagenet.device_resize import SourceReader, resample
from r2convert.imagenet.preprocessing import crop_function, pixel_function
from tests.peers.conftest import interpreter
from tests.peers.image_transforms import TIMM, TORCHVISION
from tests.peers.peer_process import ROOT

COUNT = 16
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)

PROTOCOLS = {
    **{
        f"timm-{size}-{share}-{interpolation}": ProtocolOptions(
            image_size=size,
            crop_pct=share,
            interpolation=interpolation,  # type: ignore[arg-type]
            mean=MEAN,
            std=STD,
        ).applied_to(Protocol())
        for size, share, interpolation in TIMM
    },
    **{
        f"torchvision-{resized}-{size}-{interpolation}": Protocol(resized, size, interpolation)  # type: ignore[arg-type]
        for resized, size, interpolation in TORCHVISION
    },
}


@pytest.fixture(scope="module")
def peers_tensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with JPEGs of every kind and what the peers make of them."""
    folder = tmp_path_factory.mktemp("transforms")
    files = [folder / f"{number}.jpg" for number in range(COUNT)]
    for number, file in enumerate(files):
        file.write_bytes(synthetic_image(number))
    python = interpreter("R2CONVERT_PEERS_PYTHON", ".venv-peers")
    command = [str(each) for each in (python, "-m", "tests.peers.image_transforms", folder, *files)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return folder


@pytest.mark.parametrize("name", PROTOCOLS)
def test_tensors_are_those_of_the_peers(peers_tensors: Path, name: str) -> None:
    protocol = PROTOCOLS[name]
    crop, decode, reader = crop_function(protocol), pixel_function(), SourceReader(protocol)
    for number in range(COUNT):
        data = (peers_tensors / f"{number}.jpg").read_bytes()
        expected = np.load(peers_tensors / f"{number}-{name}.npy")
        assert np.array_equal(normalise(torch.from_numpy(crop(data).copy())[None], protocol)[0].numpy(), expected)
        # And resized as a device does it.
        source = np.zeros((1, reader.side, reader.side, 3), np.uint8)
        geometry = reader.put(decode(data), source[0])
        crops = resample(torch.from_numpy(source), [geometry], protocol.crop)
        assert np.array_equal(normalise(crops, protocol)[0].numpy(), expected)
