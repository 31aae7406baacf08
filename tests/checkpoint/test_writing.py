"""What is written loads in the format's own library, is always the same bytes, and appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2convert.checkpoint import writing
from r2convert.checkpoint.background import Background
from r2convert.checkpoint.digests import OutputTensor, network_hash, tensor_digest
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.open import open_checkpoint
from r2convert.checkpoint.writing import write_checkpoint
from r2convert.errors import AccessError, CorruptCheckpointError, OutputExistsError, UsageError
from tests.checkpoint.contents import Plain, in_memory, outputs, read_plain, torch_plain
from tests.checkpoint.test_torch_files import awkward_tensors

SUFFIXES = pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".pdparams"])


@pytest.fixture
def tensors() -> list[OutputTensor]:
    return in_memory(torch_plain(awkward_tensors()))


def is_clean(folder: Path) -> bool:
    """Whether no temporary file was left behind."""
    return not [path for path in folder.iterdir() if path.name.startswith(".")]


@SUFFIXES
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, tensors: list[OutputTensor]) -> None:
    path = tmp_path / f"a{suffix}"
    written = write_checkpoint(path, tensors)
    assert read_plain(path) == torch_plain(awkward_tensors())
    assert is_clean(tmp_path)
    with open_checkpoint(path) as checkpoint:
        assert (written.sha256, written.size) == (checkpoint.sha256(), checkpoint.size)
        assert list(checkpoint.tensors)[:1] == [tensors[0].name] or suffix == ".safetensors"
        assert checkpoint.warnings == () or suffix == ".pdparams"


@pytest.mark.parametrize("mapped", [False, True])
def test_torch_loads_what_is_written(tmp_path: Path, mapped: bool, tensors: list[OutputTensor]) -> None:
    path = tmp_path / "a.pth"
    write_checkpoint(path, tensors)
    theirs = torch.load(path, weights_only=True, mmap=mapped)
    assert torch_plain(theirs) == torch_plain(awkward_tensors())
    torch.save(theirs, tmp_path / "again.pth")
    assert read_plain(tmp_path / "again.pth") == read_plain(path)


def test_records_are_aligned_and_have_checksums(tmp_path: Path, tensors: list[OutputTensor]) -> None:
    path = tmp_path / "a.pth"
    write_checkpoint(path, tensors)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for record in archive.infolist():
            extra = int.from_bytes(data[record.header_offset + 28 : record.header_offset + 30], "little")
            assert (record.header_offset + 30 + len(record.filename) + extra) % 64 == 0
            assert record.CRC or not record.file_size


@SUFFIXES
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, suffix: str, tensors: list[OutputTensor]) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"another name{suffix}"
    metadata = {"b": "2", "a": "1"}
    write_checkpoint(first, tensors, metadata=metadata)
    time.sleep(0.01)
    write_checkpoint(second, tensors, metadata=dict(sorted(metadata.items())))
    assert first.read_bytes() == second.read_bytes()


def test_other_processes_write_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from r2convert.checkpoint.digests import OutputTensor; from r2convert.checkpoint.elements import DType\n"
        "from r2convert.checkpoint.writing import write_checkpoint\n"
        "tensors = [OutputTensor(name, DType.INT8, (2,), lambda: iter([b'12'])) for name in 'abc']\n"
        "print(write_checkpoint(Path(sys.argv[1]), tensors, metadata={'x': '1', 'y': '2'}).sha256)"
    )
    digests = set()
    for seed in ("1", "2"):
        arguments = [sys.executable, "-c", program, str(tmp_path / f"{seed}.safetensors")]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC{seed}"}
        digests.add(subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(digests) == 1


def test_no_file_is_replaced_unless_asked_for(tmp_path: Path, tensors: list[OutputTensor]) -> None:
    path = tmp_path / "a.pth"
    path.write_text("precious")
    with pytest.raises(OutputExistsError):
        write_checkpoint(path, tensors)
    assert path.read_text() == "precious"
    write_checkpoint(path, tensors, overwrite=True)
    assert read_plain(path)
    assert is_clean(tmp_path)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"

    def chunks() -> Iterator[bytes]:
        path.write_text("somebody else's")
        yield b"1234"

    with pytest.raises(OutputExistsError):
        write_checkpoint(path, [OutputTensor("a", DType.FLOAT32, (1,), chunks)], check=False)
    assert path.read_text() == "somebody else's"
    assert is_clean(tmp_path)


def test_a_symbolic_link_is_replaced_and_never_written_through(tmp_path: Path, tensors: list[OutputTensor]) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.pth"
    victim.write_text("precious")
    path.symlink_to(victim)
    with pytest.raises(OutputExistsError):
        write_checkpoint(path, tensors)
    write_checkpoint(path, tensors, overwrite=True)
    assert victim.read_text() == "precious"
    assert not path.is_symlink()


def test_a_file_can_be_converted_onto_itself(tmp_path: Path, tensors: list[OutputTensor]) -> None:
    path = tmp_path / "a.pth"
    write_checkpoint(path, tensors[::-1])
    with open_checkpoint(path) as checkpoint:
        write_checkpoint(path, sorted(outputs(checkpoint), key=lambda tensor: tensor.name), overwrite=True)
    assert list(read_plain(path)) == sorted(tensor.name for tensor in tensors)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_nothing_is_left_after_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"1234"
        raise error

    with pytest.raises((error, AccessError)):
        write_checkpoint(tmp_path / "a.pth", [OutputTensor("a", DType.FLOAT32, (2,), chunks)])
    assert list(tmp_path.iterdir()) == []


def test_a_caller_may_refuse_what_was_written(tmp_path: Path, tensors: list[OutputTensor]) -> None:
    def refuse() -> None:
        raise UsageError("not this one")

    with pytest.raises(UsageError, match="not this one"):
        write_checkpoint(tmp_path / "a.pth", tensors, accept=refuse)
    assert list(tmp_path.iterdir()) == []


def test_wrong_amounts_of_bytes_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match="wrong number of bytes"):
        write_checkpoint(tmp_path / "a.pth", in_memory({"a": ("float32", (2,), b"1234")}))
    assert list(tmp_path.iterdir()) == []


def test_damage_on_the_way_to_the_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that flips a bit, acted by the one system call that writes."""
    real = os.write

    def flipping(descriptor: int, data: memoryview) -> int:
        damaged = bytes(data).replace(b"12345678", b"12345679")
        return real(descriptor, damaged)

    monkeypatch.setattr(os, "write", flipping)
    for suffix in (".pth", ".safetensors", ".pdparams"):
        with pytest.raises(CorruptCheckpointError):
            write_checkpoint(tmp_path / f"a{suffix}", in_memory({"a": ("float32", (2,), b"12345678")}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.bin", "a", "a.pth.zip"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str, tensors: list[OutputTensor]) -> None:
    with pytest.raises(UsageError, match="unsupported extension"):
        write_checkpoint(tmp_path / name, tensors)


def test_names_that_collide_are_refused(tmp_path: Path, tensors: list[OutputTensor]) -> None:
    with pytest.raises(UsageError, match="same name"):
        write_checkpoint(tmp_path / "a.pth", [*tensors, tensors[0]])


def test_a_folder_that_is_not_there(tmp_path: Path, tensors: list[OutputTensor]) -> None:
    with pytest.raises(AccessError, match="cannot be written"):
        write_checkpoint(tmp_path / "missing" / "a.pth", tensors)


BIG_WRITE = """
import resource, signal, sys
from pathlib import Path
from r2convert.checkpoint.digests import OutputTensor
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.writing import write_checkpoint
from r2convert.errors import AccessError
def chunks():
    for _ in range(int(sys.argv[2])):
        print("chunk", flush=True)
        yield bytes(1 << 18)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)) if sys.argv[3] == "full" else None
try:
    write_checkpoint(Path(sys.argv[1]), [OutputTensor("a", DType.UINT8, (int(sys.argv[2]) << 18,), chunks)])
except AccessError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", BIG_WRITE, str(tmp_path / "a.pth"), "16", "full"]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert finished.returncode == 4, finished.stderr
    assert "File too large" in finished.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    arguments = [sys.executable, "-c", BIG_WRITE, str(path), "100000", "free"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for _ in range(10):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert not path.exists()


@SUFFIXES
def test_digests_come_with_the_file(tmp_path: Path, suffix: str, tensors: list[OutputTensor]) -> None:
    """The content hash needs no second pass, and does not depend on the container."""
    written = write_checkpoint(tmp_path / f"a{suffix}", tensors)
    other = write_checkpoint(tmp_path / "b.safetensors", tensors[::-1])
    assert network_hash(written.tensors) == network_hash(other.tensors)


def test_a_file_system_without_hard_links(
    tmp_path: Path, tensors: list[OutputTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a.pth"
    write_checkpoint(path, tensors)
    assert read_plain(path)
    with pytest.raises(OutputExistsError):
        write_checkpoint(path, tensors)
    assert is_clean(tmp_path)


def test_texts_are_asked_for_only_where_they_are_kept(tmp_path: Path, tensors: list[OutputTensor]) -> None:
    asked = []

    def texts() -> dict[str, str]:
        asked.append(1)
        return {"provenance": "x"}

    write_checkpoint(tmp_path / "a.pth", tensors, metadata=texts)
    assert asked == []
    write_checkpoint(tmp_path / "a.safetensors", tensors, metadata=texts)
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        assert dict(checkpoint.metadata) == {"provenance": "x"}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_damaged_source_gives_no_file(tmp_path: Path, zipped: bool) -> None:
    source, target = tmp_path / "source.pth", tmp_path / "target.pth"
    torch.save({"weight": torch.ones(1000)}, source, _use_new_zipfile_serialization=zipped)
    with open_checkpoint(source) as checkpoint:
        outputs = [checkpoint.output(tensor) for tensor in checkpoint.tensors.values()]
        with source.open("r+b") as file:
            os.pwrite(file.fileno(), b"x", source.stat().st_size // 2)
        with pytest.raises(CorruptCheckpointError):
            write_checkpoint(target, outputs)
    assert [path.name for path in tmp_path.iterdir()] == ["source.pth"]


def test_checksums_of_the_source_are_checked_and_used_again(tmp_path: Path) -> None:
    source, target = tmp_path / "source.pth", tmp_path / "target.pth"
    torch.save({"weight": torch.arange(1000.0), "view": torch.arange(10.0)[2:4]}, source)
    with open_checkpoint(source) as checkpoint:
        outputs = [checkpoint.output(tensor) for tensor in checkpoint.tensors.values()]
        assert [output.crc32 is None for output in outputs] == [False, True]
        write_checkpoint(target, outputs)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
    assert read_plain(target) == read_plain(source)


def test_work_in_the_background_fails_where_its_result_is_wanted() -> None:
    def fail() -> int:
        raise KeyError("missing")

    assert Background(lambda: 7).result() == 7
    work = Background(fail)
    work.wait()
    with pytest.raises(KeyError, match="missing"):
        work.result()


@given(pieces=st.lists(st.lists(st.binary(max_size=40), max_size=4), max_size=6))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@SUFFIXES
def test_digests_are_of_what_the_file_holds(tmp_path: Path, suffix: str, pieces: list[list[bytes]]) -> None:
    values: dict[str, Plain] = {
        f"t{index}": ("uint8", (len(b"".join(parts)),), b"".join(parts)) for index, parts in enumerate(pieces)
    }
    path = tmp_path / f"a{suffix}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "CHUNK_BYTES", 16)
        written = write_checkpoint(path, in_memory(values), overwrite=True)
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [tensor.digest for tensor in written.tensors] == [tensor_digest([data]) for _, _, data in values.values()]


def test_the_digest_of_a_damaged_file_is_that_of_the_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison nothing is refused, but what is said of the file is still true of it."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, bytes(data).replace(b"12345678", b"12345679")))
    written = write_checkpoint(
        tmp_path / "a.safetensors", in_memory({"a": ("float32", (2,), b"12345678")}), check=False
    )
    assert written.tensors[0].digest == tensor_digest([b"12345679"])


def test_a_tensor_described_at_another_place_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that swaps two places in its header, where the bytes themselves are all as meant."""
    real = os.write

    def swapping(file: int, data: memoryview) -> int:
        header = bytes(data)
        if b"data_offsets" in header:
            header = header.replace(b"[0,8]", b"[,]").replace(b"[8,16]", b"[0,8]").replace(b"[,]", b"[8,16]")
        return real(file, header)

    monkeypatch.setattr(os, "write", swapping)
    values: dict[str, Plain] = {"a": ("float32", (2,), b"12345678"), "b": ("float32", (2,), b"abcdefgh")}
    with pytest.raises(CorruptCheckpointError, match="not what was written"):
        write_checkpoint(tmp_path / "a.safetensors", in_memory(values))
    assert list(tmp_path.iterdir()) == []


def test_names_with_a_common_prefix_are_written_as_they_are(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.pth", in_memory({"module.a": ("uint8", (1,), b"1")}))
    with open_checkpoint(tmp_path / "a.pth") as checkpoint:
        assert (list(checkpoint.tensors), checkpoint.prefix_removed) == (["a"], "module.")


def test_the_disk_is_told_to_start_before_the_end_and_once_more_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(writing, "SYNC_BYTES", 1 << 16)
    monkeypatch.setattr(os, "fdatasync", lambda _: called.put("data"))
    monkeypatch.setattr(os, "fsync", lambda _: called.put("all"))

    def chunks() -> Iterator[bytes]:
        yield bytes(1 << 16)
        assert called.get(timeout=30) == "data"
        yield bytes(3)

    write_checkpoint(tmp_path / "a.pdparams", [OutputTensor("a", DType.UINT8, ((1 << 16) + 3,), chunks)])
    assert "all" in [called.get_nowait() for _ in range(called.qsize())]


def test_a_platform_without_linux_calls_of_its_own(
    tmp_path: Path, tensors: list[OutputTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has neither of these."""
    for name in ("fdatasync", "preadv"):
        monkeypatch.delattr(os, name)
    write_checkpoint(tmp_path / "a.pth", tensors)
    assert read_plain(tmp_path / "a.pth") == torch_plain(awkward_tensors())


def test_a_failing_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(AccessError, match="Input/output"):
        write_checkpoint(tmp_path / "a.pth", in_memory({"a": ("uint8", (1,), b"1")}))
    assert list(tmp_path.iterdir()) == []
