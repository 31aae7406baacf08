"""Files written by torch are read bit for bit as torch reads them."""

from __future__ import annotations

import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from r2convert.checkpoint.open import open_checkpoint
from r2convert.checkpoint.pickles.pickle_output import text
from r2convert.selftest.specimens import SOUND, sound_state_dict, tar, torch_hub_zip, torch_tar_members, torch_zip
from tests.checkpoint.contents import read_plain, torch_plain

SERIALISATIONS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])

TYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def awkward_tensors() -> dict[str, torch.Tensor]:
    """Tensors of every type and of every way to lie in a storage."""
    torch.manual_seed(0)
    base = torch.randn(4, 6, 5)
    tensors = {f"type.{index}": (torch.randn(3, 5) * 10).to(kind) for index, kind in enumerate(TYPES)}
    return tensors | {
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "whole": base,
        "view": base[1:3],
        "middle": base[:, 2:4, 1:],
        "stepped": base[::2, ::3],
        "transposed": torch.randn(7, 3).t(),
        "permuted": base.permute(2, 0, 1),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "expanded": torch.ones(1).expand(9),
        "diagonal": torch.randn(6, 6).diagonal(),
    }


def save(value: object, path: Path, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@SERIALISATIONS
def test_every_type_and_every_kind_of_view(tmp_path: Path, zipped: bool) -> None:
    path = save(awkward_tensors(), tmp_path / "a.pth", zipped)
    assert read_plain(path) == torch_plain(torch.load(path, weights_only=True))


@SERIALISATIONS
def test_arrays_are_the_tensors(tmp_path: Path, zipped: bool) -> None:
    tensors = {name: tensor for name, tensor in awkward_tensors().items() if tensor.dtype != torch.bfloat16}
    with open_checkpoint(save(tensors, tmp_path / "a.pth", zipped)) as checkpoint:
        for name, tensor in tensors.items():
            array = checkpoint.array(checkpoint.tensors[name])
            assert array.dtype == tensor.numpy().dtype
            np.testing.assert_array_equal(array, tensor.numpy())


@SERIALISATIONS
def test_a_module_with_parameters_and_buffers(tmp_path: Path, zipped: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2))
    path = save(module.state_dict(), tmp_path / "a.pth", zipped)
    assert read_plain(path) == torch_plain(module.state_dict())
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.container == ("torch-zip" if zipped else "torch-legacy")
        assert checkpoint.wrapper is None
        assert checkpoint.warnings == ()


@SERIALISATIONS
def test_parameters_instead_of_tensors(tmp_path: Path, zipped: bool) -> None:
    parameters = OrderedDict(weight=nn.Parameter(torch.randn(3, 4)), bias=nn.Parameter(torch.randn(3), False))
    assert read_plain(save(parameters, tmp_path / "a.pth", zipped)) == torch_plain(dict(parameters))


def test_records_without_checksums_are_read_with_a_warning(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save({"weight": torch.ones(3)}, tmp_path / "a.pth", zipped=True)
    finally:
        torch.serialization.set_crc32_options(True)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.array(checkpoint.tensors["weight"]).tolist() == [1, 1, 1]
        assert any("no checksum" in warning for warning in checkpoint.warnings)


def test_the_record_set_of_older_torch(tmp_path: Path) -> None:
    new = save({"weight": torch.randn(3, 4)}, tmp_path / "new.pth", zipped=True)
    old = tmp_path / "old.pth"
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for record in source.infolist():
            name = record.filename.partition("/")[2]
            if not name.startswith(".") and name != "byteorder":
                target.writestr(f"archive/{name}", source.read(record))
    assert read_plain(old) == read_plain(new) == torch_plain(torch.load(old, weights_only=True))


def test_64_bit_sizes(tmp_path: Path) -> None:
    new = save({"weight": torch.randn(3, 4)}, tmp_path / "new.pth", zipped=True)
    wide = tmp_path / "wide.pth"
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(wide, "w") as target:
        for record in source.infolist():
            with target.open(record.filename, "w", force_zip64=True) as output:
                output.write(source.read(record))
    assert read_plain(wide) == read_plain(new)


def test_torch_reads_the_same_from_a_tar(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(tar(torch_tar_members()))
    theirs = torch.load(path, weights_only=False)
    assert read_plain(path) == torch_plain(theirs)


def test_a_tar_with_extended_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for name, payload in torch_tar_members().items():
        (tmp_path / name).write_bytes(payload)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name in torch_tar_members():
            archive.add(tmp_path / name, name)  # times with fractions need an extended header
    assert b"mtime=" in path.read_bytes()
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.container == "torch-tar"
        assert checkpoint.array(checkpoint.tensors["conv.weight"]).sum() == sum(range(12))


def test_a_torch_hub_zip(tmp_path: Path) -> None:
    inner, outer = save(awkward_tensors(), tmp_path / "inner.pth", zipped=False), tmp_path / "outer.pth"
    outer.write_bytes(torch_hub_zip(inner.read_bytes()))
    assert read_plain(outer) == read_plain(inner)
    with open_checkpoint(outer) as checkpoint:
        assert checkpoint.container == "torch-hub-zip"


@SERIALISATIONS
def test_views_share_their_storage_with_views_of_views(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0)
    tied = {"a": base, "b": base, "c": base[6:12].reshape(2, 3).t()}
    path = save(tied, tmp_path / "a.pth", zipped)
    assert read_plain(path) == torch_plain(tied)
    with open_checkpoint(path) as checkpoint:
        assert len({tensor.storage for tensor in checkpoint.tensors.values()}) == 1


def test_records_that_torch_does_not_write_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(torch_zip(more=[("notes/readme", b"hello")]))
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == ["conv.weight", "bn.num_batches_tracked"]
        assert checkpoint.warnings == ("left out 1 record that torch does not write: 'notes/readme'",)


def test_numbers_as_storage_keys(tmp_path: Path) -> None:
    """Jittor's imitation of torch's files has numbers where torch has texts."""
    path = tmp_path / "a.pth"
    path.write_bytes(torch_zip(sound_state_dict().replace(text("0"), b"K\x00").replace(text("1"), b"K\x01")))
    assert read_plain(path) == SOUND
