"""Real files by real programs: read with exactly the tensors that the program itself saw, or refused in true words.

`scripts/make_corpus.py` makes the files and notes beside them what each program wrote.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import UnsupportedCheckpointError

CORPUS = Path(__file__).parent

REFUSED = {
    "scripted.pt": "a TorchScript program",
    "inference.pdmodel": "the program of a Paddle inference model",
    "inference.json": "the program of a Paddle inference model",
    "inference.pdiparams": "the combined parameters of a Paddle inference model",
    "model.onnx": "an ONNX model",
    "model.h5": "an HDF5 file",
    "arrays.npz": "a NumPy archive",
    "compressed.npz": "a NumPy archive",
    "array.npy": "a single NumPy array",
    "flax.msgpack": "a msgpack file, as Flax writes them",
}
"""By the file's name: what the reader says of it."""


def notes() -> dict[str, dict[str, Any]]:
    """What was written, by path below the corpus; behind ``#``, the key it lies under."""
    found = {}
    for path in sorted(CORPUS.glob("*/written.json")):
        for name, note in json.loads(path.read_text()).items():
            found[f"{path.parent.name}/{name}"] = note
    return found


UNREAD = {"unread_kind.pth": {"z": "complex64"}, "unread_kinds.safetensors": {"f8": "float8_e4m3fn", "u16": "uint16"}}
"""By the file's name: tensors of kinds that are described and not read."""

NOTES = notes()
READ = [name for name in NOTES if Path(name).name not in REFUSED]


@pytest.mark.parametrize("name", READ)
def test_it_is_read_with_the_tensors_the_program_saw(name: str) -> None:
    path, _, key = name.partition("#")
    with open_checkpoint(CORPUS / path, key=key or None) as checkpoint:
        checkpoint.verify_records()
        found = {
            tensor.name: [
                tensor.dtype.value,
                list(tensor.shape),
                hashlib.sha256(b"".join(map(bytes, checkpoint.chunks(tensor)))).hexdigest(),
            ]
            for tensor in checkpoint.tensors.values()
        }
        unread = {name: tensor.kind for name, tensor in checkpoint.unread.items()}
    assert found == NOTES[name]["tensors"], NOTES[name]["by"]
    assert unread == UNREAD.get(Path(path).name, {})


@pytest.mark.parametrize("name", [name for name in NOTES if Path(name).name in REFUSED])
def test_it_is_refused_and_named(name: str) -> None:
    with pytest.raises(UnsupportedCheckpointError) as caught, open_checkpoint(CORPUS / name):
        pass
    assert REFUSED[Path(name).name] in str(caught.value)
    assert "again" not in str(caught.value)


def test_every_file_is_spoken_of_and_small() -> None:
    files = [path for path in CORPUS.glob("*/**/*") if path.is_file() and "__pycache__" not in path.parts]
    spoken_of = {CORPUS / name.partition("#")[0] for name in NOTES}
    shards = {path for path in files if path.parent.name.endswith(("shards", "variables"))}
    shards |= {CORPUS / name for name in NOTES if (CORPUS / name).is_dir()}
    assert {path for path in files if path.name != "written.json"} - shards == spoken_of - shards
    assert sum(path.stat().st_size for path in files) < 2_000_000
