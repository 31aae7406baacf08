"""Paddle's files: real ones, and the same layouts made with NumPy, pickle and struct."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from r2convert.checkpoint.elements import Stream
from r2convert.checkpoint.open import open_checkpoint
from r2convert.checkpoint.writing import write_checkpoint
from r2convert.errors import CorruptCheckpointError
from r2convert.selftest.specimens import lod_tensor, tar
from tests.checkpoint.contents import outputs, read_plain

DATA = Path(__file__).parent / "data"
WEIGHT = np.linspace(-2, 2, 6, dtype="<f4").reshape(2, 3)
PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3, 4])


def plain(arrays: dict[str, np.ndarray]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in arrays.items()}


class NamedVariable:
    """Pickles as Paddle pickles a variable."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> tuple[object, ...]:
        return tuple, (("linear_0.w_0", self.array),)


class EvaluatedVariable(NamedVariable):
    """Pickles as Paddle pickles a LoDTensor."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("data", {"data": self.array})


@PROTOCOLS
def test_state_dicts_saved_by_paddle(protocol: int) -> None:
    path = DATA / f"paddle-3.3.1-protocol{protocol}.pdparams"
    zeros, ones = np.zeros(3, "f4"), np.ones(3, "f4")
    expected = {"fc.weight": WEIGHT, "fc.bias": zeros, "bn.weight": ones, "bn.bias": zeros}
    assert read_plain(path) == plain({**expected, "bn._mean": zeros, "bn._variance": ones})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.container == "pdparams"


def test_variables_saved_by_paddle() -> None:
    values = read_plain(DATA / "paddle-3.3.1-variables.pdparams")
    assert values["weight"] == ("float32", (2, 3), WEIGHT.tobytes())
    assert values["count"] == ("int64", (1,), np.array([3]).tobytes())
    assert values["half"] == ("bfloat16", (2,), bytes.fromhex("003f80bf"))
    assert values["flag"] == ("bool", (2,), b"\x01\x00")


def test_a_folder_of_variables_saved_by_paddle() -> None:
    folder = DATA / "paddle-3.3.1-static"
    assert read_plain(folder) == {"fc_weights": ("float32", (2, 3), WEIGHT.tobytes())}
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.container == "paddle-static"
        assert checkpoint.size == 50


def test_the_hash_of_a_folder_is_that_of_its_sha256sum(tmp_path: Path) -> None:
    import hashlib

    for name in ("b_weights", "a_weights"):
        (tmp_path / name).write_bytes(lod_tensor(payload=name.encode().ljust(48)))
    listing = "".join(
        f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in ("a_weights", "b_weights")
    )
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.sha256() == hashlib.sha256(listing.encode()).hexdigest()


def test_a_tar_of_variables(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar({"net/conv1_weights": lod_tensor(), "net/._conv1_weights": b"left by an archiver"}))
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == ["conv1_weights"]
        assert len(checkpoint.warnings) == 1
        assert checkpoint.array(checkpoint.tensors["conv1_weights"]).shape == (3, 4)


def test_packed_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(lod_tensor(description=b"\x08\x05\x12\x02\x03\x04"))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors["w"].shape == (3, 4)


@PROTOCOLS
@pytest.mark.parametrize("code", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"])
def test_every_type_in_every_protocol(tmp_path: Path, protocol: int, code: str) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "values": np.frombuffer(generator.bytes(240), np.uint8).reshape(30, 8)[:, :1].astype(code),
        "empty": np.zeros((0, 3), code),
        "scalar": np.array(1, code),
        "large": np.arange(3000).reshape(30, 100).astype(code),
    }
    path = tmp_path / "a.pdparams"
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    assert read_plain(path) == plain(arrays)


@PROTOCOLS
def test_large_arrays_come_in_pieces_of_whole_elements(tmp_path: Path, protocol: int) -> None:
    """In protocol 2 a byte is one or two in the file, so that where the file is cut says nothing of the elements."""
    weight = np.random.RandomState(0).standard_normal((700, 1000)).astype("<f4")  # whole sixteens of bytes
    weight[3, 5] = np.nan
    (tmp_path / "large.pdparams").write_bytes(pickle.dumps({"fc.weight": weight}, protocol=protocol))
    with open_checkpoint(tmp_path / "large.pdparams") as checkpoint:
        tensor = checkpoint.tensors["fc.weight"]
        assert all(len(chunk) and len(chunk) % 4 == 0 for chunk in checkpoint.chunks(tensor))
        elements = Stream(checkpoint.chunks(tensor), tensor.dtype, tensor.dtype)
        assert b"".join(map(bytes, elements)) == weight.tobytes()
        assert elements.not_finite == 1


@PROTOCOLS
def test_fortran_order(tmp_path: Path, protocol: int) -> None:
    array = np.asfortranarray(np.arange(24, dtype="f4").reshape(2, 3, 4))
    path = tmp_path / "a.pdparams"
    path.write_bytes(pickle.dumps({"weight": array}, protocol=protocol))
    assert read_plain(path)["weight"][2] == np.ascontiguousarray(array).tobytes()


@PROTOCOLS
@pytest.mark.parametrize("kind", [NamedVariable, EvaluatedVariable])
def test_variables_that_pickle_as_calls(tmp_path: Path, protocol: int, kind: type[NamedVariable]) -> None:
    path = tmp_path / "a.pdparams"
    path.write_bytes(pickle.dumps({"weight": kind(WEIGHT)}, protocol=protocol))
    assert read_plain(path) == plain({"weight": WEIGHT})


@PROTOCOLS
def test_arrays_that_were_split(tmp_path: Path, protocol: int) -> None:
    array = np.arange(1000, dtype="f4").reshape(10, 100)
    pieces = {f"weight@@.{index}": piece for index, piece in enumerate(np.split(array.ravel(), [400, 800]))}
    split = {"weight": {"OriginShape": array.shape, "slices": list(pieces)}}
    path = tmp_path / "a.pdparams"
    path.write_bytes(pickle.dumps({**pieces, "bias": WEIGHT, "UnpackBigParamInfor@@": split}, protocol=protocol))
    assert read_plain(path) == plain({"bias": WEIGHT, "weight": array})
    with open_checkpoint(path) as checkpoint:
        transposed = checkpoint.tensors["weight"].transposed()
        np.testing.assert_array_equal(checkpoint.array(transposed), array.T)


def test_what_is_written_is_a_plain_pickle_of_arrays(tmp_path: Path) -> None:
    source, target = DATA / "paddle-3.3.1-variables.pdparams", tmp_path / "b.pdparams"
    with open_checkpoint(source) as checkpoint:
        write_checkpoint(target, outputs(checkpoint))
    loaded = pickle.loads(target.read_bytes())
    assert read_plain(target) == read_plain(source)
    assert {name: (array.dtype.name, array.tolist()) for name, array in loaded.items()} == {
        "weight": ("float32", WEIGHT.tolist()),
        "count": ("int64", [3]),
        "half": ("uint16", [0x3F00, 0xBF80]),
        "flag": ("bool", [True, False]),
    }


@pytest.mark.parametrize("damaged", [False, True])
def test_jittors_checksum_behind_the_pickle_is_checked(tmp_path: Path, damaged: bool) -> None:
    path = tmp_path / "a.pkl"
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = pickle.dumps({"fc.weight": weight}, 4)
    digest = hashlib.sha1(data).digest()
    path.write_bytes(data.replace(weight.tobytes(), weight[::-1].tobytes() if damaged else weight.tobytes()))
    with path.open("ab") as file:
        file.write(digest + b"HCAJSLHD")
    if damaged:
        with pytest.raises(CorruptCheckpointError, match="SHA-1 that Jittor appended to it"):
            open_checkpoint(path)
    else:
        assert read_plain(path) == {"fc.weight": ("float32", (2, 3), weight.tobytes())}
