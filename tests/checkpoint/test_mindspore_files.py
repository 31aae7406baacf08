"""MindSpore's checkpoints, saved by MindSpore itself, whole, cut off and damaged."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import (
    CheckpointError,
    CorruptCheckpointError,
    TruncatedCheckpointError,
    UnsupportedCheckpointError,
)

DATA = Path(__file__).parent / "data"
PLAIN, KINDS, CHECKED = (DATA / f"mindspore-2.10.0{kind}.ckpt" for kind in ("", "-kinds", "-crc"))


@pytest.mark.parametrize("path", [PLAIN, CHECKED])
def test_tensors_have_the_values_that_were_saved(path: Path) -> None:
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.container == "mindspore"
        weight, gamma = (checkpoint.array(checkpoint.tensors[name]) for name in ("a.weight", "b.gamma"))
    assert np.array_equal(weight, np.arange(6, dtype=np.float32).reshape(2, 3))
    assert np.array_equal(gamma, np.ones(3, np.float16))


def test_what_a_training_script_appends_is_metadata() -> None:
    with open_checkpoint(PLAIN) as checkpoint:
        assert list(checkpoint.tensors) == ["a.weight", "b.gamma"]
        assert dict(checkpoint.metadata) == pytest.approx({"step": 7, "epoch": 3, "lr": 0.1, "note": "x", "flag": True})


def test_element_types() -> None:
    with open_checkpoint(KINDS) as checkpoint:
        kinds = {name: tensor.dtype.value for name, tensor in checkpoint.tensors.items()}
        assert checkpoint.array(checkpoint.tensors["bf"]).tolist() == [0x3F80] * 3
    expected = {"a.weight": "float32", "b.gamma": "float16", "bf": "bfloat16", "i8": "int8", "boo": "bool"}
    assert kinds == expected | {"f64": "float64", "u8": "uint8"}


def test_a_tensor_in_pieces_is_joined(tmp_path: Path) -> None:
    data = PLAIN.read_bytes()
    # The first Value holds 24 bytes of elements from byte 29 on: as MindSpore cuts what is larger than 512 MB.
    head, elements = data[:29], data[29:53]
    piece = head[:1] + bytes([head[1] - 12]) + head[2:13] + bytes([head[13] - 12]) + head[14:28] + bytes([12])
    (tmp_path / "pieces.ckpt").write_bytes(piece + elements[:12] + piece + elements[12:] + data[53:])
    with open_checkpoint(tmp_path / "pieces.ckpt") as checkpoint:
        assert checkpoint.array(checkpoint.tensors["a.weight"]).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    (tmp_path / "lacks.ckpt").write_bytes(piece + elements[:12] + data[53:])
    with pytest.raises(CorruptCheckpointError, match="damaged"), open_checkpoint(tmp_path / "lacks.ckpt"):
        pass


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    data, path = PLAIN.read_bytes(), tmp_path / "cut.ckpt"
    whole = {53, 85, 108, 136, 159, 182}  # between two Values nothing tells
    for length in range(29, len(data)):
        path.write_bytes(data[:length])
        if length not in whole:
            with pytest.raises(TruncatedCheckpointError), open_checkpoint(path):
                pass


def test_a_checksum_that_does_not_match_is_an_error(tmp_path: Path) -> None:
    data, path = CHECKED.read_bytes(), tmp_path / "damaged.ckpt"
    for position in (1, 40, 70):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises((CorruptCheckpointError, UnsupportedCheckpointError)), open_checkpoint(path):
            pass


def test_no_damaged_byte_is_a_bug(tmp_path: Path) -> None:
    data, path = KINDS.read_bytes(), tmp_path / "damaged.ckpt"
    for position in range(len(data)):
        for value in (0, 0x7F, 0xFF, data[position] ^ 8):
            path.write_bytes(data[:position] + bytes([value]) + data[position + 1 :])
            with suppress(CheckpointError), open_checkpoint(path) as checkpoint:
                for tensor in checkpoint.tensors.values():
                    checkpoint.array(tensor)
