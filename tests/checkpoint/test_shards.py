"""Checkpoints split over several files are read through their index, as Hugging Face's libraries write them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import CorruptCheckpointError, UnsafeCheckpointError
from tests.checkpoint.contents import read_plain, torch_plain

TENSORS = {"conv1.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "bn1.bias": torch.ones(2), "fc.bias": torch.zeros(5)}
PLACED = {"conv1.weight": "model-00001-of-00002", "bn1.bias": "model-00001-of-00002", "fc.bias": "model-00002-of-00002"}


def write_shards(folder: Path, suffix: str = ".safetensors") -> Path:
    """Write the tensors into two shards and an index; return the index."""
    for shard in set(PLACED.values()):
        tensors = {name: TENSORS[name] for name, place in PLACED.items() if place == shard}
        if suffix == ".safetensors":
            save_file(tensors, folder / f"{shard}{suffix}", metadata={"format": "pt"})
        else:
            torch.save(tensors, folder / f"{shard}{suffix}")
    index = folder / f"model{suffix}.index.json"
    placed = {name: f"{shard}{suffix}" for name, shard in PLACED.items()}
    index.write_text(json.dumps({"metadata": {"total_size": 124}, "weight_map": placed}))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_all_shards_are_read(tmp_path: Path, suffix: str) -> None:
    index = write_shards(tmp_path, suffix)
    assert read_plain(index) == torch_plain(TENSORS)
    with open_checkpoint(index) as checkpoint:
        assert checkpoint.container == ("safetensors" if suffix == ".safetensors" else "torch-zip")
        assert checkpoint.metadata["total_size"] == 124
        assert checkpoint.size == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_the_folder_stands_for_its_index(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.path == index
        assert checkpoint.tensors.keys() == TENSORS.keys()


def test_the_digest_is_of_what_sha256sum_prints(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(tmp_path.iterdir())]
    lines.sort(key=lambda line: not line.endswith(".json\n"))  # the index comes first
    with open_checkpoint(index) as checkpoint:
        assert checkpoint.sha256() == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_damage_in_a_shard_is_noticed(tmp_path: Path) -> None:
    index = write_shards(tmp_path, ".bin")
    shard = tmp_path / "model-00002-of-00002.bin"
    data = shard.read_bytes()
    at = data.index(bytes(20))
    shard.write_bytes(data[:at] + b"\x01" + data[at + 1 :])
    with pytest.raises(CorruptCheckpointError):
        read_plain(index)


def test_shards_of_two_versions_are_refused(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    save_file({"fc.weight": torch.ones(3)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(CorruptCheckpointError, match="1 are missing, 1 are not in the index"):
        open_checkpoint(index)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "\x1b[2J"])
def test_an_index_cannot_reach_elsewhere(tmp_path: Path, name: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv1.weight": name}}))
    with pytest.raises(UnsafeCheckpointError, match="in another place"):
        open_checkpoint(index)
