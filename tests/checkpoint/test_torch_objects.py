"""Whatever torch's own safe loader accepts is read with equal tensors; what else people save is read beside it."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import pickle
import random
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import CorruptCheckpointError, UnsafeCheckpointError, UnsupportedCheckpointError
from tests.checkpoint.contents import read_plain, torch_plain

SERIALISATIONS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def network() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"conv1.weight": torch.randn(4, 3, generator=generator), "bn1.num_batches_tracked": torch.tensor(7)}


class Net(nn.Module):
    """A network with everything a ``state_dict()`` has to get right."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4, 2)
        self.tied = self.fc
        self.register_buffer("mask", torch.ones(3))
        self.register_buffer("scratch", torch.zeros(9), persistent=False)
        self.register_parameter("nothing", None)
        self.activation = functools.partial(nn.functional.relu, inplace=True)


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Config:
    depth: int = 50
    rate: float = 0.1


class Meter:
    def __init__(self) -> None:
        self.history = [0.1, 0.2]
        self.itself = self


Point = collections.namedtuple("Point", "x y")


def dtypes_and_devices() -> dict[str, Any]:
    return {"dtype": torch.float32, "odd": torch.float8_e4m3fn, "device": torch.device("cpu"), "size": torch.Size([3])}


def optimizer_state() -> dict[str, Any]:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    return optimizer.state_dict()


ACCEPTED: dict[str, Callable[[], object]] = {
    "numbers": lambda: [1, -1, 1 << 40, 1 << 70, -(1 << 90), 0.5, float("inf"), True, None],
    "texts": lambda: ["", "x" * 10_000, "\N{GREEK SMALL LETTER ALPHA}", "\ud800"],
    "bytes": lambda: [b"\x00\xff" * 100, bytearray(b"abc")],
    "complex": lambda: 1 + 2j,
    "sets": lambda: {1, "a", (2, 3)},
    "tuples as keys": lambda: {(1, 2): "a", ("b", None): 1, 1.5: 2, None: 3, 1 << 80: 4},
    "a counter": lambda: collections.Counter("aab"),
    "an ordered dictionary": lambda: OrderedDict(a=1),
    "dtypes and devices": dtypes_and_devices,
    "a tensor": lambda: torch.tensor([78.1]),
    "a parameter with attributes": lambda: with_attribute(nn.Parameter(torch.ones(2))),
    "complex numbers": lambda: torch.ones(2, dtype=torch.complex64),
    "conjugated": lambda: torch.ones(2, dtype=torch.complex64).conj(),
    "float8": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "unsigned": lambda: [torch.ones(2).to(kind) for kind in (torch.uint16, torch.uint32, torch.uint64)],
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "quantized by channel": lambda: torch.quantize_per_channel(
        torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.quint8
    ),
    "meta": lambda: torch.ones(2, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "optimizer state": optimizer_state,
    "random state": torch.get_rng_state,
    "a typed storage": lambda: typed_storage(torch.ones(3)),
    "an untyped storage": lambda: torch.ones(3).untyped_storage(),
}


def rebuilding(tensor: Any) -> tuple[Any, ...]:
    """The arguments that torch pickles for `_rebuild_tensor_v2`."""
    return tuple(tensor.__reduce_ex__(2)[1])


def typed_storage(tensor: Any) -> object:
    return tensor.storage()


def with_attribute(tensor: Any) -> Any:
    tensor.tag = "head"
    return tensor


ONLY_IN_ZIP = {"float8", "unsigned", "nested", "an untyped storage"}
"""What torch itself cannot write in the legacy format."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@SERIALISATIONS
def test_what_the_safe_loader_accepts_may_lie_beside_the_weights(
    tmp_path: Path, name: str, protocol: int, zipped: bool
) -> None:
    path = tmp_path / "a.pth"
    zipped = zipped or name in ONLY_IN_ZIP
    saved = {"state_dict": network(), "other": ACCEPTED[name]()}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert read_plain(path) == torch_plain(network())
    if protocol == 2:  # what is accepted is what the installed torch accepts
        torch.load(path, weights_only=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ACCEPTED)
@SERIALISATIONS
def test_what_the_safe_loader_accepts_may_lie_among_the_weights(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / "a.pth"
    zipped = zipped or name in ONLY_IN_ZIP
    torch.save({**network(), "other": ACCEPTED[name]()}, path, _use_new_zipfile_serialization=zipped)
    theirs = torch.load(path, weights_only=True)
    read = read_plain(path)
    assert {key: read[key] for key in network()} == torch_plain({key: theirs[key] for key in network()})


COMPANIONS: dict[str, tuple[Callable[[], object], str]] = {
    "argparse": (lambda: argparse.Namespace(lr=0.1, names=["a"]), "argparse.Namespace"),
    "a NumPy scalar": (lambda: np.float64(0.5), "scalar"),
    "a NumPy generator": (lambda: np.random.default_rng(0), "PCG64"),
    "a path": (lambda: pathlib.PurePosixPath("/data"), "pathlib.PurePosixPath"),
    "a time": (lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "datetime.datetime"),
    "a decimal": (lambda: decimal.Decimal("0.1"), "decimal.Decimal"),
    "an identifier": (lambda: uuid.UUID(int=1), "uuid.UUID"),
    "an enumeration": (lambda: Colour.RED, "tests.checkpoint.test_torch_objects.Colour"),
    "a dataclass": (Config, "tests.checkpoint.test_torch_objects.Config"),
    "an object with a cycle": (Meter, "tests.checkpoint.test_torch_objects.Meter"),
    "a named tuple": (lambda: Point(1, 2), "tests.checkpoint.test_torch_objects.Point"),
    "a function": (lambda: with_attribute, "tests.checkpoint.test_torch_objects.with_attribute"),
    "a partial call": (lambda: functools.partial(nn.BatchNorm2d, eps=1e-3), "functools.partial"),
    "a class": (lambda: nn.BatchNorm2d, "torch.nn.modules.batchnorm.BatchNorm2d"),
    "a default dictionary": (lambda: defaultdict(list, a=[1]), ".list"),
    "an exception": (lambda: ValueError("x"), ".ValueError"),
    "a slice and a range": (lambda: [slice(1, 2), range(3)], ".slice"),
    "no bytes": (lambda: [b"", Meter], ".Meter"),
    "an optimizer": (lambda: torch.optim.SGD([torch.ones(2)], 0.1), "torch.optim.sgd.SGD"),
}


@pytest.mark.parametrize("name", COMPANIONS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
@SERIALISATIONS
def test_objects_beside_the_weights_are_named_and_not_looked_into(
    tmp_path: Path, name: str, protocol: int, zipped: bool
) -> None:
    make, opaque = COMPANIONS[name]
    path = tmp_path / "a.pth"
    saved = {"state_dict": network(), "other": make()}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert read_plain(path) == torch_plain(network())
    with open_checkpoint(path) as checkpoint:
        assert any(opaque in each for each in checkpoint.opaque), checkpoint.opaque
        assert "other" in checkpoint.metadata


def test_arrays_and_random_states_beside_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    arrays = [np.arange(6.0).reshape(2, 3), np.array(["a", "b"]), np.array([{}], object), np.arange(3, dtype=">i4")]
    extra = {"arrays": arrays, "random": random.getstate(), "numpy": np.random.RandomState(0).get_state()}
    for protocol in (2, 4, 5):
        torch.save({"state_dict": network(), **extra}, path, pickle_protocol=protocol)
        assert read_plain(path) == torch_plain(network())


class Runs:
    """Pickles as a call of whatever it is told to."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (("os", "system"), "os.system"),
        (("subprocess", "run"), "subprocess.run"),
        (("builtins", "getattr"), "builtins.getattr"),
        (("builtins", "open"), "builtins.open"),
        (("importlib", "import_module"), "importlib.import_module"),
        (("runpy", "run_path"), "runpy.run_path"),
        (("pickle", "loads"), "pickle.loads"),
        (("torch.hub", "load"), "torch.hub.load"),
        (("torch", "os.system"), "torch.os.system"),
        (("torch.serialization", "os.popen"), "torch.serialization.os.popen"),
        (("mypackage", "Thing.__init__.__globals__"), "mypackage.Thing.__init__.__globals__"),
        (("pandas", "read_pickle"), "pandas.read_pickle"),
        (("shutil", "rmtree"), "shutil.rmtree"),
        (("ctypes", "CDLL"), "ctypes.CDLL"),
        (("socket", "create_connection"), "socket.create_connection"),
    ],
)
def test_what_runs_code_is_refused_by_name_with_its_place(tmp_path: Path, call: tuple[str, str], name: str) -> None:
    path = tmp_path / "a.pkl"
    module, attribute = (f"\x8c{chr(len(part))}{part}".encode("latin-1") for part in call)
    path.write_bytes(b"\x80\x04}\x8c\x01a" + module + attribute + b"\x93\x8c\x01x\x85Rs.")
    with pytest.raises(UnsafeCheckpointError, match=name.replace(".", r"\.")) as caught:
        open_checkpoint(path)
    assert "byte " in str(caught.value.where)


def test_nothing_named_in_a_file_is_imported_or_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef call(*_): open('ran', 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "a.pkl"
    call = b"cplanted\ncallable\n"
    path.write_bytes(b"\x80\x02}(U\x01a" + call + b"U\x01x\x85RU\x01b" + call + b")\x81}bu.")
    with pytest.raises(UnsupportedCheckpointError, match="no state dict"):
        open_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@SERIALISATIONS
def test_negated_tensors_have_their_own_sign(tmp_path: Path, zipped: bool) -> None:
    """The imaginary part of a conjugate is stored with the other sign and a flag."""
    numbers = torch.complex(torch.randn(5), torch.randn(5))
    flagged = torch._neg_view(torch.arange(-3, 4))
    tensors = {
        "imaginary": numbers.conj().imag,
        "whole": flagged,
        "half": torch._neg_view(torch.randn(3).to(torch.bfloat16)),
        "bytes": torch._neg_view(torch.arange(9, dtype=torch.uint8)),
    }
    path = tmp_path / "a.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    theirs = {name: tensor.resolve_neg() for name, tensor in torch.load(path, weights_only=True).items()}
    assert read_plain(path) == torch_plain(theirs)
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.array(checkpoint.tensors["whole"]), np.arange(3, -4, -1))
        assert checkpoint.output(checkpoint.tensors["whole"]).crc32 is None


@SERIALISATIONS
def test_tensors_with_attributes_are_the_tensors(tmp_path: Path, zipped: bool) -> None:
    tensors = {
        "tensor": with_attribute(torch.randn(3)),
        "parameter": with_attribute(nn.Parameter(torch.randn(3))),
        "plain": nn.Parameter(torch.randn(2), requires_grad=False),
    }
    path = tmp_path / "a.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    assert read_plain(path) == torch_plain(torch.load(path, weights_only=True))


class Scaled(torch.Tensor):
    """A subclass whose values nobody else knows."""


def test_an_attribute_that_sets_the_values_is_never_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    replaced = torch.ones(3)
    arguments = rebuilding(torch.zeros(3))
    call = (
        torch._tensor._rebuild_from_type_v2,
        (torch._utils._rebuild_tensor_v2, torch.Tensor, arguments, {"data": replaced}),
    )
    torch.save({**network(), "planted": Runs(*call)}, path)
    assert torch.load(path, weights_only=True)["planted"].tolist() == [1, 1, 1]
    with open_checkpoint(path) as checkpoint:
        assert "planted" not in checkpoint.tensors
        assert "attribute" in checkpoint.unread["planted"].kind


@pytest.mark.filterwarnings("ignore")
def test_kinds_that_are_not_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    tensors = {
        "a": torch.ones(2, 3, dtype=torch.complex64),
        "b": torch.ones(2).to(torch.float8_e5m2),
        "c": torch.eye(2).to_sparse(),
        "d": torch.ones(3).as_subclass(Scaled),
        "e": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "f": torch.ones(2, device="meta"),
    }
    torch.save({**network(), **tensors}, path)
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == list(network())
        kinds = {name: unread.kind.split()[0] for name, unread in checkpoint.unread.items()}
        assert list(kinds.values()) == ["complex64", "float8_e5m2", "sparse", "tensor", "quantized", "meta"]
        assert checkpoint.unread["a"].shape == (2, 3)
        assert any("complex64" in warning for warning in checkpoint.warnings)
    torch.save(tensors, path)
    with pytest.raises(UnsupportedCheckpointError, match="none of the tensors is of a kind that is read"):
        open_checkpoint(path)


def test_flags_nobody_knows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    arguments = rebuilding(torch.zeros(3))
    torch.save({"a": Runs(torch._utils._rebuild_tensor_v2, (*arguments[:6], {"scaled": 2}))}, path)
    with pytest.raises(CorruptCheckpointError, match="_rebuild_tensor_v2"):
        open_checkpoint(path)


@SERIALISATIONS
@pytest.mark.filterwarnings("ignore")
def test_whole_modules_give_their_state_dict(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pth"
    model = Net()
    wrapped: list[tuple[object, str]] = [
        (model, ""),
        (nn.DataParallel(model), "module."),
        ({"model": model, "epoch": 3}, ""),
    ]
    for saved, prefix in wrapped:
        torch.save(saved, path, _use_new_zipfile_serialization=zipped)
        assert read_plain(path) == torch_plain(model.state_dict())
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.prefix_removed == prefix
            assert any(name.endswith("test_torch_objects.Net") for name in checkpoint.opaque)


def test_a_large_module_with_its_optimizer_is_within_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    blocks = [nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU()) for _ in range(400)]
    model = nn.Sequential(*blocks)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.save({"model": model, "optimizer": optimizer, "state": optimizer.state_dict()}, path)
    assert read_plain(path) == torch_plain(model.state_dict())


def test_the_average_of_swa_utils(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    model = Net()
    average = AveragedModel(model)
    torch.save(average.state_dict(), path)
    expected = torch_plain(average.module.state_dict())
    assert read_plain(path) == read_plain(path, "ema") == expected
    torch.save({"model": model.state_dict(), "swa_model": average.state_dict()}, path)
    assert read_plain(path, "ema") == expected


def test_pickle_of_arrays_with_every_protocol(tmp_path: Path) -> None:
    path = tmp_path / "a.pdparams"
    arrays: dict[str, np.ndarray] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.asfortranarray(np.ones((2, 3))),
    }
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps(arrays, protocol=protocol))
        found = read_plain(path)
        assert found == {
            name: (str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes())
            for name, array in arrays.items()
        }
