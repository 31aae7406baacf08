"""The pickle machine agrees with Python's own on plain values, and survives anything else."""

from __future__ import annotations

import math
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2convert.checkpoint.pickles.machine import PickleBytes, PickleMachine
from r2convert.checkpoint.pickles.torch_names import TORCH_NAMES, DeclaredStorages
from r2convert.checkpoint.pickles.values import PickledBytes
from r2convert.checkpoint.storage import OpenFile
from r2convert.errors import CheckpointError, LimitExceededError, TruncatedCheckpointError

scalars = (
    st.none() | st.booleans() | st.integers(-(1 << 100), 1 << 100) | st.floats(allow_nan=False) | st.text(max_size=20)
)
keys = st.text(max_size=8) | st.integers(0, 99)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=20,
)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_refused_or_read(data: bytes, folder: Path) -> bool:
    """Whether the machine gives a value, or an error of the project's own that says where."""
    try:
        interpret(data, folder)
    except CheckpointError as error:
        return str(folder) in str(error)
    return True


def interpret(data: bytes, folder: Path) -> object:
    path = folder / "pickle"
    path.write_bytes(data)
    with OpenFile(path) as source:
        machine = PickleMachine(
            PickleBytes(source, 0, source.size, "pickle"), TORCH_NAMES, DeclaredStorages().persistent
        )
        return machine.load()


@given(value=values, protocol=st.sampled_from([2, 3, 4]))
@QUICK
def test_plain_values_come_out_as_python_reads_them(value: object, protocol: int, tmp_path: Path) -> None:
    assert interpret(pickle.dumps(value, protocol=protocol), tmp_path) == value


@given(data=st.binary(max_size=60))
@QUICK
def test_any_bytes_give_a_value_or_a_project_error(data: bytes, tmp_path: Path) -> None:
    assert is_refused_or_read(b"\x80\x02" + data, tmp_path)


@given(value=values, at=st.integers(0, 10_000), byte=st.integers(0, 255))
@QUICK
def test_any_damaged_pickle_gives_a_value_or_a_project_error(value: object, at: int, byte: int, tmp_path: Path) -> None:
    data = bytearray(pickle.dumps(value, protocol=4))
    data[at % len(data)] = byte
    assert is_refused_or_read(bytes(data), tmp_path)


def test_byte_strings_stay_in_the_file(tmp_path: Path) -> None:
    payload = b"x" * 1_000_000
    data = pickle.dumps([payload, "y" * 10_000], protocol=4)
    found = interpret(data, tmp_path)
    assert found == [
        PickledBytes(data.index(payload), 1_000_000),
        PickledBytes(data.index(b"yyyy"), 10_000, is_text=True),
    ]


def test_infinite_numbers_are_plain_numbers(tmp_path: Path) -> None:
    assert interpret(pickle.dumps(math.inf, protocol=2), tmp_path) == math.inf


@pytest.mark.parametrize("depth", [63, 65])
def test_nesting_is_bounded(tmp_path: Path, depth: int) -> None:
    value: object = 1
    for _ in range(depth):
        value = [value]
    if depth < 64:
        assert interpret(pickle.dumps(value, protocol=2), tmp_path) == value
    else:
        with pytest.raises(LimitExceededError):
            interpret(pickle.dumps(value, protocol=2), tmp_path)


def test_keys_that_all_collide_are_told_apart_without_their_hash(tmp_path: Path) -> None:
    """Python hashes n * (2^61 - 1) to 0 for every n: a dictionary of them takes quadratic time."""
    keys = [number * ((1 << 61) - 1) for number in range(1, 20_000)]
    pickled = b"".join(b"\x8a\x0a" + key.to_bytes(10, "little") + b"N" for key in keys)
    started = time.process_time()
    found = interpret(b"\x80\x02}(" + pickled + b"u.", tmp_path)
    assert time.process_time() - started < 1
    assert isinstance(found, dict)
    assert len(found) == len(keys)


def test_a_global_with_an_enormous_name(tmp_path: Path) -> None:
    with pytest.raises(LimitExceededError, match="enormous name"):
        interpret(b"\x80\x02c" + b"x" * 10_000 + b"\nname\n.", tmp_path)


@pytest.mark.parametrize("data", [b"\x80\x02c", b"\x80\x02cmodule", b"\x80\x02cmodule\nname"])
def test_a_global_that_is_cut_off(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(TruncatedCheckpointError):
        interpret(data, tmp_path)
