"""Checkpoints split over several files are read through their index, as Hugging Face's libraries write them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import CorruptCheckpointError, LimitExceededError, UnsafeCheckpointError
from r2convert.selftest.specimens import dictionary, pickled, storage_id, tensor, torch_zip
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


def write_costly_zips(folder: Path, shards: int) -> dict[str, str]:
    """Write torch zips that each hold a tensor and a list of 30,000 values; return what an index says of them."""
    placed: dict[str, str] = {}
    for number in range(shards):
        values = b"](" + b"N" * 30_000 + b"e"
        held = {f"conv{number}.weight": tensor(storage_id("0", 12)), f"notes{number}": values}
        name = f"model-{number}.bin"
        (folder / name).write_bytes(torch_zip(pickled(dictionary(list(held.items())))))
        placed |= dict.fromkeys(held, name)
    return placed


def write_costly_headers(folder: Path, shards: int) -> dict[str, str]:
    """Write safetensors files whose headers carry a text of a megabyte; return what an index says of them."""
    placed: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number}.safetensors"
        save_file({f"bn{number}.bias": torch.ones(2)}, folder / name, metadata={"notes": "x" * 1_000_000})
        placed[f"bn{number}.bias"] = name
    return placed


@pytest.mark.parametrize("write", [write_costly_zips, write_costly_headers])
def test_all_shards_share_one_budget_of_work(tmp_path: Path, write: Callable[[Path, int], dict[str, str]]) -> None:
    placed = write(tmp_path, 60)
    index = tmp_path / "model.json"
    few = {name: shard for name, shard in placed.items() if shard.partition(".")[0] in ("model-0", "model-1")}
    index.write_text(json.dumps({"weight_map": few}))
    with open_checkpoint(index) as checkpoint:
        assert len(checkpoint.tensors) == 2
    index.write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(LimitExceededError, match="far more work to read than its tensors need"):
        open_checkpoint(index)
