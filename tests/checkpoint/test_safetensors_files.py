"""Files written by the safetensors library are read as it reads them, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from r2convert.checkpoint.open import open_checkpoint
from r2convert.checkpoint.writing import write_checkpoint
from tests.checkpoint.contents import in_memory, read_plain, torch_plain
from tests.checkpoint.test_torch_files import awkward_tensors


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous().clone() for name, tensor in awkward_tensors().items()}


def test_files_of_the_library_are_read_bit_for_bit(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    assert read_plain(path) == torch_plain(load_file(path))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.container == "safetensors"
        assert dict(checkpoint.metadata) == {"format": "pt"}


def test_the_library_reads_what_is_written(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    provenance = json.dumps({"source": "x", "letters": "\u00e4\u6f22"})
    write_checkpoint(path, in_memory(torch_plain(tensors)), metadata={"r2convert": provenance})
    assert torch_plain(load_file(path)) == torch_plain(tensors)
    with safe_open(path, "pt") as theirs:
        assert theirs.metadata() == {"r2convert": provenance}


def test_every_tensor_is_aligned_to_its_element_size(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, in_memory(torch_plain(tensors)))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    for entry in json.loads(data[8 : 8 + length]).values():
        width = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}.get(entry["dtype"], 1)
        assert entry["data_offsets"][0] % width == 0
