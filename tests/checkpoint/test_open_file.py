"""One descriptor, nothing more: swapped and changed files, light imports, little memory, flipped bits."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import CheckpointError, CorruptCheckpointError
from r2convert.selftest.specimens import lod_tensor, safetensors, torch_legacy, torch_zip
from tests.checkpoint.contents import read_plain


def test_a_file_swapped_under_its_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    sound = torch_legacy()
    path.write_bytes(sound)
    with open_checkpoint(path) as checkpoint:
        other = tmp_path / "b.pth"
        other.write_bytes(torch_zip())
        other.replace(path)
        try:
            assert checkpoint.sha256() == hashlib.sha256(sound).hexdigest()
        except CorruptCheckpointError as error:
            assert "changed" in str(error)  # noqa: PT017 - losing its name changes a file's times


def test_a_file_changed_while_open_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(torch_legacy())
    with open_checkpoint(path) as checkpoint:
        data = bytearray(torch_legacy())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(CorruptCheckpointError, match="changed while"):
            checkpoint.sha256()
        with pytest.raises(CorruptCheckpointError, match="changed while"):
            checkpoint.array(checkpoint.tensors["conv.weight"])


def test_other_rights_and_other_names_do_not_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(torch_zip())
    with open_checkpoint(path) as checkpoint:
        path.chmod(0o400)
        (tmp_path / "another name").hardlink_to(path)
        checkpoint.verify_records()


def test_a_file_cut_short_while_open_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors())
    with open_checkpoint(path) as checkpoint:
        os.truncate(path, 100)
        with pytest.raises(CheckpointError):
            checkpoint.array(checkpoint.tensors["conv.weight"])


def test_a_variable_changed_in_an_open_folder_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(lod_tensor())
    with open_checkpoint(tmp_path) as checkpoint:
        (tmp_path / "w").write_bytes(lod_tensor(payload=bytes(48)))
        with pytest.raises(CorruptCheckpointError, match="changed while"):
            checkpoint.array(checkpoint.tensors["w"])


def test_a_folder_may_be_read_by_several_threads(tmp_path: Path) -> None:
    """As it is when it is hashed while its values are looked at; each read of a variable opens it anew."""
    (tmp_path / "w").write_bytes(lod_tensor((1 << 18,), bytes(1 << 20)))
    before = open_descriptors()
    with open_checkpoint(tmp_path) as checkpoint, ThreadPoolExecutor(4) as pool:
        tensor = checkpoint.tensors["w"]
        read = pool.map(lambda _: checkpoint.array(tensor).any(), range(200))
        assert not any(read)
    assert open_descriptors() == before


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_closing_leaves_no_descriptor_open(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    good.write_bytes(torch_zip())
    bad.write_bytes(torch_zip()[:-1])
    before = open_descriptors()
    open_checkpoint(good).close()
    with pytest.raises(CheckpointError):
        open_checkpoint(bad)
    assert open_descriptors() == before


@pytest.mark.parametrize("end", [b"", b"nothing that ends an archive"], ids=["zeros", "no zip"])
def test_a_file_that_is_refused_is_hashed_no_further(tmp_path: Path, end: bytes) -> None:
    """A terabyte takes a quarter of an hour to hash; the thread that does it does not keep the descriptor either."""
    path = tmp_path / "a.pth"
    path.write_bytes(torch_zip()[:200])
    os.truncate(path, 1 << 40)
    with path.open("ab") as file:
        file.write(end)
    before = open_descriptors()
    with pytest.raises(CheckpointError):
        open_checkpoint(path, digest=True)
    assert open_descriptors() == before


def test_a_file_is_hashed_from_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(torch_zip())
    checkpoint = open_checkpoint(path, digest=True)
    assert checkpoint.sha256() == checkpoint.sha256() == hashlib.sha256(torch_zip()).hexdigest()
    checkpoint.close()
    with open_checkpoint(path) as later:
        assert later.sha256() == hashlib.sha256(torch_zip()).hexdigest()


INSPECT = """
import sys
from pathlib import Path
from r2convert.checkpoint.open import open_checkpoint
with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(len(checkpoint.tensors), peak)
print(sorted({"torch", "numpy", "requests", "PIL", "safetensors"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_describing_a_large_file_takes_no_memory_and_no_library(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save(
        {f"layer{index}.weight": torch.zeros(1 << 20) for index in range(50)},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    finished = subprocess.run([sys.executable, "-c", INSPECT, str(path)], capture_output=True, text=True, check=True)
    counts, modules = finished.stdout.splitlines()
    tensors, peak_kibibytes = map(int, counts.split())
    assert (tensors, modules) == (50, "[]")
    assert peak_kibibytes < 40 * 1024


def test_random_flips_of_single_bits_are_detected_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.manual_seed(0)
    torch.save({f"layer{index}.weight": torch.randn(16, index + 1) for index in range(20)}, path)
    sound, whole = path.read_bytes(), read_plain(path)
    generator = random.Random(0)
    undetected = []
    for _ in range(1000):
        at, bit = generator.randrange(len(sound)), generator.randrange(8)
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), bytes([sound[at] ^ 1 << bit]), at)
            try:
                if read_plain(path) != whole:
                    undetected.append((at, bit))
            except CheckpointError:
                pass
            os.pwrite(file.fileno(), sound[at : at + 1], at)
    assert undetected == []
