"""Every bad file of the catalogue is refused with its own error, quickly and in words that help."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from r2convert.checkpoint.open import open_checkpoint
from r2convert.checkpoint.pickles.pickle_output import text
from r2convert.errors import AccessError, TruncatedCheckpointError, UnsupportedCheckpointError
from r2convert.selftest.bad_files import bad_files
from r2convert.selftest.specimens import (
    dictionary,
    lod_tensor,
    numpy_array,
    pdparams,
    pickled,
    safetensors,
    storage_id,
    tar,
    tensor,
    torch_hub_zip,
    torch_legacy,
    torch_tar_members,
    torch_zip,
)
from r2convert.selftest.trial import BadFile, try_bad_file
from tests.checkpoint.contents import read_plain


def without_padding(archive: bytes) -> bytes:
    """Leave a tar archive just the two empty blocks that end it."""
    return archive[: -(-len(archive.rstrip(b"\0")) // 512) * 512 + 1024]


SOUND = {
    "torch-zip": torch_zip(),
    "torch-legacy": torch_legacy(),
    "torch-tar": without_padding(tar(torch_tar_members())),
    "torch-hub-zip": torch_hub_zip(),
    "safetensors": safetensors(),
    "pdparams": pdparams(),
    "pdparams-text": pdparams([("conv.weight", numpy_array(as_text=True))]),
    "paddle-static": without_padding(tar({"net/conv_weights": lod_tensor()})),
}
#: From fewer bytes nobody can say what they were the beginning of.
RECOGNISABLE = {"torch-tar": 262, "paddle-static": 262, "safetensors": 9}


@pytest.mark.parametrize("bad_file", bad_files(), ids=lambda bad_file: bad_file.name)
def test_it_is_refused_as_expected(bad_file: BadFile, tmp_path: Path) -> None:
    started = time.process_time()  # not the clock's: the machine may be busy
    trial = try_bad_file(bad_file, tmp_path / f"bad{bad_file.suffix}")
    assert time.process_time() - started < 5
    assert (trial.got, trial.message.count("\n  where:")) == (bad_file.expected.__name__, 1), trial.message
    assert str(tmp_path) in trial.message


def test_names_in_the_catalogue_are_unique() -> None:
    names = [bad_file.name for bad_file in bad_files()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("container", SOUND)
def test_the_sound_files_the_bad_ones_are_made_from_are_read(container: str, tmp_path: Path) -> None:
    path = tmp_path / "sound"
    path.write_bytes(SOUND[container])
    assert len(read_plain(path)) in (1, 2)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.container == container.removesuffix("-text")
        assert checkpoint.warnings == ()


@pytest.mark.parametrize("container", SOUND)
def test_every_truncation_is_refused(container: str, tmp_path: Path) -> None:
    sound = SOUND[container]
    path = tmp_path / "cut"
    path.write_bytes(sound)
    results: dict[str, list[int]] = {}
    for length in reversed(range(len(sound))):
        os.truncate(path, length)
        try:
            outcome = f"read {list(read_plain(path))}"
        except (TruncatedCheckpointError, UnsupportedCheckpointError) as error:
            outcome = type(error).__name__
        results.setdefault(outcome, []).append(length)
    assert max(results.pop("UnsupportedCheckpointError", [0])) < RECOGNISABLE.get(container, 5)
    assert list(results) == ["TruncatedCheckpointError"], results


SAID = {
    "an HTML error page": 'an HTML page, titled "404 Not Found"',
    "a JSON error message": "a JSON text",
    "a Git LFS pointer": "git lfs pull",
    "a git-annex pointer": "git annex get",
    "a gzip file": "gunzip",
    "a PNG image": "a PNG image",
    "an ONNX model": "an ONNX model",
    "a MindSpore model": "a MindSpore model (MindIR)",
    "a TensorFlow saved model": "a TensorFlow saved model",
    "a TensorFlow graph": "a TensorFlow graph",
    "a Paddle program": "the program of a Paddle inference model",
    "all parameters of a Paddle model in one file": "the combined parameters of a Paddle inference model",
    "an HDF5 file": "an HDF5 file",
    "a Flax checkpoint": "a msgpack file, as Flax writes them",
    "a NumPy array": "a single NumPy array",
    "a NumPy archive": "a NumPy archive (.npz)",
    "a Keras model": "a Keras model",
    "a zipped OneFlow checkpoint": "a zipped OneFlow checkpoint",
    "a pickle of protocol 0": "a pickle of protocol 0 or 1",
    "a text file": "a text file",
    "random bytes": "a file of an unknown kind",
}


@pytest.mark.parametrize("name", SAID)
def test_it_says_what_the_file_is_and_does_not_call_it_damaged(name: str, tmp_path: Path) -> None:
    bad_file = next(file for file in bad_files() if file.name == f"no checkpoint: {name}")
    message = try_bad_file(bad_file, tmp_path / "a.pth").message
    assert SAID[name] in message
    assert "again" not in message
    assert "next:" in message


def test_what_a_page_is_titled_is_not_printed_raw(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"<html><title>\x1b[2Jgone</title></html>")
    with pytest.raises(UnsupportedCheckpointError) as caught:
        open_checkpoint(path)
    assert "\x1b" not in str(caught.value)
    assert r"\x1b[2Jgone" in str(caught.value)


def test_a_forbidden_global_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    pickle = pickled(b"cposix\nsystem\n(" + text("true") + b"tR")
    path.write_bytes(torch_legacy(pickle, [], []))
    with pytest.raises(Exception, match=r"asks for posix\.system") as caught:
        open_checkpoint(path)
    assert f"byte {path.read_bytes().index(b'cposix')}" in str(caught.value)


def test_a_shared_tuple_of_a_trillion_leaves_takes_no_time(tmp_path: Path) -> None:
    doubled = b"(K\x01K\x02t" + b"".join(b"q\x09h\x09\x86" for _ in range(40))
    path = tmp_path / "a.pth"
    entries = [("conv.weight", tensor(storage_id("0", 12))), ("epochs", doubled)]
    path.write_bytes(torch_zip(pickled(dictionary(entries))))
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == ["conv.weight"]
        assert len(str(checkpoint.metadata)) < 10_000


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/dev/null")], ids=["folder", "device"])
def test_what_is_no_file_is_called_so(make: object, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    assert callable(make)
    make(path)
    with pytest.raises(UnsupportedCheckpointError):
        open_checkpoint(path)


def test_a_folder_of_other_things_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("not a variable at all")
    with pytest.raises(UnsupportedCheckpointError, match=r"readme\.txt"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("saved_model.pb", "a TensorFlow saved model"),
        ("snapshot_done", "a OneFlow checkpoint"),
        ("__0_0.distcp", "dcp_to_torch"),
        ("model.safetensors", "give the path of a file in it"),
        ("__model__", "a Paddle inference model"),
    ],
)
def test_it_says_what_a_folder_is(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"something of its own")
    with pytest.raises(UnsupportedCheckpointError, match=words):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("member", "words", "next_step"),
    [
        ("a/model.pth", "a tar archive: a folder with 'model.pth'", "unpack it"),
        ("infer/inference.pdmodel", "a tar archive: a Paddle inference model", "training checkpoint"),
        ("notes.txt", "a tar archive: a folder of other files", "unpack it"),
    ],
)
def test_it_says_what_a_tar_archive_holds(tmp_path: Path, member: str, words: str, next_step: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar({member: b"something of its own"}))
    with pytest.raises(UnsupportedCheckpointError, match=words) as caught:
        open_checkpoint(path)
    assert next_step in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="no such file"):
        open_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["x" * 300, "loop", "file/below"])
def test_a_path_that_cannot_be_followed_is_an_error_of_access(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    with pytest.raises(AccessError, match="cannot be opened") as caught, open_checkpoint(tmp_path / name):
        pass
    assert caught.value.where == str(tmp_path / name)
